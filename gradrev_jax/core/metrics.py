"""Retrieval and classification metrics.

Every function takes NumPy or JAX arrays and computes with the library it was given: NumPy arrays give
float64 scalars, JAX arrays give traceable float32 ones. Label comparisons count not labelled (-1) equal to
not labelled; other labels below 0 raise a ValueError, and count as -1 where they are traced.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, checked_labels
from gradrev_jax.core.losses import check_logits
from gradrev_jax.core.metric_arguments import (
    checked_cut_offs,
    checked_neighbors,
    is_changed_mask,
    known_labels,
)

Part = Literal["all", "target", "others"]
PARTS: tuple[Part, ...] = ("all", "target", "others")
Labels = Int[Array | np.ndarray, "Q N"]
NeighborLabels = Int[Array | np.ndarray, "Q K N"]
Changed = Int[Array | np.ndarray, " Q"] | Int[Array | np.ndarray, "Q N"] | Bool[Array | np.ndarray, "Q N"]
Scalar = Float[Array | np.ndarray | np.floating, ""]


def hit_rate(neighbor_labels: NeighborLabels, target_labels: Labels, k: int) -> Scalar:
    """Fraction of queries with at least one match among the first k; what Tables 4 and 7 report.

    A match has all N target labels.

    Args:
      neighbor_labels: [Q, K, N], labels of the K nearest, nearest first.
      target_labels: [Q, N], what was asked for.
      k: cut-off, 1 <= k <= K.

    Raises:
      ValueError: no queries, k out of range, shapes that disagree, labels below -1.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]], [[1, 1], [1, 0]]])  # 2 queries, 2 neighbours, 2 attributes
      >>> float(hit_rate(neighbors, np.array([[0, 0], [0, 1]]), 2))
      0.5
    """
    neighbor_labels, target_labels, k = checked_neighbors(neighbor_labels, target_labels, k)
    return _matches(neighbor_labels, target_labels, k).any(axis=1).mean()


def precision(neighbor_labels: NeighborLabels, target_labels: Labels, k: int) -> Scalar:
    """Matches among the first k, divided by k, averaged over queries.

    Args:
      neighbor_labels: [Q, K, N], labels of the K nearest, nearest first.
      target_labels: [Q, N], what was asked for.
      k: cut-off, 1 <= k <= K.

    Raises:
      ValueError: no queries, k out of range, shapes that disagree, labels below -1.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]], [[1, 1], [1, 0]]])
      >>> float(precision(neighbors, np.array([[0, 0], [0, 1]]), 2))
      0.25
    """
    neighbor_labels, target_labels, k = checked_neighbors(neighbor_labels, target_labels, k)
    return _matches(neighbor_labels, target_labels, k).mean()


def ndcg(
    neighbor_labels: NeighborLabels,
    target_labels: Labels,
    changed: Changed,
    k: int,
    part: Part = "all",
) -> Scalar:
    r"""Normalised discounted cumulative gain of the first k, averaged over queries (Table 5).

    .. math::
        \mathrm{NDCG@k} = \frac{\sum_{r=1}^k (2^{rel_r} - 1) / \log(r + 1)}{\sum_{r=1}^k 1 / \log(r + 1)}

    The ideal ranking has relevance 1 throughout, whether or not the gallery holds such items.

    Args:
      neighbor_labels: [Q, K, N], labels of the K nearest, nearest first.
      target_labels: [Q, N], what was asked for.
      changed: [Q], the attribute that the manipulation changed; or [Q, N] of bool or of 0 and 1, all that it
        changed; see ``is_changed_mask``.
      k: cut-off, 1 <= k <= K.
      part: relevance is the fraction of right labels among ``all`` N attributes, of the changed ones
        (``target``), or of the kept ones (``others``; where all are changed nothing is kept that could be
        wrong, and it is 1).

    Raises:
      ValueError: as ``hit_rate``; an unknown part, a change that is no attribute.

    Example:
      >>> neighbors = np.array([[[0, 1]]])
      >>> round(float(ndcg(neighbors, np.array([[0, 0]]), np.array([1]), 1, part="others")), 4)
      1.0
    """
    neighbor_labels, target_labels, k = checked_neighbors(neighbor_labels, target_labels, k)
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    xp = _namespace(neighbor_labels)
    right = neighbor_labels[:, :k] == target_labels[:, None]
    is_changed = is_changed_mask(xp.asarray(changed), *target_labels.shape)
    counted = {"all": xp.ones_like(is_changed), "target": is_changed, "others": ~is_changed}[part]
    total = counted.sum(axis=-1)[:, None]
    relevance = xp.where(total > 0, (right & counted[:, None]).sum(axis=-1) / xp.maximum(total, 1), 1.0)
    discount = xp.log(xp.arange(2, k + 2))
    gain = 2.0**relevance - 1
    return ((gain / discount).sum(axis=1) / (1 / discount).sum()).mean()


def retrieval_scores(
    neighbor_labels: NeighborLabels,
    target_labels: Labels,
    changed: Changed,
    ks: Sequence[int],
) -> dict[str, Float[Array | np.ndarray, "Q C"]]:
    """Every retrieval metric of every query at C cut-offs, in one pass over the neighbours.

    The means over queries are what ``hit_rate``, ``precision`` and ``ndcg`` (of each part) give at each k.

    Args:
      neighbor_labels: [Q, K, N], labels of the K nearest, nearest first.
      target_labels: [Q, N], what was asked for.
      changed: [Q], the attribute that the manipulation changed; or [Q, N] of bool or of 0 and 1, all that it
        changed; see ``is_changed_mask``.
      ks: C cut-offs, each 1 <= k <= K.

    Returns:
      ``hit_rate``, ``precision``, ``ndcg``, ``ndcg_target`` and ``ndcg_others``, each [Q, C].

    Raises:
      ValueError: as ``ndcg``; no cut-off.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]]])  # 1 query, 2 neighbours, 2 attributes
      >>> scores = retrieval_scores(neighbors, np.array([[0, 0]]), np.array([1]), (1, 2))
      >>> scores["hit_rate"].tolist(), scores["precision"].tolist()
      ([[0.0, 1.0]], [[0.0, 0.5]])
    """
    ks = checked_cut_offs(ks)
    for k in (min(ks), max(ks)):
        neighbor_labels, target_labels, _ = checked_neighbors(neighbor_labels, target_labels, k)
    xp = _namespace(neighbor_labels)
    num_attributes = target_labels.shape[1]
    cut_offs = np.asarray(ks, np.int32)
    right = neighbor_labels[:, : max(ks)] == target_labels[:, None]
    is_changed = is_changed_mask(xp.asarray(changed), *target_labels.shape)
    count, count_target = right.sum(axis=-1), (right & is_changed[:, None]).sum(axis=-1)
    matches = xp.cumsum(count == num_attributes, axis=1)[:, cut_offs - 1]
    discount = xp.log(xp.arange(2, max(ks) + 2))
    ideal = xp.cumsum(1 / discount)
    # Relevance is one of few fractions: their gains are looked up, not computed for every neighbour.
    number = np.arange(num_attributes + 1)
    relevance = np.where(number[:, None] > 0, number / np.maximum(number, 1)[:, None], 1)
    gains = xp.asarray(2.0**relevance - 1, discount.dtype)

    def normalised_gain(right: Any, total: Any) -> Any:
        return (xp.cumsum(gains[total, right] / discount, axis=1) / ideal)[:, cut_offs - 1]

    total_target = is_changed.sum(axis=-1)[:, None]
    return {
        "hit_rate": (matches > 0).astype(discount.dtype),
        "precision": matches / xp.asarray(cut_offs, discount.dtype),
        "ndcg": normalised_gain(count, num_attributes),
        "ndcg_target": normalised_gain(count_target, total_target),
        "ndcg_others": normalised_gain(count - count_target, num_attributes - total_target),
    }


def cross_accuracy(
    logits: Float[Array | np.ndarray, "M N J"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Float[Array | np.ndarray, "N N"]:
    """Accuracy of every classifier (column) reading every feature (row), over its labelled images (Fig. 5).

    Args:
      logits: [M, N, J], as in ``losses``.
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Returns:
      [N, N] fractions; the diagonal is the attribute accuracy. A column that no image is labelled for is 0.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> cross_accuracy(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[1], [1]]), schema).tolist()
      [[0.5]]
    """
    labels = checked_labels(labels, schema)
    correct = cross_correct(logits, labels, schema).sum(axis=0)
    return correct / _namespace(logits).maximum((labels != NOT_LABELLED).sum(axis=0), 1)


def cross_correct(
    logits: Float[Array | np.ndarray, "M N J"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Bool[Array | np.ndarray, "M N N"]:
    """Which classifiers (column) name an image's label right, reading which feature (row), image by image.

    None does where it is not labelled. Ties between logits go to the lower value.

    Raises:
      ValueError: as ``cross_accuracy``.
    """
    check_logits(logits, labels, schema)
    labels = checked_labels(labels, schema)
    # slice_index repeats an attribute's last value as padding: argmax takes the first, so it never wins.
    predicted = logits[..., schema.slice_index].argmax(axis=-1)
    return (predicted == labels[:, None, :]) & (labels != NOT_LABELLED)[:, None, :]


class AccuracySummary(TypedDict):
    """Attribute accuracy: macro over attributes, micro over labelled cells, and of each attribute by name."""

    macro: float
    micro: float
    per_attribute: dict[str, float]


def accuracy_summary(
    correct: Int[np.ndarray, " N"] | Float[np.ndarray, " N"],
    labelled: Int[np.ndarray, " N"],
    schema: AttributeSchema,
) -> AccuracySummary:
    """Right answers and labelled images by attribute, as fractions; attributes without a label are left out.

    Raises:
      ValueError: no attribute has a label, or the numbers are not N each with 0 <= correct <= labelled.

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
    """Right answers, by attribute, of always naming the commonest value of ``reference`` (the training part).

    Args:
      labels: [M, N], what is predicted; -1 = not labelled and not counted.
      reference: [R, N], labels that the commonest value is taken from.

    Raises:
      ValueError: numbers of attributes that disagree, labels below -1.

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


def _matches(neighbor_labels: Any, target_labels: Any, k: int) -> Any:
    """Which of the first k have all target labels, bool [Q, k]."""
    return (neighbor_labels[:, :k] == target_labels[:, None]).all(axis=-1)


def _namespace(array: Any) -> ModuleType:
    return jnp if isinstance(array, jax.Array) else np
