"""Finds the file that a name most likely means, where there is none of that name."""

import functools
import os
import pathlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

# Suffixes that one image may have instead of another.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")


def find_near_file(root: pathlib.Path, name: str) -> str | None:
    r"""Finds the file below a folder that a name means but for how it is written.

    What may differ: backslashes for slashes, the Unicode form of letters (NFC or NFD), upper and lower case,
    spaces around names, and the suffix of an image, which may also lack. Each folder is listed once, and
    again when it has changed.

    Args:
      root: the folder.
      name: path relative to it.

    Returns:
      Path relative to the folder, with slashes; None where no file, or more than one, is as near.

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
        near = _only(_folders(folder), part)
        if near is None:
            return None
        found.append(near)
        folder = folder / near
    file = _only(_files(folder), parts[-1])
    return None if file is None else "/".join([*found, file])


def _only(listing: tuple[Mapping[str, Sequence[str]], ...], name: str) -> str | None:
    """The one name that is near, in the strictest way in which any is."""
    for of_key, keys in zip(listing, (_form(name), _folded(name), _stem(name)), strict=False):
        if near := of_key.get(keys):
            return near[0] if len(near) == 1 else None
    return None


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _form(_form(name).casefold().strip())


def _stem(name: str) -> str:
    """The folded name without an image's suffix."""
    stem, suffix = os.path.splitext(_folded(name))
    return stem if suffix in SUFFIXES else stem + suffix


def _files(folder: pathlib.Path) -> tuple[Mapping[str, Sequence[str]], ...]:
    return _listed(folder)[0]


def _folders(folder: pathlib.Path) -> tuple[Mapping[str, Sequence[str]], ...]:
    return _listed(folder)[1]


def _listed(folder: pathlib.Path) -> tuple[tuple[Mapping[str, Sequence[str]], ...], ...]:
    """Files and folders of a folder, see ``_listing``; none where it cannot be listed."""
    try:
        return _listing(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return ({},), ({},)


@functools.lru_cache(maxsize=64)
def _listing(folder: pathlib.Path, changed: int) -> tuple[tuple[Mapping[str, Sequence[str]], ...], ...]:
    """Names by form, folded and, of images, by stem: of the files, and (not by stem) of the folders."""
    del changed  # a part of the cache's key
    files: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
    folders: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list))
    with os.scandir(folder) as found:
        for item in found:
            try:
                of_kind = folders if item.is_dir() else files
            except OSError:  # a symbolic link that leads to itself
                continue
            of_kind[0][_form(item.name)].append(item.name)
            of_kind[1][_folded(item.name)].append(item.name)
            if of_kind is files and os.path.splitext(_folded(item.name))[1] in SUFFIXES:
                files[2][_stem(item.name)].append(item.name)
    return files, folders
