"""Counts how often labels of a catalogue occur together, once before training.

The slots of a schema are its J values and, behind them, one place per attribute for "not labelled", N in all.
"""

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import array_namespace
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels

# The number of images of the marginal distribution that are added to a conditional one.
PRIOR_COUNT = 1.0


def label_slots(
    labels: Int[Array | np.ndarray, "M N"], schema: AttributeSchema
) -> Int[Array | np.ndarray, "M N"]:
    """Returns the slot of each label: its value's index among the J, or J + n for "not labelled".

    Args:
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> label_slots(np.array([[1, 0], [-1, 1]]), schema).tolist()
      [[1, 2], [4, 3]]
    """
    labels = sanitize_labels(labels, schema)
    xp = array_namespace(labels)
    missing = schema.num_values + np.arange(schema.num_attributes)
    return xp.where(labels == NOT_LABELLED, missing, labels + np.asarray(schema.offsets))


def count_pairs(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> Float[np.ndarray, "S S"]:
    """Counts the images that have both labels, for every pair of slots; S is J + N.

    Args:
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> counts = count_pairs(np.array([[1, 0], [1, 1], [-1, 1]]), schema)
      >>> counts[1, 2:4].tolist(), counts[4, 2:4].tolist()  # sizes of the red and of the colorless
      ([1.0, 1.0], [0.0, 1.0])
    """
    slots = np.asarray(label_slots(labels, schema), np.int64)
    size = schema.num_values + schema.num_attributes
    counts = np.zeros(size * size, np.int64)
    for row in slots.T:
        for column in slots.T:
            counts += np.bincount(row * size + column, minlength=size * size)
    return counts.reshape(size, size).astype(np.float64)


def marginals(counts: Float[np.ndarray, "S S"], schema: AttributeSchema) -> Float[np.ndarray, " J"]:
    """Returns the distribution of each attribute's labels, smoothed by one image of all values alike.

    Args:
      counts: [S, S], as ``count_pairs`` returns them.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> marginals(count_pairs(np.array([[1], [1], [1]]), schema), schema).tolist()
      [0.125, 0.875]
    """
    alone = np.diagonal(counts)[: schema.num_values] + PRIOR_COUNT / _sizes(schema)
    return alone / (alone @ schema.membership)[schema.attribute_of]


def conditionals(
    counts: Float[np.ndarray, "S S"], schema: AttributeSchema, *, left_out: int = 0
) -> Float[np.ndarray, "S J"]:
    """Returns the distribution of each attribute's labels (columns) given a label of another (rows).

    Those who lack the attribute do not count. ``PRIOR_COUNT`` images of the marginal distribution are added:
    a label that no image has with the attribute gives the marginal.

    Args:
      counts: [S, S], as ``count_pairs`` returns them.
      schema: the attributes.
      left_out: the number of images with both labels that are not counted: with 1, entry [u, v] is the
        estimate of an image with both labels from all others.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> counts = count_pairs(np.array([[0, 0], [0, 0], [0, 0], [1, 1]]), schema)
      >>> conditionals(counts, schema)[0, 2:].tolist()  # the sizes of the blue ones
      [0.925, 0.075]
    """
    pairs = counts[:, : schema.num_values]
    totals = (pairs @ schema.membership)[:, schema.attribute_of]
    pairs, totals = np.maximum(pairs - left_out, 0), np.maximum(totals - left_out, 0)
    return (pairs + PRIOR_COUNT * marginals(counts, schema)) / (totals + PRIOR_COUNT)


def _sizes(schema: AttributeSchema) -> Float[np.ndarray, " J"]:
    """Returns the number of values of the attribute of each value."""
    return np.asarray(schema.sizes, np.float64)[schema.attribute_of]
