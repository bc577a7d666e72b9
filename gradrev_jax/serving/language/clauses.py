"""Reads a clause as a whole: "not red enough" wants red, "change red to blue" wants blue."""

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence

from gradrev_jax.serving.language.spans import Span
from gradrev_jax.serving.language.word_forms import Token

# The kind of a verb -> the words behind which stands what takes the place of what stands before them.
_LINKS = {"change": ("for", "into", "to"), "swap": ("by", "for", "into", "to", "with")}


def settle(spans: Sequence[Span], tokens: Sequence[Token]) -> list[Span]:
    """Returns spans of which those are skipped that their clause takes back.

    Args:
      spans: the spans of the text.
      tokens: its words.
    """
    settled: list[Span] = []
    for clause in _clauses(spans, tokens):
        settled += _replaced(_enough(clause), tokens)
    return settled


def list_pauses(
    spans: Sequence[Span], tokens: Sequence[Token], members: Mapping[int, set[str]], names: set[int]
) -> set[int]:
    """Returns where a list goes on behind a comma, as positions of tokens: "black, blue or grey".

    A list has commas between members that go together, and an "or", "nor" or "and" before the last.

    Args:
      spans: the spans of the text.
      tokens: its words.
      members: what each span that may be a member goes together with.
      names: the spans that name the attribute of a value, and may stand beside it.
    """
    found: set[int] = set()
    before_last: set[int] | None = None  # the commas before the last member of a list; None: there is no list
    for one, other in reversed(list(itertools.pairwise(sorted(members)))):
        kinds = {spans[position].kind for position in range(one + 1, other) if position not in names}
        kinds -= {"skip", "strength"}
        starts = [span.start for span in spans[one + 1 : other + 1] if tokens[span.start].pause]
        is_near = all(tokens[start].pause == "comma" for start in starts)
        alike = bool(members[one] & members[other])
        if is_near and (kinds in ({"or"}, {"nor"}) or (kinds == {"and"} and alike)):
            before_last = set(starts)
        elif is_near and starts and alike and not kinds and before_last is not None:
            found |= before_last.union(starts)
        else:
            before_last = None
    return found


def _clauses(spans: Sequence[Span], tokens: Sequence[Token]) -> Iterator[list[Span]]:
    """Cuts a text at its pauses, and where "but" begins something new."""
    clause: list[Span] = []
    for span in spans:
        if clause and (tokens[span.start].pause or span.kind == "but"):
            yield clause
            clause = []
        clause.append(span)
    yield clause


def _enough(clause: Sequence[Span]) -> list[Span]:
    """Returns a clause in which "enough" has taken back the negation before it, as in "not red enough"."""
    settled = list(clause)
    negation = None
    for position, span in enumerate(clause):
        if span.kind == "not":
            negation = position
        elif span.kind in ("and", "with"):
            negation = None
        elif span.kind == "enough":
            settled[position] = _skipped(span)
            if negation is not None:
                settled[negation] = _skipped(clause[negation])
    return settled


def _replaced(clause: Sequence[Span], tokens: Sequence[Token]) -> list[Span]:
    """Returns a clause without the values that others take the place of, as red of "change red to blue"."""
    settled = list(clause)
    # The attributes of each span and of all behind it, and the words that link what is replaced to them.
    behind = list(itertools.accumulate(map(_attributes, reversed(clause)), operator.or_))[::-1]
    links: set[str] = set()
    for position, span in enumerate(clause):
        links.update(_LINKS.get(span.kind, ()))
        following = range(position + 1, len(clause))
        link = next((other for other in following if tokens[clause[other].start].word in links), None)
        replaced: set[str] = set() if link is None else behind[link]
        if span.kind == "swap" and not replaced:
            settled[position] = span._replace(kind="not")  # "replace the stripes", and by nothing
        elif span.kind in _LINKS or (span.meaning.values and _attributes(span) & replaced):
            settled[position] = _skipped(span)
    return settled


def _attributes(span: Span) -> set[str]:
    """Returns the attributes that a span names, or has a value of."""
    return {*span.meaning.attributes, *(attribute for attribute, _ in span.meaning.values)}


def _skipped(span: Span) -> Span:
    return Span("skip", span.start, span.stop)
