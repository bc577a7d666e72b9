"""A shopper's words as changes of attributes: "but red, with long sleeves"."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.serving.changes import Change
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
      options: what they may mean, as (attribute, value), likeliest first.
    """

    words: str
    options: tuple[tuple[str, str], ...]


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

    Case, accents, hyphens, plurals and single slips of the keyboard do not matter. Of several values of an
    attribute the last one counts, unless they are joined by "or", "and" or nothing at all: then they are
    asked back, as is a value that several attributes have while none of them is named beside it. What is
    wanted outweighs what is not: "blue, not red" is blue, "not red" alone makes red unwanted. "A bit" and
    "slightly" weaken a change to the strength 0.5, "much" and "very" raise it to 1.5.

    Args:
      text: the words, at most 1,000 characters.
      schema: the attributes and their values.
      similar: the cosine similarities of words and phrases, as ``word_vectors.load_similar`` returns it, for
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
      >>> request.questions
      (Question(words='red or blue', options=(('color', 'red'), ('color', 'blue'))),)
    """
    if len(text) > LONGEST_TEXT:
        raise DataError(
            f"a text of {len(text):,} characters is too long, at most {LONGEST_TEXT:,} are read; shorten it",
            arguments=("text",),
        )
    text = unicodedata.normalize("NFC", text)
    vocabulary = vocabulary_of(schema)
    tokens = tokenize(text)
    spans = guess(cut(tokens, vocabulary), tokens, vocabulary, similar)
    wishes = read_wishes(spans, tokens, bind(spans, tokens), vocabulary)
    changes, questions = _outcome(wishes, text, tokens)
    return Request(changes, questions, _unknown(spans, wishes, text, tokens))


def _outcome(
    wishes: Sequence[Wish], text: str, tokens: Sequence[Token]
) -> tuple[tuple[Change, ...], tuple[Question, ...]]:
    """Resolves wishes to the last change of each attribute, or to a question."""
    wanted: dict[str | int, Change | Question] = {}
    removed: dict[str, Change] = {}
    named: list[Wish] = []
    chain: list[Wish] = []
    for number, wish in enumerate(map(functools.partial(_with_name, wishes), wishes)):
        chain = [*chain, wish] if chain and wish.follows(chain[-1]) else [wish]
        attribute = wish.attribute
        if wish.kind == "name":
            named.append(wish)
        elif wish.kind in ("deny", "remove") and attribute is not None:
            before = removed[attribute].unwanted if attribute in removed else ()
            denied = [value for _, value in wish.options] if wish.kind == "deny" else []
            removed[attribute] = Change(
                attribute, None, wish.factor, tuple(dict.fromkeys([*before, *denied]))
            )
        elif wish.kind == "value":
            key = number if attribute is None else attribute
            wanted.pop(key, None)
            wanted[key] = _last_or_question(chain, text, tokens)
    for wish in named:
        if wish.attribute not in (*wanted, *removed):
            words = _written(text, tokens, wish.start, wish.stop)
            wanted[len(wishes) + wish.start] = Question(words, wish.options)
    outcomes = [*(change for name, change in removed.items() if name not in wanted), *wanted.values()]
    return (
        tuple(outcome for outcome in outcomes if isinstance(outcome, Change)),
        tuple(outcome for outcome in outcomes if isinstance(outcome, Question)),
    )


def _with_name(wishes: Sequence[Wish], wish: Wish) -> Wish:
    """Returns a wish of one attribute where several are possible and one of them is named elsewhere."""
    named = {other.attribute for other in wishes if other.kind == "name"}
    options = tuple(option for option in wish.options if option[0] in named)
    return wish._replace(options=options) if wish.attribute is None and options else wish


def _last_or_question(chain: Sequence[Wish], text: str, tokens: Sequence[Token]) -> Change | Question:
    """Returns the last of some wishes for an attribute, or a question where it is unclear which is meant."""
    if any(wish.link != "comma" for wish in chain[1:]):
        options = tuple(dict.fromkeys(option for wish in chain for option in wish.options))
    else:
        options = chain[-1].options
        chain = chain[-1:]
    if len(options) > 1 or not chain[-1].sure:
        return Question(_written(text, tokens, chain[0].start, chain[-1].stop), options)
    return Change(*options[0], chain[-1].factor)


def _unknown(
    spans: Sequence[Span], wishes: Sequence[Wish], text: str, tokens: Sequence[Token]
) -> tuple[str, ...]:
    """Returns the words that mean nothing, each once; words joined by a hyphen are one."""
    places = [(span.start, span.stop) for span in spans if span.kind == "unknown"]
    skipped = {span.start for span in spans if span.kind == "skip"}
    hyphened = {position for position in range(1, len(tokens)) if _between(text, tokens, position) in HYPHENS}
    # "off" of "off-shoulder", and "up" of "button-up".
    places += [(start - 1, start) for start, _ in places if start in hyphened and start - 1 in skipped]
    places += [(stop, stop + 1) for _, stop in places if stop in hyphened and stop in skipped]
    places += [(wish.start, wish.stop) for wish in wishes if wish.kind == "unclear"]
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
