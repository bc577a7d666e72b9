"""What words may mean that a catalogue does not know: misspelt names, and synonyms."""

from collections.abc import Callable, Sequence

import numpy as np

from gradrev_jax.serving.spans import Span
from gradrev_jax.serving.vocabulary import NOTHING, Meaning, Vocabulary
from gradrev_jax.serving.word_forms import Token, name_words

# (words, candidates) -> cosine similarities [words, candidates].
Similar = Callable[[list[str], list[str]], np.ndarray]
SURE, MARGIN, MAYBE = 0.6, 0.1, 0.45
MOST_OPTIONS = 4
MOST_PHRASES = 24  # phrases of one text that are compared
LONGEST_PHRASE = 3  # words


def guess(
    spans: Sequence[Span], tokens: Sequence[Token], vocabulary: Vocabulary, similar: Similar | None
) -> list[Span]:
    """Returns spans in which unknown words have the meaning of the names that they are near to.

    Clear slips of the keyboard come first, then synonyms, then slips that have to be asked about.

    Args:
      spans: the spans of the text.
      tokens: its words.
      vocabulary: what words mean in the catalogue.
      similar: the cosine similarities of words and phrases; None: no synonyms.
    """
    words = [tokens[span.start].word for span in spans]
    typos = {
        word: vocabulary.typo(word)
        for word in {word for word, span in zip(words, spans, strict=True) if span.kind == "unknown"}
    }
    guessed = []
    for word, span in zip(words, spans, strict=True):
        typo = typos.get(word, NOTHING)
        clear = len(typo.values) + len(typo.attributes) == 1
        if span.kind == "unknown" and clear and vocabulary.is_slip(word):
            span = span._replace(kind="meaning", meaning=typo)
        guessed.append(span)
    if similar is not None:
        guessed = _synonyms(guessed, tokens, vocabulary, similar)
    return [
        span._replace(kind="ask", meaning=typo)
        if span.kind == "unknown" and (typo := typos.get(tokens[span.start].word, NOTHING)).values
        else span
        for span in guessed
    ]


def _synonyms(
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
    found = {phrase: _decide(row, options) for phrase, row in zip(phrases, scores, strict=True)}
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
    """Returns an attribute and its value as words, as they are compared with other words.

    Example:
      >>> phrase_of("baseColour", "Navy Blue")
      'base colour navy blue'
    """
    return " ".join((*name_words(attribute), *name_words(value)))


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


def _decide(scores: np.ndarray, options: Sequence[tuple[str, str]]) -> tuple[str, Meaning]:
    """Returns whether a phrase is a value, perhaps one of a few, or none, and the values."""
    order = np.argsort(-scores, kind="stable")[:MOST_OPTIONS]
    best = scores[order[0]]
    if best >= SURE and (len(order) == 1 or best - scores[order[1]] >= MARGIN):
        return "meaning", Meaning(values=(options[order[0]],))
    near = tuple(options[i] for i in order if scores[i] >= MAYBE)
    return ("ask", Meaning(values=near)) if near else ("unknown", NOTHING)
