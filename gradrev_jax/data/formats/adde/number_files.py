"""Reads text files of whole numbers, one row per line, with errors that name the line."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.text_files import read_bytes, split_lines
from gradrev_jax.errors import DataError, join_lines
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer, naming_unreadable


@dataclasses.dataclass(frozen=True)
class TextFile:
    """Represents a text file that was read.

    Attributes:
      path: the file.
      lines: its lines, without white space around them.
    """

    path: pathlib.Path
    lines: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)


class Numbers(NamedTuple):
    """Represents the numbers that a file may hold.

    Attributes:
      name: the meaning of one of them, as ``label``.
      low: the least number.
      high: the greatest number.
    """

    name: str
    low: int
    high: int


def read_lines(path: pathlib.Path) -> TextFile:
    """Reads a UTF-8 file with Unix or Windows line ends, without the blank lines at its end.

    Raises:
      DataError: the file is missing, a Git LFS pointer, not UTF-8, empty, or has a blank line between others.
    """
    with naming_unreadable(path, DataError):
        if not path.is_file():
            others = ", ".join(sorted(other.name for other in path.parent.glob("*.txt"))) or "no .txt file"
            raise DataError(f"{path} does not exist ({others} there)")
        content = read_bytes(path)
    if is_lfs_pointer(content[:HEAD]):
        raise DataError(f"{path} {LFS_ADVICE}")
    try:
        lines = [line.strip() for line in split_lines(content.decode("utf-8-sig"))]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    if blank := [number for number, line in enumerate(lines, start=1) if not line]:
        raise DataError(f"{path}: line {blank[0]} is blank; rows are counted by line, so none may be")
    return TextFile(path, tuple(lines))


def check_same_length(file: TextFile, other: TextFile) -> None:
    """Checks that a file has one row for each row of another.

    Raises:
      DataError: the numbers of rows differ.
    """
    if len(file) != len(other):
        raise DataError(
            f"{file.path} has {len(file)} rows but {other.path.name} has {len(other)}; they must have as many"
        )


def parse_rows(file: TextFile, width: int, numbers: Numbers) -> Int[np.ndarray, "rows width"]:
    """Returns the whole numbers of a file, int32.

    Args:
      file: the file.
      width: the number of numbers per row.
      numbers: the numbers allowed.

    Raises:
      DataError: a row is too short or too long, or something is not a whole number or out of range.

    Example:
      >>> file = TextFile(pathlib.Path("labels.txt"), ("0 1", "1 0"))
      >>> parse_rows(file, 2, Numbers("label", 0, 1)).tolist()
      [[0, 1], [1, 0]]
    """
    table = _parse_fast(file.lines, width)
    if table is None or (table.size and (table.min() < numbers.low or table.max() > numbers.high)):
        faults = join_lines(_find_faults(file.lines, width, numbers))
        raise DataError(f"{file.path}: rows that cannot be used:\n{faults}")
    return table


def _parse_fast(lines: Sequence[str], width: int) -> np.ndarray | None:
    """Parses the numbers by NumPy, which is fast but says little of faults; None: there are faults."""
    if width > 1 and len(lines[0].split()) != width:
        return None
    try:
        table = np.loadtxt(lines, dtype=np.int64, ndmin=2, comments=None)
    except (ValueError, OverflowError, DeprecationWarning):
        return None
    limits = np.iinfo(np.int32)
    if table.shape != (len(lines), width) or table.min() < limits.min or table.max() > limits.max:
        return None
    return table.astype(np.int32)


def _find_faults(lines: Sequence[str], width: int, numbers: Numbers) -> list[str]:
    """Describes the fault of each line that cannot be used."""
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
            if not numbers.low <= value <= numbers.high:
                found.append(f"line {number}: {value} is no {numbers.name}; {numbers.low} to {numbers.high}")
                break
    return found
