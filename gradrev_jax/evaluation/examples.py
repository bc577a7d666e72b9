"""Chooses the queries that a report shows, and makes the picture of each."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.indicators import describe_change
from gradrev_jax.evaluation.pictures import Pictures
from gradrev_jax.evaluation.retrieval_figure import RetrievalExample
from gradrev_jax.evaluation.scores import Scores
from gradrev_jax.evaluation.short_text import shorten_all

SHOWN_NEIGHBORS = 5
SHOWN_QUERIES = 6
WORD_WIDTH = 20  # the largest width of a name or a value, in columns


def shown_matches(scores: Scores) -> Bool[np.ndarray, "Q K"]:
    """Returns whether each neighbour that is shown has all labels that were asked for."""
    shown = scores.neighbors[:, :SHOWN_NEIGHBORS]
    return (scores.labels[shown] == scores.targets[:, None]).all(axis=-1)


def pick_queries(
    candidates: Bool[np.ndarray, " Q"], changed: Bool[np.ndarray, "Q N"], *, count: int, seed: int
) -> list[int]:
    """Picks candidates so that all attributes are changed: attributes take turns, in a seeded order each.

    Args:
      candidates: whether each query may be picked, [Q].
      changed: the attributes that each query changes, [Q, N].
      count: the number of queries to pick; fewer if there are fewer candidates.
      seed: the seed of the order.

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


def retrieval_example(
    scores: Scores,
    query: int,
    schema: AttributeSchema,
    pictures: Pictures,
    name_of: Callable[[int], str],
) -> RetrievalExample:
    """Returns one query with its nearest neighbours, names and values shortened to fit into a picture.

    Args:
      scores: the queries and their answers.
      query: the row of the query in ``scores``.
      schema: the attributes.
      pictures: the pictures of the gallery.
      name_of: a function from a gallery row to the name of its image.
    """
    rows = scores.neighbors[query, :SHOWN_NEIGHBORS]
    reference, target = int(scores.reference[query]), scores.targets[query]
    schema = _shortened(schema)
    return RetrievalExample(
        query_image=np.asarray(pictures[reference]),
        query_name=name_of(reference),
        change=describe_change(scores.indicators[query], schema),
        neighbor_images=np.stack([pictures[row] for row in rows.tolist()]),
        neighbor_names=tuple(map(name_of, rows.tolist())),
        neighbor_labels=tuple(_wrong_labels(scores.labels[row], target, schema) for row in rows),
        matches=(scores.labels[rows] == target).all(axis=-1),
    )


def _shortened(schema: AttributeSchema) -> AttributeSchema:
    """Returns the same attributes and values under names that fit above a picture."""
    values = (tuple(shorten_all(values, WORD_WIDTH)) for values in schema.values)
    return AttributeSchema(tuple(shorten_all(schema.names, WORD_WIDTH)), tuple(values))


def _wrong_labels(
    labels: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " N"], schema: AttributeSchema
) -> str:
    """Returns the labels of an image that are not those asked for, as ``"color: red, sleeve: long"``."""
    words = zip(schema.names, schema.words(labels), labels != wanted, strict=True)
    return ", ".join(f"{name}: {word}" for name, word, differs in words if differs)
