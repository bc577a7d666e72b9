"""Says which files of a cache have to go: the least recently used."""

from collections.abc import Iterable
from typing import Any


def beyond_limits(
    files: Iterable[tuple[float | int, int, Any]], *, most_bytes: int, most_files: int | None = None
) -> list[Any]:
    """Returns the least recently used files, which have to go for the others to keep within limits.

    Args:
      files: the time of each file's last use, its size in bytes, and its name.
      most_bytes: the largest size of those that stay.
      most_files: the largest number of those that stay; None: any.

    Example:
      >>> beyond_limits([(1.0, 5, "old"), (3.0, 5, "new"), (2.0, 5, "used")], most_bytes=10)
      ['old']
    """
    kept, beyond = 0, []
    for number, (_, size, name) in enumerate(sorted(files, reverse=True)):
        kept += size
        if kept > most_bytes or (most_files is not None and number >= most_files):
            beyond.append(name)
    return beyond
