"""A nearest-neighbour probe of features, in the metric of retrieval."""

import numpy as np
from jaxtyping import Bool, Float, Int

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
        chunk = slice(start, min(start + QUERIES, len(fold)))
        distances = norms - 2 * gallery[chunk] @ gallery.T
        distances[:, : len(fold)][fold[chunk, None] == fold] = np.inf
        found.append(_vote(distances, labels, schema, neighbors))
    return np.concatenate(found)


def _vote(
    distances: Float[np.ndarray, "Q m"],
    labels: Int[np.ndarray, "m N"],
    schema: AttributeSchema,
    neighbors: int,
) -> Int[np.ndarray, "Q N"]:
    nearest, is_near = _nearest(distances, CANDIDATES)
    predicted = np.full((len(distances), schema.num_attributes), NOT_LABELLED, np.int32)
    for n, size in enumerate(schema.sizes):
        votes = np.where(is_near, labels[nearest, n], NOT_LABELLED)
        enough = (votes != NOT_LABELLED).sum(axis=1) >= neighbors
        predicted[enough, n] = _most_voted(votes[enough], size, neighbors)
        labelled = np.flatnonzero(labels[:, n] != NOT_LABELLED)
        if not enough.all() and labelled.size:
            few, is_few = _nearest(distances[np.ix_(~enough, labelled)], neighbors)
            votes = np.where(is_few, labels[labelled[few], n], NOT_LABELLED)
            predicted[~enough, n] = _most_voted(votes, size, neighbors)
    return predicted


def _nearest(
    distances: Float[np.ndarray, "Q m"], count: int
) -> tuple[Int[np.ndarray, "Q k"], Bool[np.ndarray, "Q k"]]:
    """Returns the columns of the least distances, ascending, and whether each is finite."""
    if count < distances.shape[1]:
        columns = np.argpartition(distances, count - 1, axis=1)[:, :count]
    else:
        columns = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    least = np.take_along_axis(distances, columns, axis=1)
    order = np.argsort(least, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    return columns, np.isfinite(np.take_along_axis(least, order, axis=1))


def _most_voted(votes: Int[np.ndarray, "Q k"], size: int, neighbors: int) -> Int[np.ndarray, " Q"]:
    """Returns the value that most of the first labelled neighbours have; -1 if there are none."""
    rank = np.cumsum(votes != NOT_LABELLED, axis=1)
    counts = (votes != NOT_LABELLED) & (rank <= neighbors)
    weight = np.where(counts, 1 + (neighbors - rank) / neighbors**3, 0.0)  # the ranks only break ties
    ballot = np.stack([(weight * (votes == value)).sum(axis=1) for value in range(size)], axis=1)
    return np.where(counts.any(axis=1), ballot.argmax(axis=1), NOT_LABELLED)
