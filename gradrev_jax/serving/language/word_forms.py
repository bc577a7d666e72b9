"""The forms of a word: its pieces in a text, its stem, and how far it is from another."""

import re
import unicodedata
from typing import NamedTuple

# A minus stands directly before a word and inside none, as in "dress -stripes".
_WORD = re.compile(r"(?<![^\s(,:=])[-−](?=[^\W_])|[^\W_]+(?:['’][^\W_]+)*")
_SIGNS = {"-": "minus", "−": "minus"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_END = re.compile(r"[;!?\n()]|\.(?=\s|$)")
_DASH = re.compile(r"\s-+\s|[–—―]")
_ACCENT = re.compile("[\u0300-\u036f]")
_IRREGULAR = {
    "women": "woman", "men": "man", "children": "child", "kids": "kid", "feet": "foot", "colour": "color",
    "colours": "color", "coloured": "color", "colored": "color", "gray": "grey", "gentlemen": "gentleman",
}  # fmt: skip
# Garments whose singular is another word.
_PLURAL_ONLY = frozenset(("briefs", "flats", "glasses", "shorts", "tights"))
_VOWELS = "aeiou"


class Token(NamedTuple):
    """Represents a word of a text.

    Attributes:
      word: the word, in lower case and without a possessive ending.
      start: the position of its first character.
      stop: the position behind its last.
      pause: what comes before it: "end" of a sentence or a bracket, "comma", "dash", or "".
      sets: whether a colon or an equals sign comes directly after it.
      slash: whether a slash or an ampersand comes before it.
    """

    word: str
    start: int
    stop: int
    pause: str
    sets: bool
    slash: bool

    @property
    def parted(self) -> bool:
        """Returns whether no name goes on with it, nor what belongs to one; behind a dash it may."""
        return self.pause in ("end", "comma")


def tokenize(text: str) -> tuple[Token, ...]:
    """Returns the words of a text; hyphens, underscores and all other signs separate them.

    A minus directly before a word is a word, too.

    Args:
      text: the text.

    Example:
      >>> [token.word for token in tokenize("But RED, with women's T-shirt -stripes")]
      ['but', 'red', 'with', 'women', 't', 'shirt', 'minus', 'stripes']
    """
    tokens, end = [], 0
    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        end = match.end()
        word = _SIGNS.get(match.group(), match.group())
        word = _ACCENT.sub("", unicodedata.normalize("NFKD", word)).casefold().replace("’", "'")
        tokens.append(
            Token(
                word=word.removesuffix("'s") or word,
                start=match.start(),
                stop=end,
                pause=_pause(between),
                sets=text[end : end + 3].lstrip()[:1] in (":", "="),
                slash="/" in between or "&" in between,
            )
        )
    return tuple(tokens)


def _pause(between: str) -> str:
    """Returns the pause that the signs between two words make."""
    if _END.search(between):
        return "end"
    if "," in between:
        return "comma"
    return "dash" if _DASH.search(between) else ""


def name_words(name: str) -> tuple[str, ...]:
    """Returns the words of a catalogue's name, which may be in camel case.

    Example:
      >>> name_words("baseColour"), name_words("Navy-blue"), name_words("sleeve_length")
      (('base', 'colour'), ('navy', 'blue'), ('sleeve', 'length'))
    """
    return tuple(token.word for token in tokenize(unicodedata.normalize("NFC", _CAMEL.sub(" ", name))))


def stem(word: str) -> str:
    """Returns the stem that the forms of an English word share; it need not be a word.

    Example:
      >>> [stem(word) for word in ("dress", "dresses", "striped", "stripes", "ties", "scarves", "women")]
      ['dress', 'dress', 'strip', 'strip', 'ti', 'scarf', 'woman']
    """
    word = _IRREGULAR.get(word, word)
    if len(word) < 3 or word in _PLURAL_ONLY:
        return word
    if word.endswith(("sses", "ches", "shes", "xes", "zes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ed") and len(word) > 4 and not word.endswith("eed"):
        word = _undoubled(word[:-2])
    word = _IRREGULAR.get(word, word)
    if word.endswith("ie"):
        word = word[:-1]
    elif word.endswith("y") and word[-2:-1] not in _VOWELS:
        word = word[:-1] + "i"
    elif word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "f" if word.endswith("v") else word


def lesser_forms(word: str) -> tuple[tuple[str, bool], ...]:
    """Returns the adjective of a comparative, and whether its ending weakens it, as in "reddish".

    Example:
      >>> lesser_forms("redder"), lesser_forms("reddish"), lesser_forms("red")
      ((('red', False), ('redd', False)), (('red', True), ('redd', True)), ())
    """
    for ending, weaker in (("ish", True), ("er", False), ("est", False)):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3:
            return tuple((form, weaker) for form in dict.fromkeys((_undoubled(base), base)))
    return ()


def distance(one: str, other: str, most: int) -> int:
    """Returns how many slips lead from one word to another: letters more, less, replaced, or two swapped.

    Args:
      one: a word.
      other: another word.
      most: the largest distance of interest; larger ones are ``most + 1``.

    Example:
      >>> distance("bleu", "blue", 2), distance("grene", "green", 2), distance("red", "yellow", 2)
      (1, 1, 3)
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, against in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def _undoubled(word: str) -> str:
    """Returns a word without the doubling of its last letter, as "redd" of "redder"."""
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl" else word
