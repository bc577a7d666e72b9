"""Computes bootstrap confidence intervals of means over queries or images that depend on each other.

Queries of one reference image succeed and fail together. Therefore the reference images (clusters) are
resampled with replacement, not the queries: intervals over queries would be too narrow.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SAMPLES, CONFIDENCE = 2000, 0.95
DRAWN_AT_ONCE = 1 << 20  # the number of draws held in memory: 8 MB


class Interval(NamedTuple):
    """Represents confidence intervals; NaN where there is none.

    Attributes:
      low: the lower bound of each column, [*M].
      high: the upper bound of each column, [*M].
    """

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Difference(NamedTuple):
    """Represents how much higher one system scores than another on the same queries.

    Attributes:
      difference: the difference of the means, [*M].
      low: the lower bound of its interval, [*M].
      high: the upper bound of its interval, [*M].
      significant: whether 0 lies outside the interval, [*M].
    """

    difference: Float[np.ndarray, "..."]
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]
    significant: Bool[np.ndarray, "..."]


def bootstrap_interval(
    values: Float[np.ndarray, "Q ..."],
    clusters: Int[np.ndarray, " Q"],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Computes the percentile bootstrap interval of the mean of each column over resampled clusters.

    Args:
      values: the scores, [Q] or [Q, M]; NaN is not counted.
      clusters: the cluster of each row, [Q], such as the reference image of each query.
      samples: the number of bootstrap samples.
      confidence: the confidence of the interval, in (0, 1).
      seed: the seed of the draws.

    Returns:
      The bounds, each [] or [M]; NaN if fewer than two clusters have a value, because one cluster says
      nothing about how clusters vary.

    Raises:
      ValueError: no values, lengths that disagree, samples or confidence out of range.

    Example:
      >>> hit = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
      >>> low, high = bootstrap_interval(hit, np.array([0, 0, 0, 1, 1, 1, 2, 2]))
      >>> float(low), float(high)
      (0.0, 1.0)
    """
    columns, cluster_of = _checked(values, clusters)
    low, high = percentile_interval(
        resampled_means(columns, cluster_of, samples=samples, seed=seed), confidence=confidence
    )
    known = _clusters_with_a_value(columns, cluster_of) > 1
    shape = values.shape[1:]
    return Interval(np.where(known, low, np.nan).reshape(shape), np.where(known, high, np.nan).reshape(shape))


def paired_difference(
    a: Float[np.ndarray, "Q ..."],
    b: Float[np.ndarray, "Q ..."],
    clusters: Int[np.ndarray, " Q"],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Computes the mean of a minus the mean of b, with an interval over the same resampled clusters.

    Queries that are hard for one system are mostly hard for the other: the interval of the difference is
    narrower than the two systems' own intervals suggest.

    Args:
      a: the scores of the first system, [Q] or [Q, M]; a row is not counted where either system has NaN.
      b: the scores of the second system on the same queries.
      clusters: the cluster of each row, [Q].
      samples: the number of bootstrap samples.
      confidence: the confidence of the interval, in (0, 1).
      seed: the seed of the draws.

    Raises:
      ValueError: as in ``bootstrap_interval``.

    Example:
      >>> a, b = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
      >>> result = paired_difference(a, b, np.arange(4))
      >>> float(result.difference), bool(result.significant)
      (0.5, False)
    """
    difference = a - b
    low, high = bootstrap_interval(difference, clusters, samples=samples, confidence=confidence, seed=seed)
    return Difference(np.asarray(column_means(difference)), low, high, (low > 0) | (high < 0))


def column_means(values: Float[np.ndarray, "Q ..."]) -> Float[np.ndarray, "..."]:
    """Computes the mean of each column without its NaNs; NaN if there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def resampled_means(
    values: Float[np.ndarray, "Q M"],
    clusters: Int[np.ndarray, " Q"],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "S M"]:
    """Computes the mean of each column in each of S bootstrap samples.

    The draws depend on the seed and the number of clusters only, so statistics of the same clusters can be
    combined sample by sample.

    Args:
      values: the scores, [Q, M]; NaN is not counted, and a sample in which a column is all NaN gives NaN.
      clusters: the cluster of each row, [Q].
      samples: the number of bootstrap samples, S.
      seed: the seed of the draws.

    Raises:
      ValueError: fewer than one sample.

    Example:
      >>> means = resampled_means(np.array([[1.0], [0.0]]), np.array([0, 1]), samples=100)
      >>> sorted(set(means.ravel().tolist()))
      [0.0, 0.5, 1.0]
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    _, index = np.unique(clusters, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    known = ~np.isnan(values)
    sums = np.add.reduceat(np.where(known, values, 0.0)[order], starts, axis=0)
    counts = np.add.reduceat(known[order].astype(np.float64), starts, axis=0)
    rng = np.random.default_rng(seed)
    means = np.empty((samples, values.shape[1]))
    number = len(starts)
    step = max(1, DRAWN_AT_ONCE // number)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = rng.integers(number, size=(rows, number)) + number * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number).astype(np.float64)
        total = weights @ counts
        means[start : start + rows] = np.where(total > 0, weights @ sums / np.maximum(total, 1), np.nan)
    return means


def percentile_interval(
    resampled: Float[np.ndarray, "S ..."], *, confidence: float = CONFIDENCE
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Returns the central interval of S resampled statistics that holds a share ``confidence`` of them.

    NaN samples, which contain no value, are not counted.

    Raises:
      ValueError: a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    seen = ~np.isnan(resampled).all(axis=0)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(np.where(seen, resampled, 0.0), tails, axis=0)
    return np.where(seen, low, np.nan), np.where(seen, high, np.nan)


def _checked(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values as [Q, M], and the clusters numbered from 0."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values need as many clusters, got {len(clusters)}")
    if not len(values):
        raise ValueError("no values: an interval over none is not defined")
    return values.reshape(len(values), -1), np.unique(clusters, return_inverse=True)[1]


def _clusters_with_a_value(columns: np.ndarray, cluster_of: np.ndarray) -> np.ndarray:
    """Returns the number of clusters that have a value in each column, [M]."""
    known = ~np.isnan(columns)
    return np.array([len(np.unique(cluster_of[column])) for column in known.T])
