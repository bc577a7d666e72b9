"""Two-level samples of ``bootstrap``: of seeds and of reference images."""

import numpy as np
import pytest

from gradrev_jax.evaluation import bootstrap
from gradrev_jax.evaluation.bootstrap import (
    Resampled,
    bootstrap_interval,
    difference_samples,
    percentile_interval,
    resample_references,
    resampled_means,
    seeds_samples,
)

STUDENT = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262}  # 97.5 % of S - 1 degrees of freedom, from tables


def scores(rng, seeds=3, clusters=12, columns=2, missing=0.0):
    """Scores of several seeds: what a cluster and what a seed adds, and noise."""
    of = rng.permutation(np.repeat(7 * np.arange(clusters), rng.integers(1, 5, clusters)))
    values = rng.normal(size=(clusters, columns))[of // 7] + 0.4 * rng.normal(size=(seeds, 1, columns))
    values = values + 0.2 * rng.normal(size=values.shape)
    values[rng.random(values.shape) < missing] = np.nan
    return values, of


def slow_means(values, clusters, samples, seed):
    """The mean over the seeds of each sample, from loops over draws, seeds, clusters and values."""
    names = sorted(set(clusters.tolist()))
    draws = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
    found = []
    for draw in draws.tolist():
        row = []
        for column in range(values.shape[2]):
            by_seed = []
            for one in values[:, :, column]:
                members = [one[clusters == names[place]].tolist() for place in draw]
                seen = [value for each in members for value in each if value == value]
                by_seed.append(sum(seen) / len(seen) if seen else np.nan)
            row.append(sum(by_seed) / len(by_seed))
        found.append(row)
    return np.array(found)


def slow_deviations(by_seed, samples, stream):
    """What other seeds add: sqrt(v / S) times a t that is made of the same random numbers."""
    count = len(by_seed)
    rng = np.random.default_rng(stream)
    normal = rng.normal(size=(samples, count))
    chi = rng.chisquare(count - 1, size=(samples, 1))[:, 0]
    found = []
    for g, c in zip(normal.tolist(), chi.tolist(), strict=True):
        row = []
        for column in by_seed.T.tolist():
            mean = sum(column) / count
            z = sum(a * (b - mean) for a, b in zip(g, column, strict=True)) / (count - 1) ** 0.5
            row.append(z / (count * c / (count - 1)) ** 0.5)
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("at_once", [1, 30, 1 << 20])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_samples_of_both_levels_equal_the_loops(rng, monkeypatch, at_once, missing):
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", at_once)
    values, clusters = scores(rng, missing=missing)
    resampled = resample_references(values, clusters, samples=25, seed=3)
    means = slow_means(values, clusters, 25, 3)
    np.testing.assert_allclose(resampled.means, means, atol=1e-12)
    np.testing.assert_allclose(resampled.by_seed, np.nanmean(values, axis=1))
    expected = means + slow_deviations(resampled.by_seed, 25, (5, 1))
    np.testing.assert_allclose(seeds_samples(resampled, seed=5), expected, atol=1e-12)


def test_differences_draw_the_same_references_and_each_their_own_seeds(rng):
    values, clusters = scores(rng, seeds=4)
    a, b = (resample_references(each, clusters, samples=30) for each in (values[:3], values[2:]))
    expected = a.means - b.means
    expected += slow_deviations(a.by_seed, 30, (0, 1)) - slow_deviations(b.by_seed, 30, (0, 2))
    np.testing.assert_allclose(difference_samples(a, b, paired=False), expected, atol=1e-12)
    # Their own intervals are far wider: the references' variance is common to both.
    assert np.ptp(a.means - b.means) < 0.5 * np.ptp(a.means)


def test_paired_seeds_are_one_system_of_differences(rng):
    values, clusters = scores(rng, seeds=6)
    a, b, both = (
        resample_references(each, clusters, samples=50)
        for each in (values[:3], values[3:], values[:3] - values[3:])
    )
    found = difference_samples(a, b, paired=True)
    np.testing.assert_allclose(found, seeds_samples(both), atol=1e-12)
    np.testing.assert_allclose(difference_samples(b, a, paired=True), -found, atol=1e-12)
    assert not difference_samples(a, a, paired=True).any()
    assert difference_samples(a, a, paired=False).std() > 0.1


def test_one_seed_leaves_the_references_alone(rng):
    values, clusters = scores(rng, seeds=1)
    resampled = resample_references(values, clusters)
    np.testing.assert_array_equal(seeds_samples(resampled), resampled_means(values[0], clusters))
    low, high = percentile_interval(seeds_samples(resampled))
    np.testing.assert_array_equal([low, high], bootstrap_interval(values[0], clusters))
    twice = difference_samples(resampled, resampled, paired=False)
    assert not twice.any(), "there is nothing to draw independently"


def test_a_system_of_one_seed_adds_nothing_to_the_seeds_of_the_other(rng):
    values, clusters = scores(rng, seeds=4)
    one, three = (resample_references(each, clusters) for each in (values[:1], values[1:]))
    expected = seeds_samples(three) - one.means
    np.testing.assert_allclose(difference_samples(three, one, paired=False), expected, atol=1e-12)


def test_equal_seeds_have_the_interval_of_one(rng):
    values, clusters = scores(rng, seeds=1)
    low, high = percentile_interval(seeds_samples(resample_references(values.repeat(5, axis=0), clusters)))
    np.testing.assert_allclose([low, high], bootstrap_interval(values[0], clusters), atol=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_without_reference_variance_the_interval_is_students(rng, seeds):
    by_seed = rng.normal(3.0, 2.0, seeds)
    values = np.broadcast_to(by_seed[:, None, None], (seeds, 6, 1)).copy()
    samples = seeds_samples(resample_references(values, np.arange(6) // 2, samples=100_000))
    half = STUDENT[seeds] * by_seed.std(ddof=1) / np.sqrt(seeds)
    low, high = percentile_interval(samples)
    np.testing.assert_allclose([low[0], high[0]], by_seed.mean() + half * np.array([-1, 1]), atol=0.05 * half)


def drawn_with_replacement(rng, resampled, count):
    """The plain second level: S of the S seeds, their deviations scaled to the right variance."""
    seeds = len(resampled.by_seed)
    deviations = (resampled.by_seed - resampled.by_seed.mean(axis=0)) * np.sqrt(seeds / (seeds - 1))
    return resampled.means + deviations[rng.integers(seeds, size=(count, seeds))].mean(axis=1)


@pytest.mark.long
@pytest.mark.parametrize(("seeds", "between"), [(2, 1.0), (3, 1.0), (3, 0.2), (10, 0.5)])
def test_intervals_cover_the_truth_of_other_seeds_and_other_references(seeds, between):
    """The true mean is 0; the standard error from the references is about 0.16."""
    rng = np.random.default_rng(11)
    clusters, runs = np.repeat(np.arange(40), 3), 300
    covered, plain, references_alone = 0, 0, 0
    for run in range(runs):
        shared = rng.normal(size=40)[clusters]
        values = between * rng.normal(size=(seeds, 1)) + shared + 0.3 * rng.normal(size=(seeds, 120))
        resampled = resample_references(values[:, :, None], clusters, samples=1000, seed=run)
        drawn = (
            seeds_samples(resampled, seed=run),
            drawn_with_replacement(rng, resampled, 1000),
            resampled.means,
        )
        bounds = [percentile_interval(each) for each in drawn]
        inside = [bool(low[0] <= 0 <= high[0]) for low, high in bounds]
        covered, plain, references_alone = np.add((covered, plain, references_alone), inside)
    assert 0.925 <= covered / runs <= 0.99
    assert references_alone < 0.92 * covered
    if between == 1.0:
        assert plain / runs < 0.87, "a few seeds drawn with replacement are too sure of themselves"


@pytest.mark.parametrize(("paired", "of_b"), [(True, 3), (False, 3), (False, 5)])
def test_differences_are_found_by_chance_as_often_as_the_confidence_says(paired, of_b):
    rng = np.random.default_rng(8)
    clusters, runs = np.arange(40), 300
    found = 0
    for _ in range(runs):
        shared = rng.normal(size=40)
        common = rng.normal(size=(max(3, of_b), 1))  # what a seed adds to both systems, as its split does
        systems = []
        for count in (3, of_b):
            own = 0.3 * rng.normal(size=(count, 1)) + (common[:count] if paired else 0)
            values = shared + own + 0.3 * rng.normal(size=(count, 40))
            systems.append(resample_references(values[:, :, None], clusters, samples=300))
        low, high = percentile_interval(difference_samples(*systems, paired=paired))
        found += bool(low[0] > 0 or high[0] < 0)
    # Seeds that are not paired have two variances to estimate: of few, that is on the safe side.
    assert (0.02 if paired else 0.002) <= found / runs <= 0.075


def test_one_cluster_leaves_no_interval_and_keeps_the_means(rng):
    resampled = resample_references(np.ones((3, 4, 1)), np.zeros(4, int), samples=10)
    assert np.isnan(resampled.means).all()
    assert resampled.by_seed.tolist() == [[1.0]] * 3
    assert np.isnan(percentile_interval(seeds_samples(resampled))).all()
    values = rng.normal(size=(2, 6, 2))
    values[1, 2:, 1] = np.nan  # one seed has one cluster of the second column
    low, high = percentile_interval(seeds_samples(resample_references(values, np.arange(6) // 2)))
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


def test_what_cannot_be_resampled(unchecked):
    with pytest.raises(ValueError, match="no seeds"):
        resample_references(np.zeros((0, 4, 1)), np.arange(4))
    with pytest.raises(ValueError, match="no values"):
        resample_references(np.zeros((2, 0, 1)), np.arange(0))
    with pytest.raises(ValueError, match=r"4 values need as many clusters, got \(3,\)"):
        resample_references(np.zeros((2, 4, 1)), np.arange(3))
    two, three = (Resampled(np.zeros((9, 1)), np.zeros((count, 1))) for count in (2, 3))
    with pytest.raises(ValueError, match="paired seeds must be as many, got 2 and 3"):
        difference_samples(two, three, paired=True)
    with pytest.raises(ValueError, match="as many samples, got 9 and 5"):
        difference_samples(two, Resampled(np.zeros((5, 1)), np.zeros((2, 1))), paired=True)
