import numpy as np
import pytest

from gradrev_jax.evaluation import bootstrap
from gradrev_jax.evaluation.bootstrap import (
    bootstrap_interval,
    column_means,
    percentile_interval,
    resampled_means,
)


def clustered(rng, clusters=12, columns=3, missing=0.0):
    """Values whose clusters differ in size and in mean, in shuffled order."""
    of = np.repeat(10 * np.arange(clusters), rng.integers(1, 6, clusters))
    values = rng.normal(size=(clusters, columns))[of // 10] + 0.3 * rng.normal(size=(len(of), columns))
    values[rng.random(values.shape) < missing] = np.nan
    order = rng.permutation(len(of))
    return values[order], of[order]


def slow_resampled_means(values, clusters, samples, seed):
    """Every draw, cluster and value in its turn, by the same random numbers."""
    names = sorted(set(clusters.tolist()))
    draws = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
    means = []
    for draw in draws.tolist():
        row = []
        for column in range(values.shape[1]):
            seen = []
            for name in draw:
                for value, cluster in zip(values[:, column].tolist(), clusters.tolist(), strict=True):
                    if cluster == names[name] and value == value:
                        seen.append(value)
            row.append(sum(seen) / len(seen) if seen else np.nan)
        means.append(row)
    return np.array(means)


@pytest.mark.parametrize("at_once", [1, 30, 1 << 20])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_means_of_drawn_clusters_equal_the_loops(rng, monkeypatch, at_once, missing):
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", at_once)
    values, clusters = clustered(rng, missing=missing)
    found = resampled_means(values, clusters, samples=25, seed=3)
    np.testing.assert_allclose(found, slow_resampled_means(values, clusters, 25, 3), atol=1e-12)
    assert len(np.unique(found[:, 0])) > 10


def test_the_interval_holds_the_middle_of_the_resampled_means(rng):
    values, clusters = clustered(rng)
    low, high = bootstrap_interval(values, clusters, samples=200, confidence=0.9, seed=1)
    for column, means in enumerate(slow_resampled_means(values, clusters, 200, 1).T):
        ordered = sorted(means.tolist())
        # Linear interpolation between order statistics, as 0.05 * 199 = 9.95.
        assert low[column] == pytest.approx(ordered[9] + 0.95 * (ordered[10] - ordered[9]))
        assert high[column] == pytest.approx(ordered[189] + 0.05 * (ordered[190] - ordered[189]))
    assert (low < column_means(values)).all()
    assert (high > column_means(values)).all()


def test_a_single_column_is_a_column_of_many(rng):
    values, clusters = clustered(rng)
    many = bootstrap_interval(values, clusters, samples=50)
    one = bootstrap_interval(values[:, 1], clusters, samples=50)
    assert (one.low.shape, many.low.shape) == ((), (3,))
    np.testing.assert_allclose(one, [many.low[1], many.high[1]])


def test_intervals_cover_the_truth_where_queries_of_a_cluster_depend_on_each_other():
    rng = np.random.default_rng(5)
    covered, naively_covered, runs = 0, 0, 250
    clusters = np.repeat(np.arange(40), 8)
    for _ in range(runs):
        # The true mean is 0; what a cluster's 8 queries share varies more than what they do not.
        values = rng.normal(size=40)[clusters] + 0.3 * rng.normal(size=len(clusters))
        low, high = bootstrap_interval(values, clusters, samples=300)
        covered += low <= 0 <= high
        low, high = bootstrap_interval(values, np.arange(len(values)), samples=300)
        naively_covered += low <= 0 <= high
    assert 0.90 <= covered / runs <= 0.98
    assert naively_covered / runs < 0.65, "queries alone would be too sure of themselves"


def test_constant_values_leave_nothing_open():
    low, high = bootstrap_interval(np.full((9, 2), 0.25), np.arange(9) // 3)
    assert low.tolist() == high.tolist() == [0.25, 0.25]


def test_one_cluster_says_nothing_about_others():
    values = np.array([[1.0, 0.0], [0.0, np.nan], [np.nan, np.nan]])
    assert np.isnan(bootstrap_interval(values, np.zeros(3, int))).all()
    low, high = bootstrap_interval(values, np.array([0, 1, 2]))
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


def test_a_column_without_values():
    low, high = bootstrap_interval(np.full((4, 1), np.nan), np.arange(4))
    assert np.isnan([low[0], high[0], column_means(np.full((4, 1), np.nan))[0]]).all()


def test_samples_that_saw_nothing_are_left_out():
    low, high = percentile_interval(np.array([[1.0], [np.nan], [3.0]]), confidence=0.5)
    assert (low.tolist(), high.tolist()) == ([1.5], [2.5])


def test_what_cannot_be_computed(unchecked):
    values, clusters = np.zeros(4), np.arange(4)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval(values[:0], clusters[:0])
    with pytest.raises(ValueError, match=r"4 values need as many clusters, got \(3,\)"):
        bootstrap_interval(values, clusters[:3])
    with pytest.raises(ValueError, match=r"4 values need as many clusters, got \(4, 1\)"):
        bootstrap_interval(values, clusters[:, None])
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        bootstrap_interval(values, clusters, samples=0)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match=f"confidence must lie in .*, got {confidence}"):
            bootstrap_interval(values, clusters, confidence=confidence)
