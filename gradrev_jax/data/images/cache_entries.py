"""Builds the entries of the image cache, maps them into memory, and removes those unused for longest.

An entry holds the pixels of images, uint8 [M, S, S, 3], or what a backbone computes of them, float32
[M, V, D] with V views of each image. ``entry_files`` has the form of its file.
"""

import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gradrev_jax.data.images.entry_files import allocate, array_bytes, read_layout
from gradrev_jax.data.images.file_locks import hold_lock, is_in_use, mark_in_use
from gradrev_jax.errors import DataError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PIXEL = np.dtype(np.uint8)
ENTRY, PARTIAL, LOCK = ".npy", ".partial", ".lock"
# Only files with such names are counted or removed, because the folder may hold others.
NAME = re.compile(rf"[0-9a-f]{{32}}({re.escape(ENTRY)}|{re.escape(PARTIAL)})")


class Entry(NamedTuple):
    """A file of the cache.

    Attributes:
      path: the file.
      size: its size in bytes.
      used: the time when a run last used it, in seconds since 1970.
    """

    path: pathlib.Path
    size: int
    used: float


def entries(cache_dir: pathlib.Path) -> list[Entry]:
    """Lists the files of a cache, those unused for longest first; none if there is no such folder.

    They include the remains of interrupted builds.

    Raises:
      OSError: the folder cannot be read.

    Example:
      >>> entries(pathlib.Path("/no/such/folder"))
      []
    """
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in cache_dir.iterdir():
            if NAME.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # another process may remove it meanwhile
                    status = path.stat()
                    found.append(Entry(path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (entry.used, entry.path))


def describe(entry: Entry) -> str:
    """Describes the content of a file of the cache.

    Example:
      >>> describe(Entry(pathlib.Path("0.partial"), 0, 0.0))
      'unfinished'
    """
    if entry.path.suffix == PARTIAL:
        return "unfinished"
    with contextlib.suppress(OSError), entry.path.open("rb") as file:
        layout = read_layout(file)
        shape = layout.shape if layout is not None else ()
        if len(shape) == 4:
            return f"{shape[0]:,} images of {shape[2]} x {shape[1]} pixels"
        if len(shape) == 3:
            views = f", {shape[1]} views of each" if shape[1] > 1 else ""
            return f"{shape[0]:,} embeddings of {shape[2]:,} numbers{views}"
    return "damaged"


def remove(entry: Entry) -> bool:
    """Removes a file of the cache unless a process uses or builds it; returns whether it was removed.

    Raises:
      OSError: the file may not be removed, as in a read-only folder.
    """
    partial = entry.path.suffix == PARTIAL
    guard = entry.path.with_suffix(LOCK) if partial else entry.path
    try:
        with guard.open(
            "ab" if partial else "r+b"
        ) as file:  # open for writing, as locks on network file systems require
            if is_in_use(file):
                return False
            entry.path.unlink(missing_ok=True)
            if partial:
                guard.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    return True


def make_room(cache_dir: pathlib.Path, limit: int, needed: int) -> None:
    """Removes files, those unused for longest first, until a new one fits below the limit.

    Files in use stay, even if the limit is then exceeded.

    Args:
      cache_dir: the folder of the cache.
      limit: the number of bytes of all its files together.
      needed: the number of bytes of the new file.
    """
    present = entries(cache_dir)
    total = needed + sum(entry.size for entry in present)
    for entry in present:
        if total <= limit:
            return
        with contextlib.suppress(PermissionError):  # another user's
            if remove(entry):
                total -= entry.size


def map_entry(path: pathlib.Path, shape: Sequence[int], dtype: np.dtype = PIXEL) -> np.memmap | None:
    """Maps an entry into memory, read-only; marks it as used now, and as in use while it is mapped.

    Args:
      path: the file of the entry.
      shape: the shape of its array.
      dtype: the dtype of its array.

    Returns:
      The array; None: there is no such file, or it is truncated, or has another shape or dtype.

    Raises:
      DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            mark_in_use(file)
            layout = read_layout(file)
            if layout is None or (layout.shape, layout.dtype) != (tuple(shape), dtype):
                return None
            with contextlib.suppress(OSError):  # in a read-only folder
                os.utime(path)
                _remove_lock(path.with_suffix(LOCK))
            return np.memmap(file, dtype, "r", layout.start, layout.shape)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(
            f"the image cache's {path} cannot be read: {error.strerror}; remove it, or set `cache_dir` to "
            "another folder",
            arguments=("cache_dir",),
        ) from error


def _remove_lock(path: pathlib.Path) -> None:
    """Removes the lock of an entry that is complete, if a process that was killed has left it."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        if not is_in_use(file):
            path.unlink()


@contextlib.contextmanager
def build_entry(
    path: pathlib.Path,
    shape: Sequence[int],
    limit: int | None = None,
    dtype: np.dtype = PIXEL,
    digests: bytes = b"",
) -> Iterator[pathlib.Path | None]:
    """Yields an .npy file of the final size, which is renamed to ``path`` at the end of the block.

    If the block raises, the file is removed. A damaged entry is replaced. Yields None if another process has
    finished the entry meanwhile.

    Args:
      path: the file of the entry.
      shape: the shape of its array.
      limit: the number of bytes of all entries together, see ``make_room``; None: no limit.
      dtype: the dtype of its array.
      digests: the digests of its images, one after the other, which the file has from the start; empty: none.

    Raises:
      DataError: the entry cannot be written.
    """
    partial, size = path.with_suffix(PARTIAL), array_bytes(shape, dtype) + len(digests)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(path.with_suffix(LOCK)):
            try:
                if map_entry(path, shape, dtype) is not None:
                    yield None
                    return
                partial.unlink(missing_ok=True)
                if limit is not None:
                    make_room(path.parent, limit, size)
                allocate(partial, shape, dtype, digests)
                yield partial
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        message = _describe_failure(path.parent, size, error)
        raise DataError(message, arguments=("cache_dir",)) from error


def _describe_failure(cache_dir: pathlib.Path, size: int, error: OSError) -> str:
    """Describes why an entry cannot be written; with the room that it needs if there is too little."""
    existing = next(folder for folder in (cache_dir, *cache_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**20
    room = f"it needs {size / 2**20:,.1f} MiB, {free:,.0f} MiB are free; " if error.errno in NO_ROOM else ""
    return (
        f"the image cache cannot be written to {cache_dir}: {error.strerror}; {room}"
        "set `cache_dir` to a folder with room that you may write to"
    )
