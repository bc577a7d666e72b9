"""Records results of benchmarks as JSON, with the hardware and the versions they were measured with."""

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

# Environment variables that change how fast libraries compute and allocate.
SETTINGS = (
    *("GLIBC_TUNABLES", "JAX_DEFAULT_MATMUL_PRECISION", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE"),
    *("XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE"),
)
LIBRARIES = (
    *("gradrev_jax", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "numpy", "optax"),
    *("torch", "triton", "faiss-cpu", "efficientnet-lite-pytorch"),
)


ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Flags whose values are paths of the machine, though some of them are read as words.
PATHS = ("folder", "out", "photographs", "root", "run", "runs", "torch", "workdir")


def parse_flags(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    is_trial: Callable[[argparse.Namespace], object] = lambda options: False,
) -> argparse.Namespace:
    """Parses the flags of a benchmark, of which a trial does not replace recorded results.

    Args:
      parser: the parser, with ``--out`` and no default for it.
      arguments: the command line; None: that of this process.
      is_trial: whether the flags ask for less than what is recorded; ``--tiny`` always does.

    Returns:
      The options. ``out`` is the folder of the results if unset, and of a trial a new temporary one.
      ``about`` is what ``record`` writes of the call.
    """
    options = parser.parse_args(arguments)
    checkout()  # now, because the code has just been loaded
    about: dict[str, Any] = {"tiny": True} if getattr(options, "tiny", False) else {}
    options.about = about | {"flags": {name: v for name, v in vars(options).items() if _is_public(name, v)}}
    if options.out is None:
        trial = bool(about) or is_trial(options)
        options.out = pathlib.Path(tempfile.mkdtemp(prefix="gradrev_trial_")) if trial else RESULTS
    return options


def are_changed(parser: argparse.ArgumentParser, options: argparse.Namespace, names: Sequence[str]) -> bool:
    """Returns whether any of the named options has another value than its default."""
    return any(getattr(options, name) != parser.get_default(name) for name in names)


def record(
    path: pathlib.Path,
    result: dict[str, Any],
    *,
    quiet: bool = False,
    about: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Writes a result with the environment that it was measured in; replaces an older result.

    Args:
      path: the JSON file.
      result: the measurements, or those that are complete so far.
      quiet: whether to skip printing the path.
      about: what is written of the call, from ``parse_flags``.
      versions: the versions of libraries of another Python that was measured.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"date": datetime.date.today().isoformat(), **environment(), **(about or {}), **result}
    content["versions"] = {**content["versions"], **(versions or {})}
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)  # so that an interrupted write leaves the last result intact
    if not quiet:
        print(f"written to {path}")


def machine_name() -> str:
    """Returns the name of this machine in file names: ``cpu``, or the first GPU's model."""
    device = jax.devices()[0]
    return "cpu" if device.platform == "cpu" else card_model(device.device_kind)


def card_model(device_kind: str) -> str:
    """Returns the model of a GPU without its maker, memory size and socket.

    Example:
      >>> [card_model(kind) for kind in ("NVIDIA H100 80GB HBM3", "Tesla V100-SXM2-16GB", "NVIDIA RTX A6000")]
      ['h100', 'v100', 'rtx_a6000']
    """
    words = re.split(r"[\s/-]+", device_kind)
    words = [
        word for word in words if word.lower() not in ("nvidia", "tesla", "geforce", "graphics", "device")
    ]
    is_detail = [bool(re.fullmatch(r"(?i)\d+GB|SXM\d*|PCIe|HBM\w*|NVL|OAM", word)) for word in words]
    return "_".join(words[: is_detail.index(True)] if True in is_detail else words).lower()


def environment() -> dict[str, Any]:
    """Returns the hardware, the versions, and the environment variables that affect speed."""
    driver = query_card("driver_version") if jax.default_backend() == "gpu" else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": [device.device_kind for device in jax.devices()],
        **({"driver": driver} if driver else {}),
        **checkout(),
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
        "settings": {name: _without_paths(os.environ[name]) for name in SETTINGS if name in os.environ},
    }


@functools.cache
def checkout() -> dict[str, str | bool | None]:
    """Returns the commit of the code, and whether a file that git knows differs; None where there is no git.

    Recorded results do not count as changes, since measuring replaces them.
    """
    # An export inside of another repository is none of its commits.
    commit = _git("rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    if commit is None:
        return {"commit": None, "changed": None}
    results = f":(exclude){RESULTS.relative_to(ROOT)}"
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", results)
    return {"commit": commit, "changed": None if changes is None else bool(changes)}


def query_card(field: str) -> str | None:
    """Returns a property of the first card from ``nvidia-smi``; None if it does not answer.

    Args:
      field: the field of ``--query-gpu``, such as ``driver_version`` or ``memory.total`` (in MiB).
    """
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return lines.splitlines()[0].strip() if lines.strip() else None


def _git(*arguments: str) -> str | None:
    """Returns what git answers; None if it does not."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _is_public(name: str, value: object) -> bool:
    """Returns whether a flag can be recorded: whether its value is no path, and has none."""
    if isinstance(value, list | tuple):
        return all(_is_public(name, each) for each in value)
    if isinstance(value, str):
        return name not in PATHS and not any(mark in value for mark in "/\\~")
    return value is None or isinstance(value, int | float)


def _without_paths(setting: str) -> str:
    """Returns the words of a setting that name no file, such as a folder for dumps."""
    return " ".join(word for word in setting.split() if "/" not in word)


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
