import itertools

import numpy as np
import pytest

from gradrev_jax.evaluation.bootstrap import percentile_interval
from gradrev_jax.evaluation.significance import (
    MOST_SEEDS,
    holm,
    p_values,
    seeds_needed,
    student_quantile,
    without_rounding,
)


def slow_p(samples):
    known = [value for value in samples if value == value]
    below = sum(value <= 0 for value in known)
    above = sum(value >= 0 for value in known)
    return min(1.0, (1 + 2 * min(below, above)) / (len(known) + 1)) if known else np.nan


def test_p_values_equal_the_loops_and_stay_within_what_samples_can_tell(rng):
    samples = rng.normal(size=(200, 6)) + np.array([0.0, 0.5, 2.0, -2.0, 9.0, 0.0])
    samples[::3, 1] = np.nan
    samples[:, 5] = np.nan
    found = p_values(samples)
    np.testing.assert_allclose(found, [slow_p(column) for column in samples.T.tolist()])
    assert found[4] == 1 / 201
    assert np.isnan(found[5])
    assert p_values(np.zeros((50, 1))).tolist() == [1.0]


@pytest.mark.parametrize("count", [19, 100, 2000])
def test_a_p_value_of_significance_means_an_interval_without_0(count):
    for below in range(count // 10):
        samples = np.linspace(-below + 0.5, count - below - 0.5, count)[:, None]
        low, high = percentile_interval(samples)
        if p_values(samples)[0] <= 0.05:
            assert low[0] > 0 or high[0] < 0


def slow_holm(p, confidence):
    """Closed testing: a hypothesis falls if every set that holds it does by Bonferroni."""
    known = [i for i in range(len(p)) if p[i] == p[i]]

    def falls(members):
        return min(p[i] for i in members) <= (1 - confidence) / len(members)

    sets = [set(each) for size in range(1, len(known) + 1) for each in itertools.combinations(known, size)]
    return [i in known and all(falls(members) for members in sets if i in members) for i in range(len(p))]


def test_holm_rejects_what_closed_testing_rejects(rng):
    for count in (0, 1, 2, 5, 7):
        for _ in range(40):
            p = np.round(rng.random(count) ** 4, 3)
            p[rng.random(count) < 0.2] = np.nan
            assert holm(p, confidence=0.95).tolist() == slow_holm(p.tolist(), 0.95)


@pytest.mark.parametrize(
    ("degrees", "confidence", "expected"),
    [
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (9, 0.95, 2.2622),
        (99, 0.95, 1.9842),
        (198, 0.95, 1.9720),
        (4, 0.99, 4.6041),
    ],
)
def test_students_quantiles_are_those_of_tables(degrees, confidence, expected):
    assert student_quantile(degrees, confidence) == pytest.approx(expected, rel=2e-4)


def test_seeds_needed_is_the_first_number_that_suffices():
    difference, of_references, of_seeds = (
        np.array([3.0, -3.0, 1.0]),
        np.full(3, 0.2),
        np.array([4.0, 4.0, 1.0]),
    )
    found = seeds_needed(difference, of_references, of_seeds).tolist()
    for d, r, s, seeds in zip(difference, of_references, of_seeds, found, strict=True):
        for count in (seeds - 1, seeds):
            half = (1.96**2 * r + student_quantile(count - 1) ** 2 * s / count) ** 0.5
            assert (abs(d) > half) == (count == seeds)
    assert found[0] == found[1] > 2


def test_seeds_needed_at_its_ends():
    one = np.ones(1)
    assert seeds_needed(one, 0.01 * one, 0 * one) == [2], "one seed shows no variance"
    assert seeds_needed(one, one, 0 * one) == [MOST_SEEDS + 1], "more references are needed"
    assert seeds_needed(0 * one, 0 * one, 0 * one) == [MOST_SEEDS + 1]
    assert seeds_needed(one, 0.01 * one, 99 * one) == [MOST_SEEDS + 1]
    for rounding in (1e-17, -1e-13):
        assert seeds_needed(rounding * one, 0 * one, 0 * one) == [MOST_SEEDS + 1], "no difference"
    assert seeds_needed(1e-9 * one, 0 * one, 0 * one) == [2]


def test_what_rounding_leaves_of_no_difference_is_0(rng):
    means = rng.random((40, 3))
    rounded = (means + 0.1 - means - 0.1).ravel()
    assert rounded.any()
    assert not without_rounding(rounded).any()
    assert not np.signbit(without_rounding(np.array([-1e-17, -0.0]))).any()
    np.testing.assert_array_equal(without_rounding(np.array([1e-9, -1e-9, np.nan])), [1e-9, -1e-9, np.nan])


def test_as_many_seeds_as_needed_find_the_difference_about_half_of_the_time():
    """Where the truth is the difference seen; fewer find it less often."""
    rng = np.random.default_rng(3)
    needed = int(seeds_needed(np.ones(1), np.zeros(1), 4 * np.ones(1))[0])
    found = {}
    for count in (needed // 3, needed):
        by_seed = 1 + 2 * rng.normal(size=(2000, count))
        half = student_quantile(count - 1) * by_seed.std(axis=1, ddof=1) / count**0.5
        found[count] = np.mean(by_seed.mean(axis=1) > half)
    assert 0.45 < found[needed] < 0.6
    assert found[needed // 3] < 0.3
