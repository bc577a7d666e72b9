"""Expands and checks paths that a command line or a config gives."""

import os
import pathlib

from gradrev_jax.errors import ConfigError


def expand(path: str | os.PathLike[str], name: str) -> pathlib.Path:
    """Returns a path with a leading ``~`` or ``~user`` replaced by that home folder.

    Args:
      path: as a person wrote it.
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
      folder: need not exist.
      name: the flag or the config field that it comes from, for the message.
      written: whether files are going to be written there.

    Raises:
      ConfigError: the path, or a part of it, is a file; it is not UTF-8; or it may not be written to.
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
