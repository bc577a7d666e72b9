"""Checks the paths of images that a file names: whether they stay below a folder, and are files."""

import os
import pathlib
from collections.abc import Sequence

LONGEST_PATH = 200  # the number of characters of a path that a message quotes


def paths_outside(root: pathlib.Path, paths: Sequence[str]) -> dict[int, str]:
    """Finds the paths that lead out of a folder: by ``..``, as absolute paths, or by symbolic links.

    The folders of the paths are resolved once each, and links within the folder are allowed. A path leads
    nowhere if it has no file.

    Args:
      root: the folder; it may itself be a link.
      paths: paths relative to it.

    Returns:
      The positions of such paths, each with where it leads.

    Example:
      >>> paths_outside(pathlib.Path("/shop"), ["a.jpg", "../b.jpg", "/etc/passwd"])
      {1: 'leads out of /shop', 2: 'leads out of /shop'}
    """
    real_root = os.path.realpath(root)
    real_folders: dict[str, str] = {}
    found = {}
    for position, path in enumerate(paths):
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            found[position] = f"leads out of {root}"
            continue
        whole = os.path.join(root, path)
        folder, file = os.path.split(whole)
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(real_folders[folder], file)
        if os.path.islink(real):
            real = os.path.realpath(real)
        if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
            found[position] = f"leads out of {root}, by a symbolic link to {real}"
    return found


def is_file(path: pathlib.Path) -> bool:
    r"""Returns whether a path is that of a file; False if it is no path at all, as a name that is too long.

    Example:
      >>> is_file(pathlib.Path("a" * 5000)), is_file(pathlib.Path("a\0b"))
      (False, False)
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def closed_folder(root: pathlib.Path, path: str) -> pathlib.Path | None:
    """Returns the first folder on the way to a file that this user may not enter; None: there is none.

    What is in such a folder does not seem to be there, though its names may be listed.

    Args:
      root: the folder that the path is relative to.
      path: the path of the file.

    Example:
      >>> closed_folder(pathlib.Path("/"), "no/such/file.jpg")
    """
    folders = pathlib.PurePath(path).parents  # the last is ".", or "/"
    for folder in (root, *(root / name for name in reversed(folders))):
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            return folder
    return None


def quote_path(path: str) -> str:
    r"""Returns a path for a message: as it is if it is short and can be printed, otherwise cut and quoted.

    Example:
      >>> quote_path("images/1.jpg"), quote_path("a\tb")
      ('images/1.jpg', "'a\\tb'")
    """
    if path.isprintable() and len(path) <= LONGEST_PATH:
        return path
    return repr(path if len(path) <= LONGEST_PATH else f"{path[: LONGEST_PATH - 3]}...")
