"""Retrieval metrics: means over queries, and every metric of every query.

Every function takes NumPy or JAX arrays and computes with the library it was given: NumPy arrays give float64
results, JAX arrays give traceable float32 ones. Label comparisons count not labelled (-1) as equal to not
labelled; other labels below 0 raise a ValueError or, if they are traced, count as -1.

To add a metric that is reported per query, write a function of a ``Comparison`` and enter it in ``METRICS``.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import array_namespace
from gradrev_jax.core.metric_arguments import changed_mask, validate_cut_offs, validate_neighbors

Part = Literal["all", "target", "others"]
PARTS: tuple[Part, ...] = get_args(Part)
NeighborLabels = Int[Array | np.ndarray, "Q K N"]
TargetLabels = Int[Array | np.ndarray, "Q N"]
Changed = Int[Array | np.ndarray, " Q"] | Int[Array | np.ndarray, "Q N"] | Bool[Array | np.ndarray, "Q N"]
Scalar = Float[Array | np.ndarray | np.floating, ""]
QueryScores: TypeAlias = Float[Array | np.ndarray, "Q C"]


def hit_rate(neighbor_labels: NeighborLabels, target_labels: TargetLabels, k: int) -> Scalar:
    """Computes the fraction of queries with at least one match among the first k (Tables 4 and 7).

    A match has all N target labels.

    Args:
      neighbor_labels: [Q, K, N], the labels of the K nearest neighbours, nearest first.
      target_labels: [Q, N], the labels that were asked for.
      k: the cut-off, 1 <= k <= K.

    Raises:
      ValueError: no queries, k out of range, shapes that disagree, or labels below -1.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]], [[1, 1], [1, 0]]])  # 2 queries, 2 neighbours, 2 attributes
      >>> float(hit_rate(neighbors, np.array([[0, 0], [0, 1]]), 2))
      0.5
    """
    neighbor_labels, target_labels, k = validate_neighbors(neighbor_labels, target_labels, k)
    return _matches(neighbor_labels, target_labels, k).any(axis=1).mean()


def precision(neighbor_labels: NeighborLabels, target_labels: TargetLabels, k: int) -> Scalar:
    """Computes the fraction of matches among the first k, averaged over queries.

    Args:
      neighbor_labels: [Q, K, N], the labels of the K nearest neighbours, nearest first.
      target_labels: [Q, N], the labels that were asked for.
      k: the cut-off, 1 <= k <= K.

    Raises:
      ValueError: no queries, k out of range, shapes that disagree, or labels below -1.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]], [[1, 1], [1, 0]]])
      >>> float(precision(neighbors, np.array([[0, 0], [0, 1]]), 2))
      0.25
    """
    neighbor_labels, target_labels, k = validate_neighbors(neighbor_labels, target_labels, k)
    return _matches(neighbor_labels, target_labels, k).mean()


def ndcg(
    neighbor_labels: NeighborLabels,
    target_labels: TargetLabels,
    changed: Changed,
    k: int,
    part: Part = "all",
) -> Scalar:
    r"""Computes the normalised discounted cumulative gain of the first k, averaged over queries (Table 5).

    .. math::
        \mathrm{NDCG@k} = \frac{\sum_{r=1}^k (2^{rel_r} - 1) / \log(r + 1)}{\sum_{r=1}^k 1 / \log(r + 1)}

    The ideal ranking has relevance 1 throughout, whether or not the gallery holds such items.

    Args:
      neighbor_labels: [Q, K, N], the labels of the K nearest neighbours, nearest first.
      target_labels: [Q, N], the labels that were asked for.
      changed: [Q], the attribute that the manipulation changed; or [Q, N] of bool or of 0 and 1, all
        attributes that it changed; see ``changed_mask``.
      k: the cut-off, 1 <= k <= K.
      part: the attributes whose fraction of right labels is the relevance: ``all`` N, the changed ones
        (``target``), or the kept ones (``others``; if all are changed, the relevance is 1).

    Raises:
      ValueError: as for ``hit_rate``; an unknown part, or a change that is no attribute.

    Example:
      >>> neighbors = np.array([[[0, 1]]])
      >>> round(float(ndcg(neighbors, np.array([[0, 0]]), np.array([1]), 1, part="others")), 4)
      1.0
    """
    neighbor_labels, target_labels, k = validate_neighbors(neighbor_labels, target_labels, k)
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    xp = array_namespace(neighbor_labels, target_labels, changed)
    right = neighbor_labels[:, :k] == target_labels[:, None]
    is_changed = changed_mask(xp.asarray(changed), *target_labels.shape)
    counted = {"all": xp.ones_like(is_changed), "target": is_changed, "others": ~is_changed}[part]
    total = counted.sum(axis=-1)[:, None]
    relevance = xp.where(total > 0, (right & counted[:, None]).sum(axis=-1) / xp.maximum(total, 1), 1.0)
    discount = xp.log(xp.arange(2, k + 2))
    # Not the gains of ``Comparison``: its running sums and looked-up powers differ from these in the last
    # bits, and cost this single mean more than they save.
    gain = 2.0**relevance - 1
    return ((gain / discount).sum(axis=1) / (1 / discount).sum()).mean()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The neighbours of Q queries compared with their target labels, for all metrics and C cut-offs at once.

    Attributes:
      right: bool [Q, K, N], whether each neighbour has the target's label of each attribute; K is the largest
        cut-off.
      is_changed: bool [Q, N], the attributes that the manipulation changed.
      ks: the cut-offs.
    """

    right: Bool[Array | np.ndarray, "Q K N"]
    is_changed: Bool[Array | np.ndarray, "Q N"]
    ks: tuple[int, ...]

    @functools.cached_property
    def num_right(self) -> Int[Array | np.ndarray, "Q K"]:
        """The number of right labels of each neighbour."""
        return self.right.sum(axis=-1)

    @functools.cached_property
    def num_right_changed(self) -> Int[Array | np.ndarray, "Q K"]:
        """The number of right labels of each neighbour among the changed attributes."""
        return (self.right & self.is_changed[:, None]).sum(axis=-1)

    @functools.cached_property
    def num_changed(self) -> Int[Array | np.ndarray, "Q 1"]:
        """The number of attributes that each query changes."""
        return self.is_changed.sum(axis=-1)[:, None]

    @functools.cached_property
    def num_matches(self) -> Int[Array | np.ndarray, "Q C"]:
        """The number of neighbours with all target labels, up to each cut-off."""
        matches = self.num_right == self.right.shape[-1]
        return self.at_cut_offs(array_namespace(matches).cumsum(matches, axis=1))

    @functools.cached_property
    def discount(self) -> Float[Array | np.ndarray, " K"]:
        """The divisor of the gain at each rank."""
        xp = array_namespace(self.right)
        return xp.log(xp.arange(2, max(self.ks) + 2))

    def at_cut_offs(self, by_rank: Any) -> Any:
        """Picks the columns of the cut-offs from values by rank, [Q, K]."""
        return by_rank[:, np.asarray(self.ks, np.int32) - 1]

    def ndcg(self, num_right: Any, num_attributes: Any) -> QueryScores:
        """Computes NDCG with the fraction of right labels among some attributes as the relevance.

        Args:
          num_right: [Q, K], the number of right labels among these attributes.
          num_attributes: the number of these attributes, a number or [Q, 1]; 0 gives the relevance 1.
        """
        gains, ideal = self._gains_and_ideal
        total = array_namespace(self.right).cumsum(gains[num_attributes, num_right] / self.discount, axis=1)
        return self.at_cut_offs(total / ideal)

    @functools.cached_property
    def _gains_and_ideal(self) -> tuple[Any, Any]:
        """Gains by numbers of attributes and of right labels among them; the sums of an ideal ranking."""
        xp = array_namespace(self.right)
        ideal = xp.cumsum(1 / self.discount)
        # A table, because there are few distinct gains: cheaper than a power per neighbour.
        number = np.arange(self.right.shape[-1] + 1)
        relevance = np.where(number[:, None] > 0, number / np.maximum(number, 1)[:, None], 1)
        return xp.asarray(2.0**relevance - 1, self.discount.dtype), ideal


