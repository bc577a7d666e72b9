"""Finds the file that a name most likely means if no file has that name."""

import functools
import os
import pathlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

SUGGESTED = 10  # the number of missing files for which a message looks for a near one
# Suffixes that images may have instead of each other.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")

# Names by normal form, by folded name and, of images, by stem.
Listing = tuple[Mapping[str, Sequence[str]], ...]


def find_near_file(root: pathlib.Path, name: str) -> str | None:
    r"""Finds the file below a folder whose path differs from a name in its spelling alone.

    Names may differ in backslashes for slashes, the Unicode form of letters (NFC or NFD), upper and lower
    case, spaces around them, and the suffix of an image, which may also be missing. Each folder is listed
    once, and again when it has changed.

    Args:
      root: the folder.
      name: a path relative to the folder.

    Returns:
      The path of the file relative to the folder, with slashes; None: no file, or more than one, is as near.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     pathlib.Path(folder, "images").mkdir()
      ...     pathlib.Path(folder, "images", "1.JPG").touch()
      ...     [find_near_file(pathlib.Path(folder), name) for name in (r"Images\1.jpg", "images/2.jpg")]
      ['images/1.JPG', None]
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    folder, found = root, list[str]()
    for part in parts[:-1]:
        near = _find_name(_list_folder(folder)[1], part)
        if near is None:
            return None
        found.append(near)
        folder = folder / near
    file = _find_name(_list_folder(folder)[0], parts[-1])
    return None if file is None else "/".join([*found, file])


def _find_name(listing: Listing, name: str) -> str | None:
    """Returns the nearest name, by the strictest comparison that finds any; None: several, or none."""
    for names_by_key, key in zip(listing, (_normal_form(name), _fold(name), _stem(name)), strict=False):
        if near := names_by_key.get(key):
            return near[0] if len(near) == 1 else None
    return None


def _normal_form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return _normal_form(_normal_form(name).casefold().strip())


def _stem(name: str) -> str:
    """Returns the folded name without the suffix of an image."""
    stem, suffix = os.path.splitext(_fold(name))
    return stem if suffix in SUFFIXES else stem + suffix


def _list_folder(folder: pathlib.Path) -> tuple[Listing, Listing]:
    """Lists the files and the folders in a folder; none if it cannot be listed."""
    try:
        return _list_unchanged(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return ({},), ({},)


@functools.lru_cache(maxsize=64)
def _list_unchanged(folder: pathlib.Path, changed: int) -> tuple[Listing, Listing]:
    """Lists the files and the folders in a folder; only the files have a mapping by stem."""
    del changed  # a part of the key of the lru_cache
    files: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
    folders: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list))
    with os.scandir(folder) as found:
        for item in found:
            try:
                of_kind = folders if item.is_dir() else files
            except OSError:  # a symbolic link to itself
                continue
            of_kind[0][_normal_form(item.name)].append(item.name)
            of_kind[1][_fold(item.name)].append(item.name)
            if of_kind is files and os.path.splitext(_fold(item.name))[1] in SUFFIXES:
                files[2][_stem(item.name)].append(item.name)
    return files, folders
