"""A text cut into words of the catalogue, everyday words, and words that are neither."""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

from gradrev_jax.serving.language.everyday import ABSENT, LONGEST_PHRASE, ROLES, Role, RoleKind
from gradrev_jax.serving.language.vocabulary import NOTHING, Meaning, Vocabulary
from gradrev_jax.serving.language.word_forms import Token

SpanKind = RoleKind | Literal["meaning", "ask", "unknown"]
BETWEEN = ("skip", "strength")  # may stand between an attribute's name and its value


class Span(NamedTuple):
    """Represents successive words of a text that belong together.

    Attributes:
      kind: the kind of an everyday word's ``Role``, "meaning" (of the catalogue), "ask" (perhaps of the
        catalogue) or "unknown".
      start: the position of its first token.
      stop: the position behind its last.
      factor: the factor of an everyday word.
      meaning: what the words may be in the catalogue.
    """

    kind: SpanKind
    start: int
    stop: int
    factor: float = 1.0
    meaning: Meaning = NOTHING

    @property
    def names(self) -> bool:
        """Whether the words name an attribute, and no value."""
        return self.kind == "meaning" and bool(self.meaning.attributes) and not self.meaning.values


def cut(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Span]:
    """Cuts a text into spans; of several names that begin with a word the longest is taken.

    Args:
      tokens: the words of the text.
      vocabulary: what words mean in the catalogue.
    """
    spans: list[Span] = []
    start = 0
    while start < len(tokens):
        span = _next_span(tokens, start, vocabulary, spans)
        spans.append(span)
        start = span.stop
    spans = [_less_or_also(spans, position, tokens) for position in range(len(spans))]
    return [_name_or_value(spans, position, tokens) for position in range(len(spans))]


def bind(spans: Sequence[Span], tokens: Sequence[Token]) -> dict[int, int]:
    """Returns which named attribute belongs to which value, as positions value -> name.

    "short sleeves" and "sleeves: short" both name the attribute of "short". Where names could belong to the
    values before or behind them, the reading that leaves fewest names alone is taken.

    Args:
      spans: the spans of the text.
      tokens: its words.
    """
    readings = [_bind(spans, tokens, sides) for sides in ((1, -1), (-1, 1))]
    return max(readings, key=len)


def neighbour(spans: Sequence[Span], tokens: Sequence[Token], position: int, step: int) -> int | None:
    """Returns the position of the next span that belongs to the catalogue, unless something parts the two.

    Args:
      spans: the spans of the text.
      tokens: its words.
      position: the span from which to look.
      step: 1 to look behind it, -1 to look before it.
    """
    other = position + step
    while 0 <= other < len(spans):
        if tokens[spans[max(other, other - step)].start].parted:
            return None
        if spans[other].kind == "meaning":
            return other
        if spans[other].kind not in BETWEEN and not (step < 0 and spans[other].kind == "not"):
            return None
        other += step
    return None


def _next_span(tokens: Sequence[Token], start: int, vocabulary: Vocabulary, before: Sequence[Span]) -> Span:
    if before and before[-1].names and tokens[start - 1].sets and tokens[start].word in ABSENT:
        meaning = vocabulary.meaning([tokens[start].word])
        if not set(before[-1].meaning.attributes) & {attribute for attribute, _ in meaning.values}:
            return Span("meaning", start, start + 1, meaning=before[-1].meaning._replace(absent=True))
    unit = _unit(tokens, start)
    words = [token.word for token in tokens[start : start + unit]]
    role_length, role = _longest_role(words)
    for length in range(min(unit, vocabulary.longest), 0, -1):
        if length < role_length:
            break
        meaning = vocabulary.meaning(words[:length])
        if meaning == NOTHING:
            continue
        if meaning.weak and not _weak_is_meant(tokens, start + length, meaning, before, vocabulary):
            meaning = meaning._replace(values=())
        if meaning.values or meaning.attributes:
            return Span("meaning", start, start + length, meaning=meaning)
    if role is not None:
        return Span(role.kind, start, start + role_length, role.factor)
    return Span("unknown", start, start + 1)


def _unit(tokens: Sequence[Token], start: int) -> int:
    """Returns the number of words up to where no name goes on."""
    for length, token in enumerate(tokens[start + 1 :], 1):
        if token.parted:
            return length
    return len(tokens) - start


def _longest_role(words: Sequence[str]) -> tuple[int, Role | None]:
    for length in range(min(len(words), LONGEST_PHRASE), 0, -1):
        if role := ROLES.get(tuple(words[:length])):
            return length, role
    return 0, None


def _weak_is_meant(
    tokens: Sequence[Token], stop: int, meaning: Meaning, before: Sequence[Span], vocabulary: Vocabulary
) -> bool:
    """Returns whether words as common as "no" or "m" are a value: the attribute is named beside them."""
    attributes = {attribute for attribute, _ in meaning.values}
    ends = stop == len(tokens) or tokens[stop].pause
    everyday = (tokens[stop - 1].word,) in ROLES
    last = next((span for span in reversed(before) if span.kind != "skip"), None)
    if last and last.names and attributes & set(last.meaning.attributes):
        named = tokens[last.stop - 1]
        if named.sets or ends or not everyday:
            return True
    if everyday or ends:
        return False
    return bool(attributes & set(vocabulary.meaning([tokens[stop].word]).attributes))


def _less_or_also(spans: Sequence[Span], position: int, tokens: Sequence[Token]) -> Span:
    """Decides whether "too" is of what follows, "too red", or of what came before, "red too"."""
    span = spans[position]
    if span.kind != "too":
        return span
    follows = position + 1 < len(spans) and spans[position + 1].kind == "meaning"
    return span._replace(kind="not" if follows and not tokens[span.stop].pause else "skip")


def _name_or_value(spans: Sequence[Span], position: int, tokens: Sequence[Token]) -> Span:
    """Decides whether words that could name an attribute or a value do the one or the other."""
    span = spans[position]
    if not (span.meaning.values and span.meaning.attributes):
        return span
    beside = [neighbour(spans, tokens, position, step) for step in (1, -1)]
    values = [spans[other].meaning for other in beside if other is not None]
    attributes = {
        attribute for meaning in values if not meaning.attributes for attribute, _ in meaning.values
    }
    if attributes & set(span.meaning.attributes):
        return span._replace(meaning=span.meaning._replace(values=()))
    return span._replace(meaning=span.meaning._replace(attributes=()))


def _bind(spans: Sequence[Span], tokens: Sequence[Token], sides: tuple[int, int]) -> dict[int, int]:
    bound: dict[int, int] = {}
    for position, span in enumerate(spans):
        if span.kind != "meaning" or not span.meaning.values:
            continue
        attributes = {attribute for attribute, _ in span.meaning.values}
        fits = functools.partial(_fits, spans, tokens, attributes)
        before, behind = (neighbour(spans, tokens, position, step) for step in (-1, 1))
        if before is not None and fits(before) and tokens[spans[before].stop - 1].sets:
            order = [before]
        else:
            order = [other for step in sides if (other := behind if step > 0 else before) is not None]
            order = [other for other in order if other < position or not tokens[spans[other].stop - 1].sets]
        free = [other for other in order if fits(other) and other not in bound.values()]
        if free:
            bound[position] = free[0]
    return bound


def _fits(spans: Sequence[Span], tokens: Sequence[Token], attributes: set[str], other: int) -> bool:
    """Returns whether a span names one of the attributes of a value."""
    return spans[other].names and bool(attributes & set(spans[other].meaning.attributes))
