"""Keeps a run's folder to one training at a time."""

import contextlib
import errno
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

from gradrev_jax import distributed
from gradrev_jax.errors import PLATFORMS, WorkdirError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "train.lock"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of file systems without locks


@contextlib.contextmanager
def hold_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a run's folder during the block, of several processes in the first alone.

    The folder is made if it is not there, and removed if it is still empty at the end. The system releases
    the lock of a process that is killed. Processes that only read the folder need no lock.

    Args:
      workdir: the run's folder.

    Raises:
      WorkdirError: another process holds it, or it cannot be written to.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with hold_workdir(pathlib.Path(folder, "run")):
      ...         held = os.listdir(folder)
      ...     held, os.listdir(folder)
      (['run'], [])
    """
    if not distributed.is_first():
        yield
        return
    if fcntl is None:
        raise WorkdirError(PLATFORMS)
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    try:
        held = _lock(workdir)
    except OSError as error:
        raise WorkdirError(f"{workdir} cannot be written to: {error.strerror or error}") from error
    try:
        with held:
            try:
                yield
            finally:
                (workdir / LOCK).unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):  # there is something in it
            for folder in made:
                folder.rmdir()


def _lock(workdir: pathlib.Path) -> IO[str]:
    """Returns the open file that is locked; closing it, as the end of the process does, releases the lock.

    Its descriptor is not inherited by programs that this process starts.
    """
    path = workdir / LOCK
    while True:
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # the process that made the folder has removed it just now
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                distributed.say(f"{workdir} has no locks: nothing keeps two trainings from writing to it")
                return file
            holder = _holder(file)
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise WorkdirError(
                f"{workdir} is being trained in by {holder}; wait for it, end it, or give another --workdir"
            ) from error
        # The process that held the file before may have removed it just now.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
                file.flush()
                return file
        file.close()


def _holder(file: IO[str]) -> str:
    """Returns the process that holds a lock, as its file names it."""
    try:
        file.seek(0)
        held = json.load(file)
        return f"process {int(held['pid'])} on {held['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
