"""Computes bootstrap confidence intervals of means over queries or images that depend on each other.

Queries of one reference image succeed and fail together. Therefore the reference images (clusters) are
resampled with replacement, not the queries: intervals over queries would be too narrow.

Where a system was trained several times, another training would give other numbers, too. Intervals that
hold both variances have two levels. With S seeds, m_s the mean of seed s over all queries and m_s(r) the mean
over the queries of the drawn references r, sample b of the mean of the seeds is

    mean_s m_s(r_b)  +  sum_s w_bs m_s,     w_bs = (g_bs - mean_s g_bs) / sqrt(S c_b)

with g standard normal and c chi-square with S - 1 degrees of freedom. With v the sample variance of the m_s,
sum_s g_bs (m_s - mean m) is normal with the variance (S - 1) v; so the second term is sqrt(v / S) times
Student's t, which is what normally distributed seeds need. Drawing the seeds with replacement would give it
the variance v (S - 1) / S^2, which is too low. Scaled by sqrt(S / (S - 1)) it is right, but such draws
neither know that v itself is an estimate, nor reach far beyond the S values there are: of three seeds without
any other variance, their interval of 95 % covers the mean in about 80 % of cases.

The draws r are the same for all seeds and systems, because the queries are. What seeds and references do
together (a seed that is good with some references) is held by both terms: the interval is, if anything, too
wide by that part.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

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


class Resampled(NamedTuple):
    """Represents the means of a system with S seeds, in B samples of the references and on all of them.

    Attributes:
      means: the mean over the seeds in each sample, [B, M]; NaN in columns that have no interval.
      by_seed: the mean of each seed over all queries, [S, M].
    """

    means: Float[np.ndarray, "B M"]
    by_seed: Float[np.ndarray, "S M"]


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


def resample_references(
    values: Float[np.ndarray, "S Q M"],
    clusters: Int[np.ndarray, " Q"],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Resampled:
    """Resamples the clusters of a system's scores, with the same draws for all of its seeds.

    Args:
      values: the scores of each seed, [S, Q, M]; NaN is not counted.
      clusters: the cluster of each query, [Q]; systems with the same clusters have the same draws.
      samples: the number of bootstrap samples, B.
      seed: the seed of the draws.

    Returns:
      The means, to be given to ``seeds_samples`` or ``difference_samples``. The columns of which any seed has
      values in fewer than two clusters are NaN: one cluster says nothing about how clusters vary.

    Raises:
      ValueError: no seeds, no values, lengths that disagree, fewer than one sample.

    Example:
      >>> resample_references(np.ones((3, 4, 2)), np.array([0, 0, 1, 1]), samples=100).means.shape
      (100, 2)
    """
    seeds, queries, columns = values.shape
    if not seeds:
        raise ValueError("no seeds: a mean over none is not defined")
    # Seeds are columns, so that the clusters are drawn once.
    flat, cluster_of = _checked(values.transpose(1, 0, 2).reshape(queries, seeds * columns), clusters)
    means = resampled_means(flat, cluster_of, samples=samples, seed=seed)
    known = _clusters_with_a_value(flat, cluster_of) > 1
    by_sample = np.where(known, means, np.nan).reshape(samples, seeds, columns)
    return Resampled(by_sample.mean(axis=1), column_means(flat).reshape(seeds, columns))


def seeds_samples(resampled: Resampled, *, seed: int = 0) -> Float[np.ndarray, "B M"]:
    """Computes two-level bootstrap samples of a system's means: of references, and of seeds.

    With one seed nothing is known of the seeds' variance, and the samples are those of the references alone.

    Args:
      resampled: the means of the system.
      seed: the seed of the draws.

    Example:
      >>> seeds_of_one_cluster_value = np.array([0.0, 1.0, 2.0])[:, None, None] * np.ones((4, 1))
      >>> resampled = resample_references(seeds_of_one_cluster_value, np.arange(4))
      >>> low, high = percentile_interval(seeds_samples(resampled))
      >>> float(low[0]) < -1, float(high[0]) > 3  # 1 -+ 4.3 / sqrt(3)
      (True, True)
    """
    return resampled.means + _seed_deviations(resampled, (seed, 1))


def difference_samples(
    a: Resampled, b: Resampled, *, paired: bool, seed: int = 0
) -> Float[np.ndarray, "B M"]:
    """Computes two-level bootstrap samples of the means of a minus those of b.

    Queries that are hard for one system are mostly hard for the other: the interval of the difference is
    narrower than the two systems' own intervals suggest. Both are therefore resampled by the same draws.

    Args:
      a: the means of the first system.
      b: the means of the second system, from the same clusters, number of samples and seed.
      paired: whether seed s of the one belongs to seed s of the other; otherwise the seeds are drawn
        independently, and there may be more of the one than of the other. Of few seeds this is cautious:
        each system's variance is then estimated on its own.
      seed: the seed of the draws.

    Raises:
      ValueError: unlike numbers of samples, or of seeds that are paired.

    Example:
      >>> a = resample_references(np.array([[[1.0], [0.0]], [[3.0], [2.0]]]), np.arange(2))
      >>> b = resample_references(np.array([[[0.0], [0.0]], [[2.0], [2.0]]]), np.arange(2))
      >>> np.unique(difference_samples(a, b, paired=True)).tolist()  # the seeds differ, but not their pairs
      [0.0, 0.5, 1.0]
    """
    if len(a.means) != len(b.means):
        raise ValueError(f"both systems need as many samples, got {len(a.means)} and {len(b.means)}")
    if not paired:
        return a.means - b.means + _seed_deviations(a, (seed, 1)) - _seed_deviations(b, (seed, 2))
    if len(a.by_seed) != len(b.by_seed):
        raise ValueError(f"paired seeds must be as many, got {len(a.by_seed)} and {len(b.by_seed)}")
    return seeds_samples(Resampled(a.means - b.means, a.by_seed - b.by_seed), seed=seed)


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
    if np.shape(clusters) != (len(values),):
        raise ValueError(f"{len(values)} values need as many clusters, got {np.shape(clusters)}")
    if not len(values):
        raise ValueError("no values: an interval over none is not defined")
    return values.reshape(len(values), -1), np.unique(clusters, return_inverse=True)[1]


def _clusters_with_a_value(columns: np.ndarray, cluster_of: np.ndarray) -> np.ndarray:
    """Returns the number of clusters that have a value in each column, [M]."""
    known = ~np.isnan(columns)
    return np.array([len(np.unique(cluster_of[column])) for column in known.T])


def _seed_deviations(resampled: Resampled, seed: tuple[int, int]) -> np.ndarray:
    """Returns the distance that other seeds would move the mean in each sample, [B, M]: 0 for one seed."""
    samples, seeds = len(resampled.means), len(resampled.by_seed)
    if seeds == 1:
        return np.zeros_like(resampled.means)
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(samples, seeds))
    normal -= normal.mean(axis=1, keepdims=True)
    weights = normal / np.sqrt(seeds * rng.chisquare(seeds - 1, size=(samples, 1)))
    # The deviations, not the means: equal seeds then move nothing at all.
    return weights @ (resampled.by_seed - resampled.by_seed.mean(axis=0))
