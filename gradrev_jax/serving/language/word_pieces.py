"""WordPiece: a text as the numbers of the pieces of words that a text model knows."""

import unicodedata
from collections.abc import Sequence

LONGEST_WORD = 100  # characters; a longer word is unknown as a whole
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieces:
    """The pieces that a model knows; those that go on with a word begin with ``##``.

    Args:
      vocabulary: the pieces, in the order of their numbers, with ``[CLS]``, ``[SEP]`` and ``[UNK]``.
      most: the largest number of pieces of a text; what is beyond is left out.

    Raises:
      KeyError: one of the three is missing.

    Example:
      >>> pieces = WordPieces(["[UNK]", "[CLS]", "[SEP]", "crimson", "t", "-", "shirt", "##s"], 8)
      >>> pieces.numbers("Crimson T-shirts")
      [1, 3, 4, 5, 6, 7, 2]
    """

    def __init__(self, vocabulary: Sequence[str], most: int) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._begin, self._end, self._unknown = (self._numbers[name] for name in ("[CLS]", "[SEP]", "[UNK]"))
        self._most = most
        self._longest = max(map(len, vocabulary))

    def numbers(self, text: str) -> list[int]:
        """Returns the numbers of a text's pieces, between those of ``[CLS]`` and ``[SEP]``.

        Args:
          text: the text, in any case.
        """
        found = [number for word in _words(text) for number in self._pieces(word)]
        return [self._begin, *found[: self._most - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        """Returns the longest known beginning of a word, and so on with its rest."""
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        numbers, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            stops = range(min(len(word), start + self._longest), start, -1)
            stop = next((stop for stop in stops if prefix + word[start:stop] in self._numbers), None)
            if stop is None:
                return [self._unknown]
            numbers.append(self._numbers[prefix + word[start:stop]])
            start = stop
        return numbers


def _words(text: str) -> list[str]:
    """Returns the words of a text in lower case without accents; signs and ideographs are words."""
    spaced = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if category == "Mn" or character in ("\0", "\ufffd"):
            continue
        if character.isspace():
            spaced.append(" ")
        elif category in ("Cc", "Cf", "Co"):
            continue
        elif _is_sign(character, category) or _is_ideograph(character):
            spaced.append(f" {character} ")
        else:
            spaced.append(character)
    return "".join(spaced).split()


def _is_sign(character: str, category: str) -> bool:
    """Returns whether a character is punctuation; of ASCII's, all that is neither letter nor digit is."""
    return category[0] == "P" or (character.isascii() and not character.isalnum())


def _is_ideograph(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
