"""Caches results that take long to compute on the disk, under a digest of all that they depend on."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from gradrev_jax.errors import UserError, WorkdirError
from gradrev_jax.files import replace_file
from gradrev_jax.models.inputs import Rows
from gradrev_jax.runs.eviction import beyond_limits

RESULTS = "results"  # the folder within that of the decoded images
MOST_BYTES = 256 * 2**20  # of all results together: some kilobytes each, or megabytes of prototypes
ROWS_AT_ONCE = 256  # that are read into memory for a digest
# The settings of JAX that change results.
SETTINGS = (
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_default_device",
)
IMPORTED = time.time()
PACKAGE = pathlib.Path(__file__).parents[1]


def kept_result(
    cache: pathlib.Path | None, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Returns the result of a pure function from the cache, or computes and caches it.

    A cached result is used only if all that it depends on is the same: the arguments, bit for bit, the code
    of this package, the versions and settings of JAX and NumPy, and the device. So the cache never has to be
    cleared to get the right result. If a result cannot be read, or is damaged, or the code was changed after
    its import, it is computed, and if it cannot be written it is returned all the same; neither is an error.

    Args:
      cache: the folder whose subfolder ``results`` has the results as JSON files; None: nothing is cached.
      key: the name and the arguments of the function: NumPy arrays, and what JSON can hold.
      compute: the function, which returns what JSON can hold.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for x in (3, 4, 3):
      ...         result = kept_result(
      ...             pathlib.Path(folder), {"square of": x}, lambda x=x: print("computed") or {"is": x**2}
      ...         )
      ...         print(result)
      computed
      {'is': 9}
      computed
      {'is': 16}
      {'is': 9}
    """
    if cache is None or (code := _code_digest()) is None:
        return compute()
    path = cache / RESULTS / f"{_digest({**key, 'computed by': [code, *_environment()]})}.json"
    if (found := _read(path)) is not None:
        return found
    result = compute()
    content = {"sha256": _checksum(json.dumps(result)), "result": result}
    with contextlib.suppress(OSError, UserError):
        replace_file(path, json.dumps(content).encode(), WorkdirError)
        _tidy(path.parent)
    return result


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """Returns the result in a file; None if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        result: dict[str, Any] = content["result"]
        is_whole = content["sha256"] == _checksum(json.dumps(result))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the least recently used are removed first; touch() would make a file that is gone
    return result if is_whole else None


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_rows(rows: Rows) -> str:
    """Returns a digest of inputs that are read in batches, for the ``key`` of ``kept_result``.

    Args:
      rows: the inputs.

    Example:
      >>> pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
      >>> digest_of_rows(pixels) == digest_of_rows(pixels.copy()) != digest_of_rows(pixels[:1])
      True
    """
    digest = hashlib.sha256(f"{rows.dtype} {rows.shape}".encode())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        digest.update(_bytes_of(rows[start : start + ROWS_AT_ONCE]))
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    """Returns a digest of numbers, texts and arrays; of arrays with their types and shapes."""
    return _checksum(json.dumps(content, sort_keys=True, default=_describe_array))


def _describe_array(array: np.ndarray) -> dict[str, Any]:
    digest = hashlib.sha256(_bytes_of(array)).hexdigest()
    return {"array": digest, "type": array.dtype.str, "shape": array.shape}


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _environment() -> list[str]:
    """Returns what else results depend on: the versions of libraries, the device, and settings."""
    device = jax.local_devices()[0]
    return [
        *(module.__version__ for module in (jax, np, optax)),
        importlib.metadata.version("jaxlib"),
        f"{device.platform} {device.device_kind}",
        *(str(getattr(jax.config, name, None)) for name in SETTINGS),
        os.environ.get("XLA_FLAGS", ""),
    ]


@functools.cache
def _code_digest() -> str | None:
    """Returns a digest of the code of this package; None if that has changed since it was imported."""
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stat().st_mtime > IMPORTED:
            return None
        code.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return code.hexdigest()


def _tidy(folder: pathlib.Path) -> None:
    """Removes the least recently used results if all of them together are too large."""
    found = []
    for path in folder.glob(f"{'[0-9a-f]' * 64}.json"):  # no file of the user's own
        with contextlib.suppress(FileNotFoundError):  # another process may remove it meanwhile
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    for path in beyond_limits(found, most_bytes=MOST_BYTES):
        with contextlib.suppress(OSError):  # another process has removed it, or another user owns it
            path.unlink()
