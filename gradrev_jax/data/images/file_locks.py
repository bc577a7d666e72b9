"""Locks files, between processes and within one; the system releases the locks of a process that dies."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from gradrev_jax.errors import PLATFORMS, DataError
from gradrev_jax.files import try_lock

try:
    import fcntl
except ImportError:  # on Windows, where everything without locks works
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def hold_lock(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock file during the block, one process at a time, and removes it at the end.

    Raises:
      DataError: the system has no such locks.
      OSError: the file cannot be written.
    """
    if fcntl is None:
        raise DataError(PLATFORMS)
    while True:
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # The process that held the file before has removed it; another may have locked a new one since.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held.fileno()), path.stat()):
                    try:
                        yield
                    finally:
                        path.unlink()
                    return


def mark_in_use(file: IO[Any]) -> None:
    """Marks an open file as in use while it, or a memory map of it, is open.

    On a file system without locks it does nothing.
    """
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(file: IO[Any]) -> bool:
    """Returns whether others hold or share an open file; true if there are no locks that could tell."""
    return try_lock(file.fileno()) is not True
