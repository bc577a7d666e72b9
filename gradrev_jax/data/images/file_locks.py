"""Locks on files, between processes and within one; the system lets go of them when a process dies."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from gradrev_jax.errors import PLATFORMS, DataError

try:
    import fcntl
except ImportError:  # on Windows, where all that needs no lock works
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def hold_lock(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock file, one process at a time, and removes it in the end.

    Raises:
      DataError: the system has no such locks.
      OSError: the file cannot be written.
    """
    if fcntl is None:
        raise DataError(PLATFORMS)
    while True:
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # Whoever held it before has removed it: then another process may lock a new one by now.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held.fileno()), path.stat()):
                    try:
                        yield
                    finally:
                        path.unlink()
                    return


def mark_in_use(file: IO[Any]) -> None:
    """Marks an open file as in use, for as long as it, or a memory map of it, is open.

    Where the file system has no locks, nothing is marked.
    """
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(file: IO[Any]) -> bool:
    """Returns whether others hold or share an open file; where there are no locks, they may."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
