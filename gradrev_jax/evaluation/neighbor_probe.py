"""A nearest-neighbour probe of features, in the metric of retrieval."""

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema

QUERIES = 512  # whose distances are held at a time
CANDIDATES = 128  # nearest images of a query that are sorted at first


def predict_by_neighbors(
    features: Float[np.ndarray, "m d"],
    labels: Int[np.ndarray, "m N"],
    fold: Int[np.ndarray, " M"],
    schema: AttributeSchema,
    neighbors: int = 10,
) -> Int[np.ndarray, "M N"]:
    """Predicts labels by a vote of the nearest images of other folds that are labelled.

    The distance is Euclidean, computed in float64, between features as they are. A tie goes to the value with
    the nearer voters. Of fewer labelled images than ``neighbors``, all vote.

    Args:
      features: one feature of all images, test images first.
      labels: the labels of all images, -1 = not labelled.
      fold: the fold of each test image; the images after them are in none.
      schema: the attributes.
      neighbors: the number of images that vote.

    Returns:
      The predicted values; -1 where no other image is labelled.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> features, labels = np.array([[0.0], [0.1], [1.0], [1.1]]), np.array([[0], [0], [1], [-1]])
      >>> predict_by_neighbors(features, labels, np.arange(4), schema, neighbors=1)[:, 0].tolist()
      [0, 0, 0, 1]
    """
    gallery = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    norms = np.square(gallery).sum(axis=1)
    found = []
    for start in range(0, len(fold), QUERIES):
        some = slice(start, min(start + QUERIES, len(fold)))
        distances = norms - 2 * gallery[some] @ gallery.T
        distances[:, : len(fold)][fold[some, None] == fold] = np.inf
        found.append(_vote(distances, labels, schema, neighbors))
    return np.concatenate(found)


def _vote(
    distances: Float[np.ndarray, "Q m"],
    labels: Int[np.ndarray, "m N"],
    schema: AttributeSchema,
    neighbors: int,
) -> Int[np.ndarray, "Q N"]:
    candidates = min(CANDIDATES, distances.shape[1])
    nearest = np.argpartition(distances, candidates - 1, axis=1)[:, :candidates]
    order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, axis=1)
    nearest_distances = np.take_along_axis(distances, nearest, axis=1)
    predicted = np.full((len(distances), schema.num_attributes), NOT_LABELLED, np.int32)
    for n, size in enumerate(schema.sizes):
        votes = np.where(np.isfinite(nearest_distances), labels[nearest, n], NOT_LABELLED)
        enough = (votes != NOT_LABELLED).sum(axis=1) >= neighbors
        predicted[enough, n] = _most_voted(votes[enough], size, neighbors)
        if not enough.all() and candidates < distances.shape[1]:
            rest = distances[~enough]
            order = np.argsort(rest, axis=1, kind="stable")
            far = np.isinf(np.take_along_axis(rest, order, axis=1))
            votes = np.where(far, NOT_LABELLED, labels[order, n])
            predicted[~enough, n] = _most_voted(votes, size, neighbors)
        elif not enough.all():
            predicted[~enough, n] = _most_voted(votes[~enough], size, neighbors)
    return predicted


def _most_voted(votes: Int[np.ndarray, "Q k"], size: int, neighbors: int) -> Int[np.ndarray, " Q"]:
    """Returns the value that most of the first labelled neighbours have; -1 if there are none."""
    rank = np.cumsum(votes != NOT_LABELLED, axis=1)
    counts = (votes != NOT_LABELLED) & (rank <= neighbors)
    weight = np.where(counts, 1 + (neighbors - rank) / neighbors**3, 0.0)  # the ranks only break ties
    ballot = np.stack([(weight * (votes == value)).sum(axis=1) for value in range(size)], axis=1)
    return np.where(counts.any(axis=1), ballot.argmax(axis=1), NOT_LABELLED)
