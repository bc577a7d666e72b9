"""What words may mean that a catalogue does not know: misspelt names, and synonyms."""

from collections.abc import Callable, Sequence

import numpy as np

from gradrev_jax.serving.language.spans import Span, SpanKind
from gradrev_jax.serving.language.synonyms import synonym
from gradrev_jax.serving.language.vocabulary import NOTHING, Meaning, Vocabulary, joined_meaning
from gradrev_jax.serving.language.word_forms import Token, name_words

# (words, candidates) -> cosine similarities [words, candidates].
Similar = Callable[[list[str], list[str]], np.ndarray]
# Chosen with the 113 words of tests/serving/language/test_synonyms.py: none is taken for what it is not.
SURE, MARGIN, MAYBE = 0.6, 0.05, 0.5
MOST_OPTIONS = 4
MOST_PHRASES = 24  # phrases of one text that are compared
LONGEST_PHRASE = 3  # words


def guess(
    spans: Sequence[Span], tokens: Sequence[Token], vocabulary: Vocabulary, similar: Similar | None
) -> list[Span]:
    """Returns spans in which unknown words have the meaning of the names that they are near to.

    Synonyms that are written down come first, then clear slips of the keyboard, then words that are similar,
    then slips that have to be asked about. A part of longer names, as "pants" of "Track Pants", may mean its
    synonym as well, as "Trousers".

    Args:
      spans: the spans of the text.
      tokens: its words.
      vocabulary: what words mean in the catalogue.
      similar: the cosine similarities of words and phrases; None: no synonyms.
    """
    guessed = [_named(span, tokens[span.start].word, vocabulary) for span in spans]
    if similar is not None:
        guessed = _similar(guessed, tokens, vocabulary, similar)
    return [_asked(span, tokens[span.start].word, vocabulary) for span in guessed]


def _named(span: Span, word: str, vocabulary: Vocabulary) -> Span:
    """Returns a span with the meaning of an unknown word that is a known synonym, or a clear slip."""
    if span.meaning.part and span.meaning.values:
        also = synonym(word, vocabulary, wider=False)
        return span if also.part else span._replace(meaning=joined_meaning(also, span.meaning))
    if span.kind != "unknown":
        return span
    if (meaning := synonym(word, vocabulary)) != NOTHING:
        return span._replace(kind="meaning", meaning=meaning)
    meaning = vocabulary.typo(word)
    clear = len(meaning.values) + len(meaning.attributes) == 1 and vocabulary.is_slip(word)
    return span._replace(kind="meaning", meaning=meaning) if clear else span


def _asked(span: Span, word: str, vocabulary: Vocabulary) -> Span:
    """Returns a span that asks whether an unknown word is meant to be what it is near to."""
    if span.kind == "unknown" and (meaning := vocabulary.typo(word)).values:
        return span._replace(kind="ask", meaning=meaning)
    return span


def _similar(
    spans: Sequence[Span], tokens: Sequence[Token], vocabulary: Vocabulary, similar: Similar
) -> list[Span]:
    """Returns spans in which synonyms, of one word or several, have the meaning of what they are near to."""
    runs = _runs(spans, tokens)
    phrases = list(dict.fromkeys(_text(tokens, start, stop) for start, stop in runs))[:MOST_PHRASES]
    if not phrases:
        return list(spans)
    schema = vocabulary.schema
    options = [
        (name, value) for name, values in zip(schema.names, schema.values, strict=True) for value in values
    ]
    scores = np.asarray(similar(phrases, [phrase_of(*option) for option in options]))
    found = {phrase: decide(row, options) for phrase, row in zip(phrases, scores, strict=True)}
    taken: dict[int, Span] = {}
    for kinds in (("meaning",), ("ask",)):
        for start, stop in runs:
            kind, meaning = found.get(_text(tokens, start, stop), ("unknown", NOTHING))
            if kind in kinds and not any(at.start < stop and start < at.stop for at in taken.values()):
                taken[start] = Span(kind, start, stop, meaning=meaning)
    covered = {position for span in taken.values() for position in range(span.start, span.stop)}
    rest = [span for span in spans if span.start not in covered]
    return sorted([*rest, *taken.values()], key=lambda span: span.start)


def phrase_of(attribute: str, value: str) -> str:
    """Returns a value and its attribute as words, as they are compared with other words.

    Example:
      >>> phrase_of("baseColour", "Navy Blue")
      'navy blue base colour'
    """
    return " ".join((*name_words(value), *name_words(attribute)))


def _runs(spans: Sequence[Span], tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Returns the places of unknown words, several in a row before single ones."""
    unknown = {span.start for span in spans if span.kind == "unknown"}
    runs = []
    for length in range(LONGEST_PHRASE, 0, -1):
        for start in sorted(unknown):
            words = range(start, start + length)
            if unknown.issuperset(words) and not any(tokens[word].pause for word in words[1:]):
                runs.append((start, start + length))
    return runs


def _text(tokens: Sequence[Token], start: int, stop: int) -> str:
    return " ".join(token.word for token in tokens[start:stop])


def decide(scores: np.ndarray, options: Sequence[tuple[str, str]]) -> tuple[SpanKind, Meaning]:
    """Returns whether a phrase is a value ("meaning"), perhaps one ("ask") or none ("unknown"), and which.

    Args:
      scores: its cosine similarities with all values.
      options: the values, as (attribute, value).

    Example:
      >>> decide(np.array([0.2, 0.7]), [("color", "red"), ("color", "blue")])[0]
      'meaning'
    """
    order = np.argsort(-scores, kind="stable")[:MOST_OPTIONS]
    best = scores[order[0]]
    if best >= SURE and (len(order) == 1 or best - scores[order[1]] >= MARGIN):
        return "meaning", Meaning(values=(options[order[0]],))
    near = tuple(options[i] for i in order if scores[i] >= MAYBE)
    return ("ask", Meaning(values=near)) if near else ("unknown", NOTHING)
