"""Computes which differences are more than chance, and how many seeds would show them."""

import math
import statistics

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.evaluation.bootstrap import CONFIDENCE

MOST_SEEDS = 100  # beyond these a number of seeds is not estimated
ROUNDING = 1e-12  # lower differences of means of fractions are rounding errors
_GRID = 1 << 14


def without_rounding(differences: Float[np.ndarray, "*M"]) -> Float[np.ndarray, "*M"]:
    """Returns differences of means of fractions, with 0 for what may be a rounding error.

    Equal systems are different by some 1e-16 where their runs are added up in another order or number.

    Args:
      differences: the differences, [*M]; NaN stays.

    Example:
      >>> without_rounding(np.array([0.1 + 0.2 - 0.3, 1e-9])).tolist()
      [0.0, 1e-09]
    """
    return np.where(np.abs(differences) < ROUNDING, 0.0, differences)


def p_values(samples: Float[np.ndarray, "B M"]) -> Float[np.ndarray, " M"]:
    """Computes the two-sided p-value of "there is no difference" from bootstrap samples of differences.

    With n the lower of the numbers of samples not above and not below 0, it is (1 + 2 n) / (B + 1), at most
    1: never less than B samples can tell, and at most 1 - confidence only if 0 lies outside the interval of
    ``bootstrap.percentile_interval``.

    Args:
      samples: the differences, [B, M]; NaN is not counted.

    Returns:
      The p-values, [M]; NaN where there is no sample.

    Example:
      >>> p_values(np.linspace(-0.5, 9.5, 99)[:, None]).tolist()
      [0.11]
    """
    known = (~np.isnan(samples)).sum(axis=0)
    fewer = np.minimum((samples <= 0).sum(axis=0), (samples >= 0).sum(axis=0))
    return np.where(known > 0, np.minimum(1.0, (1 + 2 * fewer) / (known + 1)), np.nan)


def holm(p: Float[np.ndarray, " M"], *, confidence: float = CONFIDENCE) -> Bool[np.ndarray, " M"]:
    """Returns whether each of M hypotheses is rejected by Holm's method, whatever depends on what.

    The chance that any true one is among them is at most 1 - confidence: the lowest p-value is compared with
    (1 - confidence) / M, the next with (1 - confidence) / (M - 1), and so on up to the first that is higher.

    Args:
      p: the p-values, [M]; NaN is neither counted nor rejected.
      confidence: the confidence of all of them together.

    Example:
      >>> holm(np.array([0.04, 0.001, 0.02])).tolist()
      [True, True, True]
      >>> holm(np.array([0.04, 0.001, 0.03])).tolist()
      [False, True, False]
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    passes = p[order] * np.arange(len(order), 0, -1) <= 1 - confidence
    rejected = np.zeros(len(p), bool)
    rejected[order[np.logical_and.accumulate(passes)]] = True
    return rejected


def student_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Computes the t that Student's distribution stays within, from -t to t, with some confidence.

    With t = sqrt(degrees) tan(a) the density of a is proportional to cos(a) to the power of degrees - 1.

    Example:
      >>> round(student_quantile(2), 3), round(student_quantile(1000), 3)
      (4.303, 1.962)
    """
    # The midpoints and the edges of equal parts of the quarter turn.
    edges = np.linspace(0, np.pi / 2, _GRID + 1)
    inside = np.cumsum(np.cos((edges[1:] + edges[:-1]) / 2) ** (degrees - 1))
    angle = np.interp(confidence, np.concatenate([[0], inside / inside[-1]]), edges)
    return math.sqrt(degrees) * math.tan(angle)


def seeds_needed(
    difference: Float[np.ndarray, " M"],
    reference_variance: Float[np.ndarray, " M"],
    seed_variance: Float[np.ndarray, " M"],
    *,
    confidence: float = CONFIDENCE,
) -> Int[np.ndarray, " M"]:
    """Estimates how many seeds of each system an interval would need that excludes 0.

    It is the lowest S of at least 2 with difference^2 > z^2 reference_variance + t^2 seed_variance / S: more
    seeds make the second term smaller, but not the first. t is Student's, with S - 1 degrees of freedom; z is
    that of infinitely many. Two systems whose seeds are not paired may need slightly fewer.

    Args:
      difference: the differences seen, [M]; see ``without_rounding``.
      reference_variance: the variance of each that comes from the references, [M].
      seed_variance: the variance of one seed's difference, [M]: of two systems whose seeds are not paired,
        the sum of their variances.
      confidence: the confidence of the interval.

    Returns:
      The numbers, [M]; ``MOST_SEEDS + 1`` stands for more than ``MOST_SEEDS``, which may be no number at all,
      as where there is no difference.

    Example:
      >>> one = np.array([1.0])
      >>> seeds_needed(0.03 * one, 1e-5 * one, 4e-4 * one).tolist()
      [5]
    """
    counts = np.arange(2, MOST_SEEDS + 1)
    t = np.array([student_quantile(count - 1, confidence) for count in counts.tolist()])[:, None]
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    needed = z**2 * reference_variance + t**2 * seed_variance / counts[:, None]
    enough = without_rounding(difference) ** 2 > needed
    return np.where(enough.any(axis=0), counts[enough.argmax(axis=0)], MOST_SEEDS + 1)
