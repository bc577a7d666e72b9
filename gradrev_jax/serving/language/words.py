"""A shopper's words as changes of attributes: "but red, with long sleeves"."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.serving.changes import Change
from gradrev_jax.serving.language.clauses import settle
from gradrev_jax.serving.language.guesses import Similar, guess
from gradrev_jax.serving.language.spans import Span, bind, cut
from gradrev_jax.serving.language.vocabulary import vocabulary_of
from gradrev_jax.serving.language.wishes import Wish, read_wishes
from gradrev_jax.serving.language.word_forms import Token, tokenize

LONGEST_TEXT = 1000  # characters
HYPHENS = ("-", "_", "‐", "‑")


class Question(NamedTuple):
    """Represents words that may mean several values, of which the shopper has to choose one.

    Attributes:
      words: the words as they were written.
      options: the changes that they may mean, likeliest first; of a denial, as "too long", each of them has
        the value that is unwanted.
    """

    words: str
    options: tuple[Change, ...]


class Request(NamedTuple):
    """Represents what a shopper's words ask for.

    Attributes:
      changes: the changes, at most one per attribute.
      questions: what is to be asked back.
      unknown: the words that mean nothing in this catalogue, as they were written.
    """

    changes: tuple[Change, ...] = ()
    questions: tuple[Question, ...] = ()
    unknown: tuple[str, ...] = ()


def parse_request(text: str, schema: AttributeSchema, *, similar: Similar | None = None) -> Request:
    """Returns the changes that a text asks for, in the names of the catalogue.

    Case, accents, hyphens, plurals and single slips of the keyboard do not matter. Several values of an
    attribute are asked back, as "red with white dots", as is a value that several attributes have while none
    of them is named beside it. After a correction, as "no, wait" or "but", the last one counts. What is
    wanted outweighs what is not: "blue, not red" is blue, "not red" alone makes red unwanted. "A bit" and
    "slightly" weaken a change to the strength 0.5, "much" and "very" raise it to 1.5.

    Args:
      text: the words, at most 1,000 characters.
      schema: the attributes and their values.
      similar: the cosine similarities of words and phrases, as ``WordVectors.similar`` computes them, for
        words that the catalogue does not know; None: they are unknown.

    Raises:
      DataError: a longer text.

    Example:
      >>> schema = AttributeSchema(("color", "sleeve"), (("blue", "red"), ("long", "short", "none")))
      >>> [change[:3] for change in parse_request("but red, with long sleeves", schema).changes]
      [('color', 'red', 1.0), ('sleeve', 'long', 1.0)]
      >>> parse_request("anything but red", schema).changes
      (Change(attribute='color', to=None, strength=1.0, unwanted=('red',)),)
      >>> request = parse_request("frilly, red or blue, without sleeves", schema)
      >>> [change[:3] for change in request.changes], request.unknown
      ([('sleeve', 'none', 1.0)], ('frilly',))
      >>> [(words, [change[:2] for change in options]) for words, options in request.questions]
      [('red or blue', [('color', 'red'), ('color', 'blue')])]
    """
    if len(text) > LONGEST_TEXT:
        raise DataError(
            f"a text of {len(text):,} characters is too long, at most {LONGEST_TEXT:,} are read; shorten it",
            arguments=("text",),
        )
    text = unicodedata.normalize("NFC", text)
    vocabulary = vocabulary_of(schema)
    tokens = tokenize(text)
    spans = settle(guess(cut(tokens, vocabulary), tokens, vocabulary, similar), tokens)
    wishes = read_wishes(spans, tokens, bind(spans, tokens), vocabulary)
    changes, questions = _outcome(wishes, text, tokens)
    return Request(changes, questions, _unknown(spans, text, tokens))


def _outcome(
    wishes: Sequence[Wish], text: str, tokens: Sequence[Token]
) -> tuple[tuple[Change, ...], tuple[Question, ...]]:
    """Resolves wishes to a change of each attribute, or to a question."""
    wanted: dict[str | int, list[Wish]] = {}
    removed: dict[str, Change] = {}
    named: list[Wish] = []
    unclear: list[Wish] = []
    wishes = [_with_name(wishes, wish) for wish in wishes]
    for number, wish in enumerate(wishes):
        attribute = wish.attribute
        if wish.kind == "name":
            named.append(wish)
        elif wish.kind == "value":
            key = number if attribute is None else attribute
            earlier = wanted.pop(key, [])
            wanted[key] = [*(each for each in earlier if each.corrections == wish.corrections), wish]
        elif attribute is None or not wish.sure:
            unclear.append(wish)
        else:
            before = removed[attribute].unwanted if attribute in removed else ()
            denied = [value for _, value in wish.options] if wish.kind == "deny" else []
            removed[attribute] = Change(
                attribute, None, wish.factor, tuple(dict.fromkeys([*before, *denied]))
            )
    outcomes: list[Change | Question] = [change for name, change in removed.items() if name not in wanted]
    for several in wanted.values():
        places = _joined_places(several, wishes)
        words = " … ".join(_written(text, tokens, start, stop) for start, stop in places)
        outcomes.append(_change_or_question(several, words))
    for wish in [*(each for each in named if each.attribute not in removed), *unclear]:
        if options := tuple(change for change in _changes(wish) if change.attribute not in wanted):
            outcomes.append(Question(_written(text, tokens, wish.start, wish.stop), options))
    return (
        tuple(outcome for outcome in outcomes if isinstance(outcome, Change)),
        tuple(outcome for outcome in outcomes if isinstance(outcome, Question)),
    )


def _with_name(wishes: Sequence[Wish], wish: Wish) -> Wish:
    """Returns a wish of one attribute where several are possible and one of them is named elsewhere."""
    named = {other.attribute for other in wishes if other.kind == "name"}
    options = tuple(option for option in wish.options if option[0] in named)
    return wish._replace(options=options) if wish.attribute is None and options else wish


def _change_or_question(wishes: Sequence[Wish], words: str) -> Change | Question:
    """Returns the change that wishes for one attribute agree on, or a question where they do not."""
    options = tuple(dict.fromkeys(option for wish in wishes for option in wish.options))
    # "Shoes, formal ones": what is said once more, and closer, is no contradiction.
    agreed = tuple(option for option in options if all(option in wish.options for wish in wishes))
    options = agreed or options
    changes = _changes(wishes[-1]._replace(options=options))
    is_clear = len(changes) == 1 and any(wish.sure for wish in wishes)
    return changes[0] if is_clear else Question(words, changes)


def _changes(wish: Wish) -> tuple[Change, ...]:
    """Returns the change that each option of a wish would be."""
    if wish.kind == "deny":
        return tuple(Change(name, None, wish.factor, (value,)) for name, value in wish.options)
    return tuple(Change(name, value, wish.factor) for name, value in wish.options)


def _joined_places(several: Sequence[Wish], wishes: Sequence[Wish]) -> list[tuple[int, int]]:
    """Returns where wishes for one attribute stand, as (start, stop); those that are joined are one place."""
    places: list[tuple[int, int]] = []
    for position, wish in enumerate(several):
        before = several[position - 1] if position else None
        is_next = before is not None and wishes.index(wish) == wishes.index(before) + 1
        start = places.pop()[0] if before is not None and is_next and wish.follows(before) else wish.start
        places.append((start, wish.stop))
    return places


def _unknown(spans: Sequence[Span], text: str, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Returns the words that mean nothing, each once; words joined by a hyphen are one."""
    places = [(span.start, span.stop) for span in spans if span.kind == "unknown"]
    skipped = {span.start for span in spans if span.kind == "skip"}
    hyphened = {position for position in range(1, len(tokens)) if _between(text, tokens, position) in HYPHENS}
    # "off" of "off-shoulder", and "up" of "button-up".
    places += [(start - 1, start) for start, _ in places if start in hyphened and start - 1 in skipped]
    places += [(stop, stop + 1) for _, stop in places if stop in hyphened and stop in skipped]
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if joined and joined[-1][1] == start and start in hyphened:
            start = joined.pop()[0]
        joined.append((start, stop))
    return tuple(dict.fromkeys(_written(text, tokens, start, stop) for start, stop in joined))


def _between(text: str, tokens: Sequence[Token], position: int) -> str:
    return text[tokens[position - 1].stop : tokens[position].start]


def _written(text: str, tokens: Sequence[Token], start: int, stop: int) -> str:
    return text[tokens[start].start : tokens[stop - 1].stop]
