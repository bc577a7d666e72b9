"""Finds the row of each image in a file of vectors, by the names that both give."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.images.near_files import SUFFIXES
from gradrev_jax.errors import DataError, join_lines


def match_names(
    stored: Sequence[str], wanted: Sequence[str], *, say: Callable[[str], None]
) -> Int[np.ndarray, " wanted"]:
    r"""Returns the row of each name that is wanted.

    A name is found as it is; else as the same path spelled otherwise, with backslashes, ``./`` or another
    Unicode form; and if names are still missing, all are found by the name of the file without folder and
    suffix, provided that this tells all of them apart.

    Args:
      stored: the names of the rows.
      wanted: the names to be found, all different.
      say: receives notes on how names were matched, and on rows that nothing asks for.

    Raises:
      DataError: a name stands twice, or names are missing; the message goes on after the file's name.

    Example:
      >>> match_names(["b.jpg", ".\\a.jpg"], ["a.jpg"], say=print).tolist()
      1 of its 2 rows are of no image of the catalogue; they are not read
      [1]
    """
    rows = {name: row for row, name in enumerate(stored)}
    if len(rows) < len(stored):
        twice = [f"{name!r}: {count} rows" for name, count in Counter(stored).items() if count > 1]
        raise DataError(
            f"has {len(twice):,} names that stand more than once; leave one row of each:\n{join_lines(twice)}"
        )
    found = np.array([rows.get(name, -1) for name in wanted], np.int64)
    if (found < 0).any():
        found = _fill_in(found, stored, wanted, _same_path)
    if (found < 0).any():
        by_file = _fill_in(np.full(len(wanted), -1), stored, wanted, _file_name)
        if (by_file >= 0).all():
            row = int(by_file[0])
            say(f"names match by the file without folder and suffix, as {stored[row]!r} for {wanted[0]!r}")
            found = by_file
    missing = np.flatnonzero(found < 0).tolist()
    if missing:
        raise DataError(
            f"has no row for {len(missing):,} of {len(wanted):,} images (its first name is {stored[0]!r}):\n"
            f"{join_lines([repr(wanted[n]) for n in missing])}\n"
            "Name the rows as the catalogue names its images, or add those that are missing."
        )
    if extra := len(stored) - len(wanted):
        say(f"{extra:,} of its {len(stored):,} rows are of no image of the catalogue; they are not read")
    return found


def _fill_in(
    found: np.ndarray, stored: Sequence[str], wanted: Sequence[str], key: Callable[[str], str]
) -> np.ndarray:
    """Returns rows with those that are missing found by a key that one row and one wanted name alone have."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(stored):
        by_key[key(name)].append(row)
    keys = [key(name) for name in wanted]
    counts = Counter(keys)
    filled = found.copy()
    for position in np.flatnonzero(found < 0).tolist():
        rows = by_key.get(keys[position], [])
        if len(rows) == 1 and counts[keys[position]] == 1:
            filled[position] = rows[0]
    return filled


def _same_path(name: str) -> str:
    """Returns the one spelling of a path that stands for all of them."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _file_name(name: str) -> str:
    """Returns the name of an image's file without folder and suffix."""
    file = _same_path(name).rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(file)
    return stem if suffix.lower() in SUFFIXES else file
