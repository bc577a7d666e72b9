"""Text files of whole numbers, a row a line, read with errors that name the line."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.errors import DataError, join_lines
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer

LISTED = 10  # faulty lines that a message quotes


def read_lines(path: pathlib.Path) -> list[str]:
    """Lines of a UTF-8 file, with Unix or Windows ends, without the blank ones at its end.

    Raises:
      DataError: the file is missing, a Git LFS pointer, no text, empty, or has a blank line between others.
    """
    if not path.is_file():
        there = ", ".join(sorted(other.name for other in path.parent.glob("*.txt"))) or "no .txt file"
        raise DataError(f"{path} does not exist ({there} there)")
    content = path.read_bytes()
    if is_lfs_pointer(content[:HEAD]):
        raise DataError(f"{path} {LFS_ADVICE}")
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    if blank := [number for number, line in enumerate(lines, start=1) if not line]:
        raise DataError(f"{path}: line {blank[0]} is blank; rows are counted by line, so none may be")
    return lines


def read_rows(
    path: pathlib.Path,
    width: int,
    *,
    low: int,
    high: int,
    rows: int | None = None,
    rows_of: str = "",
    what: str,
) -> Int[np.ndarray, "rows width"]:
    """Whole numbers in a given range, int32.

    Args:
      path: the file.
      width: numbers a row.
      low: the least number allowed.
      high: the greatest.
      rows: how many rows there must be; None: any number.
      rows_of: the file that has as many, for the message.
      what: what a number is, for the message.

    Raises:
      DataError: the file cannot be read, a row is too short or long, something is no whole number or out of
        range, or there are too few or many rows.
    """
    lines = read_lines(path)
    if rows is not None and len(lines) != rows:
        raise DataError(f"{path} has {len(lines)} rows but {rows_of} has {rows}; they must have as many")
    table = _parsed(lines, width)
    if table is None or (table.size and (table.min() < low or table.max() > high)):
        raise DataError(
            f"{path}: rows that cannot be used:\n{join_lines(_faults(lines, width, low, high, what))}"
        )
    return table


def _parsed(lines: Sequence[str], width: int) -> np.ndarray | None:
    """The numbers, by NumPy's parser, which is fast; None where it stumbles, for ``_faults`` to say why."""
    if width > 1 and len(lines[0].split()) != width:
        return None
    try:
        table = np.loadtxt(lines, dtype=np.int64, ndmin=2, comments=None)
    except (ValueError, OverflowError, DeprecationWarning):
        return None
    if table.shape != (len(lines), width) or np.abs(table).max() > np.iinfo(np.int32).max:
        return None
    return table.astype(np.int32)


def _faults(lines: Sequence[str], width: int, low: int, high: int, what: str) -> list[str]:
    """What is wrong with each line that cannot be used."""
    found = []
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if len(cells) != width:
            found.append(f"line {number}: {len(cells)} numbers instead of {width}")
            continue
        for cell in cells:
            try:
                value = int(cell)
            except ValueError:
                found.append(f"line {number}: {cell[:20]!r} is no whole number")
                break
            if not low <= value <= high:
                found.append(f"line {number}: {value} is no {what}; {low} to {high}")
                break
    return found
