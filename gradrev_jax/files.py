"""Checks paths that a person gave, and writes files and folders atomically."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

from gradrev_jax.errors import ConfigError, UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

PART = ".part"  # how the names of temporary files and folders end
LFS_STARTS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
LFS_ADVICE = "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
HEAD = 64  # the number of first bytes that identify a pointer


def expand(path: str | os.PathLike[str], name: str) -> pathlib.Path:
    """Returns a path with a leading ``~`` or ``~user`` replaced by that home folder.

    Args:
      path: the path as a person wrote it.
      name: the flag or the config field that it comes from, for the message.

    Raises:
      ConfigError: the path is empty, or the home folder is not known.

    Example:
      >>> expand("runs/mine/", "--workdir").as_posix()
      'runs/mine'
    """
    if not os.fspath(path):
        raise ConfigError(f"{name} is empty; give a path")
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        home = pathlib.PurePath(path).parts[0]
        reason = (
            "the home folder is not known, because HOME is not set and this user has no entry in the "
            "system's list of users; set HOME, or give the whole path"
            if home == "~"
            else f"there is no user {home[1:]!r}; give the whole path, or ./{home} for a folder of that name"
        )
        raise ConfigError(f"{name}={path}: {reason}") from error


def check_folder(folder: pathlib.Path, name: str, *, written: bool = False) -> None:
    """Checks that a path is a folder, or can become one.

    Args:
      folder: the path, which need not exist.
      name: the flag or the config field that it comes from, for the message.
      written: whether it must be possible to write files there.

    Raises:
      ConfigError: the path, or a part of it, is a file; it is not valid UTF-8; or it cannot be written to.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{name}={str(folder)!a}: the path is not valid UTF-8, which checkpoints need; rename it"
        ) from error
    nearest = folder.absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        what = "this" if nearest == folder.absolute() else nearest
        raise ConfigError(f"{name}={folder}: {what} is not a folder; give another path")
    if written and not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"{name}={folder}: this user may not write to {nearest}; give another path")


@contextlib.contextmanager
def naming_unreadable(path: pathlib.Path, error: type[UserError]) -> Iterator[None]:
    """Turns an error of the system into one that a person can put right: that a file cannot be read.

    Args:
      path: the file or folder that is read in the block.
      error: the class of the error, of what the file is.

    Raises:
      UserError: of that class, with the system's reason.

    Example:
      >>> with naming_unreadable(pathlib.Path("table.csv"), ConfigError):
      ...     raise PermissionError(errno.EACCES, "Permission denied")
      Traceback (most recent call last):
      gradrev_jax.errors.ConfigError: table.csv cannot be read: Permission denied
    """
    try:
        yield
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}") from reason


@contextlib.contextmanager
def temporary_sibling(path: pathlib.Path, *, folder: bool = False) -> Iterator[pathlib.Path]:
    """Yields a new file or folder beside a path, to be renamed to it, and removes it if that is not done.

    What killed processes have left of the same path is removed first. A lock tells it from what a process is
    at work on; where the file system has no locks, all stays.

    Args:
      path: the path; its folder must exist.
      folder: whether a folder is made, and no file.

    Raises:
      OSError: the folder of the path cannot be written to.

    Example:
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     with temporary_sibling(pathlib.Path(parent, "made")) as new:
      ...         _ = new.rename(pathlib.Path(parent, "made"))
      ...     os.listdir(parent)
      ['made']
    """
    remove_leftovers(path)
    new, lock = _locked_sibling(path, folder)
    try:
        yield new
    finally:
        _remove(new)
        os.close(lock)


def remove_leftovers(path: pathlib.Path) -> None:
    """Removes the temporary files and folders that killed processes have left beside a path.

    Args:
      path: the path that they were to be renamed to.

    Example:
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     pathlib.Path(parent, ".made-0k7x_2q1.part").touch()
      ...     remove_leftovers(pathlib.Path(parent, "made"))
      ...     os.listdir(parent)
      []
    """
    name = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}{re.escape(PART)}")
    for left in [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):  # of another user, or already gone
            # Network file systems lock only files that are open for writing.
            lock = os.open(left, os.O_RDONLY if left.is_dir() else os.O_RDWR)
            try:
                if try_lock(lock):
                    _remove(left)
            finally:
                os.close(lock)


def _locked_sibling(path: pathlib.Path, folder: bool) -> tuple[pathlib.Path, int]:
    """Makes a temporary sibling of a path; returns it with an open descriptor that holds its lock."""
    prefix = f".{path.name}-"
    while True:
        if folder:
            new = tempfile.mkdtemp(PART, prefix, path.parent)
            lock = os.open(new, os.O_RDONLY)
        else:
            lock, new = tempfile.mkstemp(PART, prefix, path.parent)
        if try_lock(lock) is False:  # another process is about to remove it: it was not locked yet
            os.close(lock)
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(new)):
                return pathlib.Path(new), lock
        os.close(lock)


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file or folder, without waiting, until its descriptor is closed.

    Args:
      descriptor: the descriptor of the file, or of the folder.

    Returns:
      Whether no one else holds it; None if the system, or the file system, has no locks.

    Example:
      >>> with tempfile.TemporaryFile() as file:
      ...     try_lock(file.fileno())
      True
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, as far as that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def new_folder(directory: pathlib.Path, error: type[UserError]) -> Iterator[pathlib.Path]:
    """Creates a folder atomically: yields a temporary sibling, and renames it when the block ends.

    If the block raises an error, the temporary folder is removed.

    Args:
      directory: the path of the folder; it must not exist, or be an empty folder.
      error: the type of the error raised if the folder cannot be written.

    Example:
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     made = pathlib.Path(parent, "made")
      ...     with new_folder(made, UserError) as folder:
      ...         _ = (folder / "file").write_text("whole")
      ...     (made / "file").read_text()
      'whole'
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with temporary_sibling(directory, folder=True) as new:
            yield new
            new.chmod(0o755)  # mkdtemp's folders are private
            new.rename(directory)
    except OSError as reason:
        raise error(f"{directory} cannot be written: {_reason(reason)}") from reason


def _reason(error: OSError) -> str:
    """Returns why a file could not be written; NumPy, on a full disk, says how much of an array it wrote."""
    if error.errno is None and " requested and " in str(error):
        return f"{os.strerror(errno.ENOSPC)} ({error})"
    return error.strerror or str(error)


def replace_file(path: pathlib.Path, content: bytes, error: type[UserError]) -> None:
    """Writes a file atomically: writes a temporary sibling, then renames it.

    Others may read a new file; one that was there keeps its mode.

    Args:
      path: the path of the file; its folders are created.
      content: the new content.
      error: the type of the error raised if the folder cannot be written to, or the disk is full; an existing
        file remains as it is.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     replace_file(pathlib.Path(folder, "made", "file"), b"whole", UserError)
      ...     pathlib.Path(folder, "made", "file").read_bytes()
      b'whole'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_sibling(path) as temporary:
            temporary.write_bytes(content)
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)  # mkstemp's are private
            os.replace(temporary, path)
    except OSError as reason:
        raise error(f"{path} cannot be written: {_reason(reason)}") from reason


def is_lfs_pointer(start: bytes) -> bool:
    r"""Returns whether a file is a Git LFS pointer, which stands in for a file that LFS has not fetched.

    Args:
      start: the first ``HEAD`` bytes of the file, or all of them.

    Example:
      >>> is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
      True
    """
    return start.startswith(LFS_STARTS)
