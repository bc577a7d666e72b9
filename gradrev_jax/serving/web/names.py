"""Finds gallery images by a part of their names."""

from collections.abc import Sequence

from gradrev_jax.serving.web.caches import Recent

MOST_NAMES = 16  # that are kept, so that the next part of a list costs nothing


class Names:
    """Finds the rows whose names have all words of a text, in any order, in upper or lower case.

    Args:
      names: the names of the gallery's images.

    Example:
      >>> names = Names(["shirts/0001.jpg", "Shirts/0002.jpg", "shoes/0001.jpg"])
      >>> names.find("shirt"), names.find("0001 sho"), names.find(" ")
      ([0, 1], [2], range(0, 3))
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._folded: list[str] | None = None
        self._found = Recent[tuple[str, ...], Sequence[int]](MOST_NAMES)

    def find(self, text: str) -> Sequence[int]:
        """Returns the rows, in order."""
        words = tuple(sorted(set(text.casefold().split())))
        return self._found.get_or_make(words, self._search)

    def _search(self, words: tuple[str, ...]) -> Sequence[int]:
        if not words:
            return range(len(self._names))
        if self._folded is None:
            self._folded = [name.casefold() for name in self._names]
        return [row for row, name in enumerate(self._folded) if all(word in name for word in words)]
