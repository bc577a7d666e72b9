"""Queries to look at: the picture of one, and which of a report's to show."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import describe_change
from gradrev_jax.evaluation.figures import RetrievalExample
from gradrev_jax.evaluation.scores import Scores
from gradrev_jax.evaluation.short_text import shorten_all

SHOWN_NEIGHBORS = 5
SHOWN_QUERIES = 6
WORD = 20  # columns that a name or a value takes at most


def shown_matches(scores: Scores) -> Bool[np.ndarray, "Q K"]:
    """Which of the neighbours shown have all labels that were asked for."""
    shown = scores.neighbors[:, :SHOWN_NEIGHBORS]
    return (scores.labels[shown] == scores.targets[:, None]).all(axis=-1)


def pick_queries(
    candidates: Bool[np.ndarray, " Q"], changed: Bool[np.ndarray, "Q N"], *, count: int, seed: int
) -> list[int]:
    """Some of the candidates, changes of every kind: attributes take turns, each in a seeded order.

    Example:
      >>> changed = np.array([[True, False]] * 3 + [[False, True]])
      >>> sorted(pick_queries(np.array([False, True, True, True]), changed, count=2, seed=0))[1]
      3
    """
    order = np.random.default_rng(seed).permutation(len(candidates))
    shuffled = order[candidates[order]]
    turn = np.zeros(len(shuffled), int)
    for n in range(changed.shape[1]):
        same = changed[shuffled, n]
        turn[same] = np.arange(same.sum())
    return shuffled[np.argsort(turn, kind="stable")][:count].tolist()


def show_query(
    scores: Scores,
    query: int,
    schema: AttributeSchema,
    images: UInt8[np.ndarray, "G S S 3"],
    name_of: Callable[[int], str],
) -> RetrievalExample:
    """One query with its nearest neighbours, names and values as short as pictures need them.

    Args:
      scores: what was asked and found.
      query: which.
      schema: the attributes.
      images: of the gallery.
      name_of: gallery row -> what the image is called.
    """
    rows = scores.neighbors[query, :SHOWN_NEIGHBORS]
    reference, target = int(scores.reference[query]), scores.targets[query]
    schema = _shortened(schema)
    return RetrievalExample(
        query_image=np.asarray(images[reference]),
        query_name=name_of(reference),
        change=describe_change(scores.indicators[query], schema),
        neighbor_images=np.asarray(images[rows]),
        neighbor_names=tuple(map(name_of, rows.tolist())),
        neighbor_labels=tuple(_differences(scores.labels[row], target, schema) for row in rows),
        matches=(scores.labels[rows] == target).all(axis=-1),
    )


def _shortened(schema: AttributeSchema) -> AttributeSchema:
    """Returns the same attributes and values under names that fit above a picture."""
    values = (tuple(shorten_all(values, WORD)) for values in schema.values)
    return AttributeSchema(tuple(shorten_all(schema.names, WORD)), tuple(values))


def _differences(
    labels: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " N"], schema: AttributeSchema
) -> str:
    """What of a garment is not as asked for, as ``"color: red, sleeve: long"``."""
    words = zip(schema.names, schema.words(labels), labels != wanted, strict=True)
    return ", ".join(f"{name}: {word}" for name, word, differs in words if differs)
