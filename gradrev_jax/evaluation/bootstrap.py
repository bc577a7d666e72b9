"""Bootstrap confidence intervals of means over queries or images that depend on each other.

Queries of one reference image succeed and fail together, so what is drawn anew, with replacement, is the
reference images (clusters) and not the queries: intervals over queries would be too narrow. NumPy only.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SAMPLES, CONFIDENCE = 2000, 0.95
DRAWN_AT_ONCE = 1 << 20  # bounds the draws held at a time: 8 MB


class Interval(NamedTuple):
    """Bounds of a confidence interval; NaN where there is none to give.

    Attributes:
      low: [*M].
      high: [*M].
    """

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Difference(NamedTuple):
    """How much higher one system scores than another on the same queries.

    Attributes:
      difference: [*M], of the means.
      low: [*M], of its interval.
      high: [*M], likewise.
      significant: [*M], whether 0 lies outside the interval.
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
    """Percentile bootstrap interval of the mean of each column, clusters drawn with replacement.

    Args:
      values: [Q] or [Q, M]; NaN is not counted.
      clusters: [Q], which belong together, as the reference image of each query.
      samples: how often the clusters are drawn anew.
      confidence: of the interval, in (0, 1).
      seed: of the draws.

    Returns:
      (low, high), each [] or [M]; NaN where fewer than two clusters have a value, because one says nothing
      about the others.

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
    """Mean of a less mean of b, with an interval in which both are scored on the same drawn clusters.

    What is hard for one system is mostly hard for the other: the interval of the difference is narrower
    than the two systems' own intervals suggest.

    Args:
      a: [Q] or [Q, M], scores of a system; NaN where either is not counted.
      b: the same of the other, row by row on the same queries.
      clusters: [Q], which belong together.
      samples: how often the clusters are drawn anew.
      confidence: of the interval, in (0, 1).
      seed: of the draws.

    Raises:
      ValueError: as ``bootstrap_interval``.

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
    """Mean of each column over what is not NaN; NaN of a column that is nothing else."""
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
    """Mean of each column in each of S bootstrap samples; for statistics of several columns together.

    The draws depend on the seed and on the number of clusters alone: statistics of the same clusters can be
    combined sample by sample.

    Args:
      values: [Q, M]; NaN is not counted, and a sample in which a column has nothing else gives NaN.
      clusters: [Q], which belong together.
      samples: S.
      seed: of the draws.

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
    """The middle ``confidence`` of S resampled statistics; NaN samples, which saw nothing, are left out.

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
    """Values as [Q, M], and clusters numbered from 0."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values need as many clusters, got {len(clusters)}")
    if not len(values):
        raise ValueError("no values: an interval over none is not defined")
    return values.reshape(len(values), -1), np.unique(clusters, return_inverse=True)[1]


def _clusters_with_a_value(columns: np.ndarray, cluster_of: np.ndarray) -> np.ndarray:
    """How many clusters each column counts in, [M]."""
    known = ~np.isnan(columns)
    return np.array([len(np.unique(cluster_of[column])) for column in known.T])
