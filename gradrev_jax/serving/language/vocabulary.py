"""The words that a catalogue's attributes and values are called by."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.serving.language import everyday
from gradrev_jax.serving.language.everyday import ROLES
from gradrev_jax.serving.language.word_forms import distance, lesser_forms, name_words, stem

SHORTEST_TYPO = 4  # letters of a name that may be misspelt; shorter ones are too near to other words
SHORTEST_START = 4  # letters that may stand for a longer name, as "neck" for "neckline"
LONG = 8  # letters from which two slips are still the same word


class Meaning(NamedTuple):
    """Represents what words of a text may be in a catalogue.

    Attributes:
      values: the values, as (attribute, value).
      attributes: the attributes that the words name.
      weak: whether the words are too common to be meant unless an attribute beside them says so.
      weaker: whether an ending weakens them, as in "reddish".
      absent: whether they say that the attribute is absent, as "collarless".
      part: whether they are a part of longer names alone, as "pants" of "track pants".
    """

    values: tuple[tuple[str, str], ...] = ()
    attributes: tuple[str, ...] = ()
    weak: bool = False
    weaker: bool = False
    absent: bool = False
    part: bool = False


NOTHING = Meaning()


class Vocabulary:
    """What words mean in one catalogue: whole names first, then stems, then parts of names.

    Args:
      schema: the attributes and their values.

    Example:
      >>> schema = AttributeSchema(("color", "sleeve"), (("Navy Blue", "red"), ("long", "none")))
      >>> vocabulary = Vocabulary(schema)
      >>> vocabulary.meaning(["navy", "blue"]).values
      (('color', 'Navy Blue'),)
      >>> vocabulary.meaning(["sleeves"]).attributes, vocabulary.typo("navvy")
      (('sleeve',), Meaning(values=(('color', 'Navy Blue'),)...)
      >>> vocabulary.absent_value("sleeve")
      'none'
    """

    def __init__(self, schema: AttributeSchema) -> None:
        self.schema = schema
        self._exact: dict[str, Meaning] = {}
        self._stems: dict[str, Meaning] = {}
        self._parts: dict[str, Meaning] = {}
        self._starts: dict[str, Meaning] = {}
        self.longest = 1
        self._add_names()
        self._add_parts()
        self._by_start: dict[str, list[str]] = {}
        for key in dict.fromkeys([*self._exact, *self._parts]):
            if len(key) >= SHORTEST_TYPO and key not in everyday.PRESENT + everyday.ABSENT:
                self._by_start.setdefault(key[0], []).append(key)

    def meaning(self, words: Sequence[str]) -> Meaning:
        """Returns the meaning of a word, or of several in a row; ``NOTHING`` if there is none.

        Args:
          words: the words, as ``tokenize`` has them.
        """
        key = "".join(words)
        found = self._exact.get(key) or self._stems.get("".join(map(stem, words)))
        if found or len(words) > 1:
            return found or NOTHING
        if tuple(words) in ROLES:
            return NOTHING
        parts, starts = (table.get(key) or table.get(stem(key)) for table in (self._parts, self._starts))
        if parts or starts:
            return _part(joined_meaning(parts or NOTHING, starts or NOTHING))
        for form, weaker in lesser_forms(key):
            if found := self._exact.get(form) or self._stems.get(stem(form)):
                return found._replace(weaker=weaker, attributes=())
        if key.endswith("less"):
            named = self.meaning([key[:-4]]).attributes
            return Meaning(attributes=named, absent=True) if named else NOTHING
        return NOTHING

    def typo(self, word: str) -> Meaning:
        """Returns the meaning of a word if it is misspelt; its first letter is taken as right.

        Args:
          word: the word.
        """
        if len(word) < SHORTEST_TYPO or word in everyday.NEVER_TYPOS:
            return NOTHING
        most = 1 if len(word) < LONG else 2
        near = [(_slips(word, key, most), key) for key in self._by_start.get(word[0], ())]
        best = min((cost for cost, _ in near), default=most + 1)
        if best > most:
            return NOTHING
        keys = [key for cost, key in near if cost == best]
        whole = [self._exact[key] for key in keys if key in self._exact]
        return functools.reduce(joined_meaning, whole or [self._parts[key] for key in keys])

    def is_slip(self, word: str) -> bool:
        """Returns whether a misspelt word can be taken for the name that it is near to without asking.

        A letter replaced in a short word often makes another word, as "shirt" of "skirt"; a letter too many
        or too few, or two swapped, seldom do.

        Args:
          word: a word that ``typo`` knows.
        """
        keys = self._by_start.get(word[0], ())
        forms = [form for key in keys for form in (key, f"{key}s") if distance(word, form, 1) <= 1]
        return len(word) >= LONG or any(
            len(form) != len(word) or sorted(form) == sorted(word) for form in forms
        )

    def absent_value(self, attribute: str) -> str | None:
        """Returns the value that says that an attribute is absent, as "sleeveless"; None without one.

        Args:
          attribute: the name of the attribute.
        """
        words = name_words(attribute)
        heads = {"".join(words), *words} | {stem(word) for word in words}
        names = [f"{head}less" for head in sorted(heads)] + [f"no{head}" for head in sorted(heads)]
        plain = everyday.PLAIN if heads & set(everyday.PATTERNS) else ()
        return self._first_value(attribute, [*map("".join, map(str.split, everyday.ABSENT)), *names, *plain])

    def present_value(self, attribute: str) -> str | None:
        """Returns the value that says that an attribute is there, for instance "yes"; None without one.

        Args:
          attribute: the name of the attribute.
        """
        return self._first_value(attribute, everyday.PRESENT)

    def values_of(self, attribute: str) -> tuple[str, ...]:
        """Returns the values of an attribute, without the one that says that it is absent.

        Args:
          attribute: the name of the attribute.
        """
        absent = self.absent_value(attribute)
        values = self.schema.values[self.schema.names.index(attribute)]
        return tuple(value for value in values if value != absent)

    def _first_value(self, attribute: str, keys: Iterable[str]) -> str | None:
        values = self.schema.values[self.schema.names.index(attribute)]
        by_key = {key: value for value in reversed(values) for key in _keys(name_words(value))}
        return next((by_key[key] for key in keys if key in by_key), None)

    def _add_names(self) -> None:
        for attribute, values in zip(self.schema.names, self.schema.values, strict=True):
            words = name_words(attribute)
            self._add(words, Meaning(attributes=(attribute,)))
            for value in values:
                words = name_words(value)
                weak = words in ROLES or len("".join(words)) == 1 or " ".join(words) in WEAK
                self._add(words, Meaning(values=((attribute, value),), weak=weak))

    def _add(self, words: Sequence[str], meaning: Meaning) -> None:
        if not words:
            return
        # Joined and apart, so that "t-shirt" is "tshirt" and "navyblue" is "navy blue".
        self.longest = max(self.longest, len(words) + 1)
        exact, stemmed = _keys(words)
        self._exact[exact] = joined_meaning(self._exact.get(exact, NOTHING), meaning)
        self._stems[stemmed] = joined_meaning(self._stems.get(stemmed, NOTHING), meaning)

    def _add_parts(self) -> None:
        """Adds words of names of several words, and beginnings of attributes' names."""
        for attribute, values in zip(self.schema.names, self.schema.values, strict=True):
            words = name_words(attribute)
            for word in words if len(words) > 1 else ():
                self._add_part(self._parts, word, Meaning(attributes=(attribute,)))
            for length in range(SHORTEST_START, len(words[0]) if words else 0):
                self._add_part(self._starts, words[0][:length], Meaning(attributes=(attribute,)))
            for value in values:
                parts = name_words(value)
                for part in parts if len(parts) > 1 else ():
                    self._add_part(self._parts, part, Meaning(values=((attribute, value),)))

    @staticmethod
    def _add_part(table: dict[str, Meaning], word: str, meaning: Meaning) -> None:
        if len(word) >= 3 and (word,) not in ROLES:
            for key in dict.fromkeys((word, stem(word))):
                table[key] = joined_meaning(table.get(key, NOTHING), meaning)


WEAK = frozenset((*everyday.ABSENT, *everyday.PRESENT))


@functools.lru_cache(maxsize=64)
def vocabulary_of(schema: AttributeSchema) -> Vocabulary:
    """Returns the vocabulary of a catalogue, made once.

    Args:
      schema: the attributes and their values.
    """
    return Vocabulary(schema)


def _part(meaning: Meaning) -> Meaning:
    """Returns the meaning of a part of names; of an attribute and its own values, it names the attribute."""
    values = tuple(option for option in meaning.values if option[0] not in meaning.attributes)
    return meaning._replace(values=values, part=True)


def _slips(word: str, key: str, most: int) -> int:
    """Returns the distance of a word from a name or from its plural."""
    return min(distance(word, key, most), distance(word, f"{key}s", most) if word.endswith("s") else most + 1)


def _keys(words: Sequence[str]) -> tuple[str, str]:
    """Returns the key of a name as it is written and that of its words' stems."""
    return "".join(words), "".join(map(stem, words))


def joined_meaning(one: Meaning, other: Meaning) -> Meaning:
    """Returns a meaning with the values and attributes of two.

    Args:
      one: a meaning.
      other: another one.
    """
    return one._replace(
        values=tuple(dict.fromkeys(one.values + other.values)),
        attributes=tuple(dict.fromkeys(one.attributes + other.attributes)),
        weak=one.weak or other.weak,
    )
