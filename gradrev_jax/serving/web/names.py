"""Finds gallery images by a part of their names."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.search.recent import Recent

MOST_NAMES = 8  # that are kept, so that the next part of a list costs nothing


class Names:
    """Finds the rows whose names have all words of a text, in any order, in upper or lower case.

    Args:
      names: the names of the gallery's images.

    Example:
      >>> names = Names(["shirts/0001.jpg", "Shirts/0002.jpg", "shoes/0001.jpg"])
      >>> [names.find(text).tolist() for text in ("shirt", "0001 sho", " ")]
      [[0, 1], [2], [0, 1, 2]]
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._folded: list[str] | None = None
        self._found = Recent[tuple[str, ...], Int[np.ndarray, " rows"]](MOST_NAMES)

    def find(self, text: str) -> Int[np.ndarray, " rows"]:
        """Returns the rows, in order."""
        words = tuple(sorted(set(text.casefold().split())))
        return self._found.get_or_make(words, self._search)

    def _search(self, words: tuple[str, ...]) -> Int[np.ndarray, " rows"]:
        if not words:
            return np.arange(len(self._names))
        if self._folded is None:
            self._folded = [name.casefold() for name in self._names]
        return np.array(
            [row for row, name in enumerate(self._folded) if all(word in name for word in words)], np.int64
        )
