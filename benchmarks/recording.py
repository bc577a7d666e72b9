"""Results of benchmarks as JSON, with the hardware and the versions they were measured with."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax

# What decides, from outside, how fast libraries compute and allocate.
SETTINGS = ("GLIBC_TUNABLES", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "XLA_FLAGS")
LIBRARIES = ("gradrev_jax", "jax", "jaxlib", "flax", "numpy", "optax", "torch", "faiss-cpu")


def record(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Write a result beside what it was measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"date": datetime.date.today().isoformat(), **environment(), **result}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def environment() -> dict[str, Any]:
    """Hardware, versions, and what the environment sets."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