def _query_hit_rate(comparison: Comparison) -> QueryScores:
    return (comparison.num_matches > 0).astype(comparison.discount.dtype)


def _query_precision(comparison: Comparison) -> QueryScores:
    xp = array_namespace(comparison.right)
    return comparison.num_matches / xp.asarray(comparison.ks, comparison.discount.dtype)


def _query_ndcg(comparison: Comparison) -> QueryScores:
    return comparison.ndcg(comparison.num_right, comparison.right.shape[-1])


def _query_ndcg_target(comparison: Comparison) -> QueryScores:
    return comparison.ndcg(comparison.num_right_changed, comparison.num_changed)


def _query_ndcg_others(comparison: Comparison) -> QueryScores:
    num_right = comparison.num_right - comparison.num_right_changed
    return comparison.ndcg(num_right, comparison.right.shape[-1] - comparison.num_changed)


# The name of each metric that is reported per query, and the function that computes it, [Q, C].
METRICS: Final[dict[str, Callable[[Comparison], QueryScores]]] = {
    "hit_rate": _query_hit_rate,
    "precision": _query_precision,
    "ndcg": _query_ndcg,
    "ndcg_target": _query_ndcg_target,
    "ndcg_others": _query_ndcg_others,
}


def retrieval_scores(
    neighbor_labels: NeighborLabels,
    target_labels: TargetLabels,
    changed: Changed,
    ks: Sequence[int],
) -> dict[str, QueryScores]:
    """Computes every metric in ``METRICS`` for every query at C cut-offs, in one pass over the neighbours.

    The means over queries are those of ``hit_rate``, ``precision`` and ``ndcg`` (of each part) at each k.

    Args:
      neighbor_labels: [Q, K, N], the labels of the K nearest neighbours, nearest first.
      target_labels: [Q, N], the labels that were asked for.
      changed: [Q] or [Q, N], the attributes that the manipulation changed; see ``ndcg``.
      ks: C cut-offs, each 1 <= k <= K.

    Returns:
      The scores of each metric by name, each [Q, C].

    Raises:
      ValueError: as for ``ndcg``; no cut-off.

    Example:
      >>> neighbors = np.array([[[0, 1], [0, 0]]])  # 1 query, 2 neighbours, 2 attributes
      >>> scores = retrieval_scores(neighbors, np.array([[0, 0]]), np.array([1]), (1, 2))
      >>> scores["hit_rate"].tolist(), scores["precision"].tolist()
      ([[0.0, 1.0]], [[0.0, 0.5]])
    """
    ks = validate_cut_offs(ks)
    for k in (min(ks), max(ks)):
        neighbor_labels, target_labels, _ = validate_neighbors(neighbor_labels, target_labels, k)
    xp = array_namespace(neighbor_labels, target_labels, changed)
    right = xp.asarray(neighbor_labels[:, : max(ks)] == target_labels[:, None])
    is_changed = changed_mask(xp.asarray(changed), *target_labels.shape)
    comparison = Comparison(right, is_changed, ks)
    return {name: metric(comparison) for name, metric in METRICS.items()}


def _matches(neighbor_labels: Any, target_labels: Any, k: int) -> Any:
    """Returns which of the first k neighbours have all target labels, bool [Q, k]."""
    return (neighbor_labels[:, :k] == target_labels[:, None]).all(axis=-1)
