"""Measures how far the results keep what a run was never told: attributes left out, and nuisances.

All scores are per query and leave the reference itself out of its result, because it keeps everything. A
query whose reference has no label of the attribute, or no value of the nuisance, has the score NaN; so has
one of whose neighbours none counts.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.core.metric_arguments import validate_cut_offs

KEPT, KEPT_AMONG_MATCHES, NDCG = "kept", "kept_among_matches", "ndcg"
MOST_COMPARED = 2000  # images, all pairs of which give the mean distance of a nuisance

QueryScores = Float[np.ndarray, "Q C"]


def kept_scores(
    labels: Int[np.ndarray, " G"],
    neighbors: Int[np.ndarray, "Q K"],
    reference: Int[np.ndarray, " Q"],
    matches: Bool[np.ndarray, "Q K"],
    ks: Sequence[int],
) -> dict[str, QueryScores]:
    r"""Computes how far the nearest images have the reference's label of an attribute that was left out.

    With b_r = 1 if the image at rank r has the label and else 0, and w_r = 0 for the reference and else 1:

    .. math::
        \mathrm{kept@k} = \frac{\sum_{r=1}^k w_r b_r}{\sum_{r=1}^k w_r}, \qquad
        \mathrm{ndcg@k} = \frac{\sum_{r=1}^k w_r b_r / \log(r + 1)}{\sum_{r=1}^k w_r / \log(r + 1)}

    ``kept_among_matches`` is ``kept`` with w_r = 0 for all images that are no match, too: what is left to
    choose once all labels are right. An image without a label does not keep one.

    Args:
      labels: [G], the labels of the gallery for the attribute; -1: not labelled.
      neighbors: [Q, K], the gallery rows found, nearest first.
      reference: [Q], the gallery row that each query manipulates.
      matches: [Q, K], whether each neighbour has exactly the labels that the query asks for.
      ks: C cut-offs, each 1 <= k <= K.

    Returns:
      ``kept``, ``kept_among_matches`` and ``ndcg``, each [Q, C]; NaN where nothing counts.

    Raises:
      ValueError: no cut-off, or one out of range.

    Example:
      >>> labels, neighbors, matches = np.array([0, 0, 1]), np.array([[0, 1, 2]]), np.array([[0, 0, 1]]) > 0
      >>> scores = kept_scores(labels, neighbors, np.array([0]), matches, (2, 3))
      >>> scores["kept"].tolist(), scores["kept_among_matches"].tolist()
      ([[1.0, 0.5]], [[nan, 0.0]])
    """
    ks = _checked(ks, neighbors)
    counted = (neighbors != reference[:, None]) & (labels[reference] != NOT_LABELLED)[:, None]
    same = labels[neighbors] == labels[reference][:, None]
    discount = 1 / np.log(np.arange(2, neighbors.shape[1] + 2))
    weights = {KEPT: counted * 1.0, KEPT_AMONG_MATCHES: (counted & matches) * 1.0, NDCG: counted * discount}
    return {name: _weighted_means(same * 1.0, weight, ks) for name, weight in weights.items()}


def kept_by_chance(
    labels: Int[np.ndarray, " G"], reference: Int[np.ndarray, " Q"]
) -> Float[np.ndarray, " Q"]:
    """Computes what share of the gallery besides the reference has its label: ``kept`` of random results.

    Args:
      labels: [G], the labels of the gallery for an attribute that was left out; -1: not labelled.
      reference: [Q], the gallery row of each query.

    Returns:
      The shares, [Q]; NaN where the reference has no label, or is the whole gallery.

    Example:
      >>> kept_by_chance(np.array([0, 0, 1, -1, 0]), np.array([0, 2, 3])).tolist()
      [0.5, 0.0, nan]
    """
    others = np.full(len(reference), len(labels) - 1)
    known = np.flatnonzero(labels[reference] != NOT_LABELLED)
    counts = np.bincount(labels[labels != NOT_LABELLED])
    return _shares(counts[labels[reference[known]]] - 1, others[known], known, len(reference))


def kept_among_matches_by_chance(
    labels: Int[np.ndarray, " G"],
    reference: Int[np.ndarray, " Q"],
    asked: Int[np.ndarray, "G N"],
    targets: Int[np.ndarray, "Q N"],
) -> Float[np.ndarray, " Q"]:
    """Computes what share of all matches has the reference's label: what knowing all other labels gives.

    Args:
      labels: [G], the labels of the gallery for an attribute that was left out; -1: not labelled.
      reference: [Q], the gallery row of each query.
      asked: [G, N], the labels of the gallery for the attributes that queries ask for.
      targets: [Q, N], the labels that each query asks for.

    Returns:
      The shares, [Q]; NaN where the reference has no label, or no other image is a match.

    Example:
      >>> asked = np.array([[0], [1], [1], [1]])
      >>> kept_among_matches_by_chance(np.array([0, 0, 1, 1]), np.array([0]), asked, np.array([[1]])).tolist()
      [0.3333333333333333]
    """
    rows = np.unique(np.concatenate([asked, targets]), axis=0, return_inverse=True)[1].ravel()
    of_gallery, of_target = rows[: len(asked)], rows[len(asked) :]
    counts = np.zeros((rows.max() + 1, labels.max() + 2), np.int64)  # the last column: not labelled
    np.add.at(counts, (of_gallery, labels), 1)
    known = np.flatnonzero(labels[reference] != NOT_LABELLED)
    target, own = of_target[known], reference[known]
    itself = of_gallery[own] == target
    right = counts[target, labels[own]] - itself
    return _shares(right, counts[target].sum(axis=1) - itself, known, len(reference))


def near_scores(
    values: Float[np.ndarray, " G"],
    neighbors: Int[np.ndarray, "Q K"],
    reference: Int[np.ndarray, " Q"],
    ks: Sequence[int],
    *,
    period: float = np.inf,
) -> QueryScores:
    """Computes how near the nearest images are to the reference in a nuisance: 1 - distance / mean distance.

    The mean distance is that of all pairs of images, or of those of 2,000 seeded ones; so random results have
    about 0, and results that are further than random ones less.

    Args:
      values: [G], the nuisance of each gallery image; NaN: it has none, and does not count.
      neighbors: [Q, K], the gallery rows found, nearest first.
      reference: [Q], the gallery row that each query manipulates.
      ks: C cut-offs, each 1 <= k <= K.
      period: the period of the values, as 1 of a hue; inf: none.

    Returns:
      The means over the k nearest, [Q, C]; NaN where nothing counts, or all images have one value.

    Raises:
      ValueError: no cut-off, or one out of range.

    Example:
      >>> near_scores(np.array([0.0, 0.9, 0.5]), np.array([[1, 2]]), np.array([0]), (1,), period=1.0).round(2)
      array([[0.7]])
    """
    ks = _checked(ks, neighbors)
    own, other = values[reference][:, None], values[neighbors]
    counted = (neighbors != reference[:, None]) & ~np.isnan(own) & ~np.isnan(other)
    mean = _mean_distance(values[~np.isnan(values)], period)
    nearness = 1 - _distance(own, other, period) / (mean or np.nan)
    return _weighted_means(np.where(counted, nearness, 0.0), counted * 1.0, ks)


def _checked(ks: Sequence[int], neighbors: Int[np.ndarray, "Q K"]) -> tuple[int, ...]:
    ks = validate_cut_offs(ks)
    if not 1 <= min(ks) <= max(ks) <= neighbors.shape[1]:
        raise ValueError(f"cut-offs must lie in [1, {neighbors.shape[1]}], got {ks}")
    return ks


def _weighted_means(
    values: Float[np.ndarray, "Q K"], weights: Float[np.ndarray, "Q K"], ks: Sequence[int]
) -> QueryScores:
    """Computes the weighted mean of the values up to each cut-off; NaN where the weights are 0."""
    columns = np.asarray(ks) - 1
    total = np.cumsum(weights, axis=1)[:, columns]
    sums = np.cumsum(values * weights, axis=1)[:, columns]
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def _shares(
    right: Int[np.ndarray, " L"], total: Int[np.ndarray, " L"], places: Int[np.ndarray, " L"], count: int
) -> Float[np.ndarray, " Q"]:
    """Returns right / total at some places of an array that is NaN elsewhere, and where the total is 0."""
    shares = np.full(count, np.nan)
    shares[places] = np.where(total > 0, right / np.maximum(total, 1), np.nan)
    return shares


def _distance(a: np.ndarray, b: np.ndarray, period: float) -> np.ndarray:
    """Returns the distances of values; the shorter way round, if they have a period."""
    distance = np.abs(a - b)
    if np.isinf(period):
        return distance
    if not (distance >= period).any():  # remainders are slow, and these leave all as it is
        return np.minimum(distance, period - distance)
    return np.minimum(distance % period, -distance % period)


def _mean_distance(values: Float[np.ndarray, " G"], period: float) -> float:
    """Returns the mean distance of two different images; 0 if there is one image, or one value.

    In ascending order, those ahead of a value are a stretch that is nearest forwards, and then, if there is a
    period, one that is nearest the other way round; sums over both are differences of running totals.
    """
    if len(values) > MOST_COMPARED:
        values = np.random.default_rng(0).permutation(values)[:MOST_COMPARED]
    count = len(values)
    shifted = values - values.min(initial=np.inf)  # so that images of one value are exactly 0 apart
    ascending = np.sort(shifted if np.isinf(period) else shifted % period)
    totals = np.concatenate([[0.0], np.cumsum(ascending)])
    begin = np.arange(1, count + 1)  # of what is ahead
    turn = np.maximum(np.searchsorted(ascending, ascending + period / 2, side="right"), begin)
    total = totals[turn] - totals[begin] - (turn - begin) * ascending
    if not np.isinf(period):
        total += (count - turn) * (period + ascending) - (totals[-1] - totals[turn])
    return float(2 * total.sum() / max(count * (count - 1), 1))
