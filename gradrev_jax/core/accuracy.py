"""Classification accuracy of attributes, and of every classifier on every feature.

Functions take NumPy or JAX arrays. Only -1 means not labelled; such labels count neither as right nor wrong.
"""

from typing import TypedDict

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import array_namespace
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.losses import check_logits
from gradrev_jax.core.metric_arguments import known_labels


def cross_accuracy(
    logits: Float[Array | np.ndarray, "M N J"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Float[Array | np.ndarray, "N N"]:
    """Computes the accuracy of every classifier (column) that reads every feature (row) (Fig. 5).

    Args:
      logits: [M, N, J], as in ``gradrev_jax.core.losses``.
      labels: [M, N], -1 = not labelled; the accuracies of an attribute go over its labelled images.
      schema: the attributes.

    Returns:
      [N, N] fractions; the diagonal is the attribute accuracy. A column without a labelled image is 0.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> cross_accuracy(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[1], [1]]), schema).tolist()
      [[0.5]]
    """
    labels = sanitize_labels(labels, schema)
    correct = cross_correct(logits, labels, schema).sum(axis=0)
    xp = array_namespace(logits)
    return correct / xp.maximum((labels != NOT_LABELLED).sum(axis=0), 1)


def cross_correct(
    logits: Float[Array | np.ndarray, "M N J"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Bool[Array | np.ndarray, "M N N"]:
    """Returns, per image, whether every classifier (column) that reads every feature (row) is right.

    None is right where the image is not labelled. Ties between logits go to the lower value.

    Args:
      logits: [M, N, J], as in ``gradrev_jax.core.losses``.
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Raises:
      ValueError: as for ``cross_accuracy``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> cross_correct(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[1], [1]]), schema).tolist()
      [[[True]], [[False]]]
    """
    check_logits(logits, labels, schema)
    labels = sanitize_labels(labels, schema)
    predicted = schema.likeliest(logits)
    return (predicted == labels[:, None, :]) & (labels != NOT_LABELLED)[:, None, :]


class AccuracySummary(TypedDict):
    """Attribute accuracy: the mean over attributes, the mean over labelled cells, and each by name."""

    macro: float
    micro: float
    per_attribute: dict[str, float]


def accuracy_summary(
    correct: Int[np.ndarray, " N"] | Float[np.ndarray, " N"],
    labelled: Int[np.ndarray, " N"],
    schema: AttributeSchema,
) -> AccuracySummary:
    """Converts numbers of right answers to fractions; attributes without a labelled image are left out.

    Args:
      correct: [N], the number of right answers per attribute.
      labelled: [N], the number of labelled images per attribute.
      schema: the attributes.

    Raises:
      ValueError: no image is labelled, or the numbers are not N each with 0 <= correct <= labelled.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> accuracy_summary(np.array([1, 6]), np.array([2, 8]), schema)
      {'macro': 0.625, 'micro': 0.7, 'per_attribute': {'color': 0.5, 'size': 0.75}}
    """
    shape = (schema.num_attributes,)
    if not shape == correct.shape == labelled.shape or not ((correct >= 0) & (correct <= labelled)).all():
        raise ValueError(
            f"correct and labelled must be {shape}, with 0 <= correct <= labelled; got {correct}, {labelled}"
        )
    if not labelled.any():
        raise ValueError("no image is labelled: an accuracy over none is not defined")
    per_attribute = {
        name: float(correct[n] / labelled[n]) for n, name in enumerate(schema.names) if labelled[n]
    }
    return {
        "macro": float(np.mean(list(per_attribute.values()))),
        "micro": float(correct.sum() / labelled.sum()),
        "per_attribute": per_attribute,
    }


def majority_correct(
    labels: Int[np.ndarray, "M N"], reference: Int[np.ndarray, "R N"]
) -> Int[np.ndarray, " N"]:
    """Counts the right answers per attribute of always predicting the commonest value.

    Args:
      labels: [M, N], the labels to predict; -1 = not labelled and not counted.
      reference: [R, N], the labels that define the commonest value, usually those of the training part.

    Raises:
      ValueError: numbers of attributes that disagree, or labels below -1.

    Example:
      >>> majority_correct(np.array([[0], [1], [-1]]), np.array([[1], [1], [0]])).tolist()
      [1]
    """
    if labels.ndim != 2 or reference.ndim != 2 or labels.shape[1] != reference.shape[1]:
        raise ValueError(f"labels must be [M, N] and reference [R, N]; got {labels.shape}, {reference.shape}")
    labels, reference = known_labels(labels, "labels"), known_labels(reference, "reference")
    correct = np.zeros(labels.shape[1], np.int64)
    for n, (column, known) in enumerate(zip(labels.T, reference.T, strict=True)):
        known = known[known != NOT_LABELLED]
        if known.size:
            correct[n] = (column == np.bincount(known).argmax()).sum()
    return correct
