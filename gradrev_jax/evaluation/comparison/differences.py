"""Compares pairs of systems: their differences, with intervals, p-values and the seeds they would need."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.evaluation.bootstrap import Resampled, difference_samples, percentile_interval
from gradrev_jax.evaluation.comparison.record import DifferenceRecord
from gradrev_jax.evaluation.comparison.systems import ComparedSystem, pair_runs
from gradrev_jax.evaluation.significance import (
    MOST_SEEDS,
    holm,
    p_values,
    seeds_needed,
    without_rounding,
)

MORE_SEEDS = f"more than {MOST_SEEDS}"


def compare_pairs(
    systems: Sequence[ComparedSystem], tested: Sequence[str], resampled: Mapping[str, Resampled]
) -> list[DifferenceRecord]:
    """Compares every two systems by every tested metric, and each system with its own prototypes alone.

    Args:
      systems: the systems.
      tested: the names of the metrics.
      resampled: the means of each system by its name, with the tested metrics as columns.

    Returns:
      One row per pair and metric, as comparison.json has it; ``holm`` takes all of them together.
    """
    rows = [
        row
        for a, b in itertools.combinations(systems, 2)
        if a.prototypes_of is None and b.prototypes_of in (None, a.name)
        for row in _compare(a, b, tested, resampled)
    ]
    rejected = holm(np.array([np.nan if row["p"] is None else row["p"] for row in rows], float))
    for row, flag in zip(rows, rejected.tolist(), strict=True):
        row["holm"] = flag
    return rows


def standard_deviations(by_seed: Float[np.ndarray, "S M"]) -> list[float | None]:
    """Computes the standard deviation between seeds of each column, with S - 1 degrees of freedom.

    Returns:
      The deviations, [M]; None if there is one seed.

    Example:
      >>> standard_deviations(np.array([[1.0], [2.0], [3.0]])), standard_deviations(np.ones((1, 2)))
      ([1.0], [None, None])
    """
    if len(by_seed) == 1:
        return [None] * by_seed.shape[1]
    return [json_number(value) for value in by_seed.std(axis=0, ddof=1).tolist()]


def _compare(
    a: ComparedSystem, b: ComparedSystem, tested: Sequence[str], resampled: Mapping[str, Resampled]
) -> list[DifferenceRecord]:
    """Returns the differences of two systems, less ``holm``."""
    of_a, of_b = resampled[a.name], resampled[b.name]
    partners = pair_runs(a, b)
    if partners is not None:
        of_b = Resampled(of_b.means, of_b.by_seed[partners])
    samples = without_rounding(difference_samples(of_a, of_b, paired=partners is not None))
    differences = _mean_differences(of_a, of_b, paired=partners is not None)
    low, high = percentile_interval(samples)
    deviations, needed = _of_seeds(of_a, of_b, differences, paired=partners is not None)
    columns = zip(
        tested,
        differences.tolist(),
        low.tolist(),
        high.tolist(),
        p_values(samples).tolist(),
        deviations,
        needed,
        strict=True,
    )
    return [
        {
            "first": a.name,
            "second": b.name,
            "metric": metric,
            "difference": difference,
            "low": json_number(lower),
            "high": json_number(upper),
            "significant": lower > 0 or upper < 0,
            "p": json_number(p),
            "paired_by_seed": partners is not None,
            "intervals_hold_seeds": min(len(a.runs), len(b.runs)) > 1,
            "seed_sd": deviation,
            "seeds_needed": seeds,
        }
        for metric, difference, lower, upper, p, deviation, seeds in columns
    ]


def _mean_differences(a: Resampled, b: Resampled, *, paired: bool) -> np.ndarray:
    """Returns the difference of the means over the seeds for each metric: 0 for equal systems."""
    if paired:
        return without_rounding((a.by_seed - b.by_seed).mean(axis=0))
    return without_rounding(a.by_seed.mean(axis=0) - b.by_seed.mean(axis=0))


def _of_seeds(
    a: Resampled, b: Resampled, differences: np.ndarray, *, paired: bool
) -> tuple[list[float | None], list[int | str | None]]:
    """Returns the standard deviation of one seed's difference, and the seeds needed, for each metric.

    Where a system has one seed, nothing is known of either. No number of seeds shows a difference of 0.
    """
    if 1 in (len(a.by_seed), len(b.by_seed)):
        return [None] * len(differences), [None] * len(differences)
    if paired:
        variances = (a.by_seed - b.by_seed).var(axis=0, ddof=1)
    else:
        variances = a.by_seed.var(axis=0, ddof=1) + b.by_seed.var(axis=0, ddof=1)
    of_references = (a.means - b.means).var(axis=0, ddof=1)
    needed = seeds_needed(differences, of_references, variances)
    deviations = [json_number(value) for value in np.sqrt(variances).tolist()]
    has_none = np.isnan(of_references) | (differences == 0)
    shown: list[int | str | None] = [
        None if none else (MORE_SEEDS if count > MOST_SEEDS else count)
        for none, count in zip(has_none.tolist(), needed.tolist(), strict=True)
    ]
    return deviations, shown
