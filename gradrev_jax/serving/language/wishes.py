"""What the spans of a text ask for: values, removals, and attributes that are only named."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gradrev_jax.serving.language.clauses import list_pauses
from gradrev_jax.serving.language.everyday import WEAKER
from gradrev_jax.serving.language.spans import Span
from gradrev_jax.serving.language.vocabulary import Vocabulary
from gradrev_jax.serving.language.word_forms import Token

MOST_OPTIONS = 12  # values offered where an attribute is named and nothing else is said
JOINS = ("and", "or", "nor")
WishKind = Literal["value", "deny", "remove", "name"]
Link = Literal["or", "and", "comma", "direct", "apart"]


class Wish(NamedTuple):
    """Represents what one span asks for.

    Attributes:
      kind: "value", "deny" (of values), "remove" (of whatever value of the attribute there is) or "name" (an
        attribute, of which nothing is said).
      options: the values that may be meant, as (attribute, value); of a denial those that are not wanted.
      factor: the strength of the change.
      link: what joins it to the wish before: "or", "and", "comma", "direct" (nothing) or "apart".
      start: the position of its first token.
      stop: the position behind its last.
      sure: whether the words are those of the catalogue; otherwise they have to be asked about.
      corrections: the number of corrections before it, as "no, wait" or "but": what is wanted after one takes
        the place of what was wanted before.
    """

    kind: WishKind
    options: tuple[tuple[str, str], ...]
    factor: float
    link: Link
    start: int
    stop: int
    sure: bool = True
    corrections: int = 0

    @property
    def attribute(self) -> str | None:
        """The only attribute of the options; None if there are several."""
        attributes = {attribute for attribute, _ in self.options}
        return attributes.pop() if len(attributes) == 1 else None

    def follows(self, other: "Wish") -> bool:
        """Returns whether this wish and the one before it are for the same attribute, and joined."""
        same = self.attribute is not None and self.attribute == other.attribute
        return same and self.kind == other.kind and self.link != "apart"


def read_wishes(
    spans: Sequence[Span], tokens: Sequence[Token], bound: Mapping[int, int], vocabulary: Vocabulary
) -> list[Wish]:
    """Lists the wishes of a text, in its order.

    Args:
      spans: the spans of the text.
      tokens: its words.
      bound: which named attribute belongs to which value, as positions value -> name.
      vocabulary: what words mean in the catalogue.
    """
    options = _chosen_options(spans, tokens, bound)
    names = set(bound.values())
    members = {position: {attribute for attribute, _ in values} for position, values in options.items()}
    # Names of any attributes go together, as in "no hood, logo or collar".
    members |= {
        position: {"", *span.meaning.attributes}
        for position, span in enumerate(spans)
        if span.names and position not in names
    }
    reader = _Reader(tokens, vocabulary, list_pauses(spans, tokens, members, names))
    for position, span in enumerate(spans):
        reader.pause_before(span)
        if span.kind in ("meaning", "ask"):
            if position not in names:
                reader.read(span, options.get(position, ()))
        else:
            reader.hear(span)
    return reader.wishes


def _chosen_options(
    spans: Sequence[Span], tokens: Sequence[Token], bound: Mapping[int, int]
) -> dict[int, tuple[tuple[str, str], ...]]:
    """Returns the values that each span may mean, given the attributes that are named beside it."""
    options = {
        position: span.meaning.values
        for position, span in enumerate(spans)
        if span.kind in ("meaning", "ask") and span.meaning.values
    }
    for value, name in bound.items():
        options[value] = _of(options[value], spans[name].meaning.attributes)
    pairs = list(itertools.pairwise(sorted(options)))
    # "short or long sleeves": what is joined to a value of a named attribute is of the same attribute.
    for one, other in [*((one, other) for other, one in pairs), *pairs]:
        between = spans[min(one, other) + 1 : max(one, other)]
        joined = any(span.kind in JOINS for span in between) or tokens[spans[max(one, other)].start].slash
        if other in bound and joined and all(span.kind in (*JOINS, "skip", "strength") for span in between):
            options[one] = _of(options[one], [attribute for attribute, _ in options[other]]) or options[one]
    return options


def _of(options: Sequence[tuple[str, str]], attributes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(option for option in options if option[0] in attributes)


@dataclasses.dataclass
class _Negation:
    """Represents a word such as "no", and how far it reaches.

    Attributes:
      factor: the strength of the removals that it asks for.
      stop: the position behind its last token.
      attribute: the attribute that it has been used for; None: none yet, or one of several.
      is_used: whether it has been used.
      reaches_next_alone: whether an unknown word stands behind it, so that it reaches the span after that
        word at most.
    """

    factor: float
    stop: int
    attribute: str | None = None
    is_used: bool = False
    reaches_next_alone: bool = False


class _Reader:
    """Hears everyday words, and makes a wish of each value or name with what was heard before it."""

    def __init__(self, tokens: Sequence[Token], vocabulary: Vocabulary, list_pauses: set[int]) -> None:
        self.wishes: list[Wish] = []
        self._tokens, self._vocabulary, self._list_pauses = tokens, vocabulary, list_pauses
        self._link: Link = "apart"
        self._factors: list[float] = []
        self._corrections = 0
        self._about = ""  # "other" or "same", heard before a name
        self._negation: _Negation | None = None
        self._other: str | None = None  # the attribute of "any color", the last that was read
        self._except: str | None = None  # the same, once "but" has been heard: "any color but red"

    def pause_before(self, span: Span) -> None:
        """Ends what a comma, a dash, a bracket or the end of a sentence before a span ends."""
        if span.start in self._list_pauses:
            self._link = "or"
        elif pause := self._tokens[span.start].pause:
            # Directly behind the negation, as in "without – stripes", nothing is denied yet.
            if self._negation and self._negation.stop < span.start:
                self._negation = None
            self._factors, self._about = [], ""
            self._link = "apart" if pause == "end" else "comma" if self._link == "direct" else self._link
        if self._tokens[span.start].slash and self._link == "direct":
            self._link = "or"

    def hear(self, span: Span) -> None:
        """Takes an everyday word, or one that is unknown, into account."""
        if self._negation and self._negation.reaches_next_alone and span.kind not in ("unknown", "or"):
            self._negation = None
        if span.kind == "strength":
            self._factors.append(span.factor)
        elif span.kind in ("not", "nor"):
            self._link = "apart"
            if self._stands_alone(span):
                self._corrections += 1
            else:
                self._negation = _Negation(span.factor, span.stop)
        elif span.kind == "and" or span.kind == "or":
            self._link = span.kind if self._link != "apart" else self._link
        elif span.kind in ("other", "same"):
            self._about = span.kind
        elif span.kind == "with":
            if self._negation and self._negation.is_used:
                self._negation = None
        elif span.kind in ("but", "unknown"):
            self._except = self._other if (span.kind, self._link) == ("but", "direct") else None
            self._link = "apart"
            self._factors = []
            if span.kind == "but":
                self._corrections += 1
                self._negation = None
            elif self._negation:
                self._negation.reaches_next_alone = True

    def _stands_alone(self, span: Span) -> bool:
        """Returns whether a negation is an answer, as "no, blue", and denies nothing that follows."""
        if span.stop == len(self._tokens):
            return True
        last, following = self._tokens[span.stop - 1 : span.stop + 1]
        return following.parted or (last.word == "no" and (last.sets or following.pause == "dash"))

    def read(self, span: Span, options: tuple[tuple[str, str], ...]) -> None:
        """Makes a wish of a value, or of a name that belongs to no value."""
        self._other = None
        factors = [*self._factors, *([WEAKER] if span.meaning.weaker else [])]
        factor = min(factors, default=1.0)
        factor = factor if factor < 1 else max(factors, default=1.0)
        if options:
            self._read_value(span, options, factor)
        else:
            for attribute in span.meaning.attributes:
                self._read_name(span, attribute, factor)
        self._link, self._factors, self._about, self._except = "direct", [], "", None

    def _read_value(self, span: Span, options: tuple[tuple[str, str], ...], factor: float) -> None:
        attributes = {attribute for attribute, _ in options}
        if negation := self._negation_of(attributes):
            self._add("deny", options, min(factor, negation.factor), span)
        else:
            self._add("value", options, factor, span)

    def _read_name(self, span: Span, attribute: str, factor: float) -> None:
        absent, present = self._vocabulary.absent_value(attribute), self._vocabulary.present_value(attribute)
        values = tuple((attribute, value) for value in self._vocabulary.values_of(attribute))
        if span.meaning.absent or self._negation_of({attribute}):
            if absent is not None:
                self._add("value", ((attribute, absent),), factor, span)
            else:
                self._add("remove", values or ((attribute, ""),), factor, span)
        elif self._about == "other":
            self._add("remove", values, factor, span)
            self._other = attribute
        elif self._about == "same":
            return
        elif present is not None:
            self._add("value", ((attribute, present),), factor, span)
        else:
            self._add("name", values[:MOST_OPTIONS], factor, span)

    def _add(self, kind: WishKind, options: tuple[tuple[str, str], ...], factor: float, span: Span) -> None:
        if options:
            sure = span.kind == "meaning"
            self.wishes.append(
                Wish(kind, options, factor, self._link, span.start, span.stop, sure, self._corrections)
            )

    def _negation_of(self, attributes: set[str]) -> _Negation | None:
        """Returns the negation that reaches what comes now, and notes that it is used; None if none does."""
        if self._except is not None and attributes == {self._except}:
            self._negation = _Negation(1.0, 0)
        negation = self._negation
        if negation is None:
            return None
        goes_on = self._link == "or" or (self._link == "and" and attributes == {negation.attribute})
        if negation.is_used and not goes_on:
            self._negation = None
            return None
        negation.is_used, negation.reaches_next_alone = True, False
        negation.attribute = next(iter(attributes)) if len(attributes) == 1 else None
        return negation
