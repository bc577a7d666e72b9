import math

import numpy as np
import pytest

from gradrev_jax.evaluation import unlabelled
from gradrev_jax.evaluation.unlabelled import (
    kept_among_matches_by_chance,
    kept_by_chance,
    kept_scores,
    near_scores,
)

KS = (1, 3, 7)


def mean(values, weights):
    total = math.fsum(weights)
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / total if total else math.nan


@pytest.fixture
def answers(rng):
    """Labels, some of them missing, and answers that often hold the reference itself."""
    gallery, queries = 9, 40
    labels = rng.integers(-1, 3, gallery)
    neighbors = np.stack([rng.permutation(gallery)[: max(KS)] for _ in range(queries)])
    return labels, neighbors, rng.integers(0, gallery, queries), rng.random((queries, max(KS))) < 0.4


def test_kept_scores_equal_those_of_a_loop(answers):
    labels, neighbors, reference, matches = answers
    found = kept_scores(labels, neighbors, reference, matches, KS)
    seen = 0
    for query, own in enumerate(reference.tolist()):
        for column, k in enumerate(KS):
            ranks = [r for r in range(k) if neighbors[query, r] != own]
            keeps = [float(labels[neighbors[query, r]] == labels[own]) for r in ranks]
            weights = {
                "kept": [1.0 for _ in ranks],
                "kept_among_matches": [float(matches[query, r]) for r in ranks],
                "ndcg": [1 / math.log(r + 2) for r in ranks],
            }
            for name, each in weights.items():
                expected = math.nan if labels[own] < 0 else mean(keeps, each)
                np.testing.assert_allclose(found[name][query, column], expected, rtol=1e-12)
                seen += not math.isnan(expected)
    assert seen > 100


def test_a_perfect_result_scores_one_with_or_without_the_reference_in_it():
    labels = np.array([0, 0, 0, 1])
    for neighbors in ([[0, 1, 2]], [[1, 2, 0]]):
        scores = kept_scores(labels, np.array(neighbors), np.array([0]), np.ones((1, 3), bool), (3,))
        assert all(values.tolist() == [[1.0]] for values in scores.values())


def test_a_query_without_a_label_or_a_neighbour_that_counts_has_no_score():
    labels, nobody = np.array([-1, 0, 0]), np.zeros((2, 1), bool)
    scores = kept_scores(labels, np.array([[1], [1]]), np.array([0, 1]), nobody, (1,))
    assert all(np.isnan(values).all() for values in scores.values())


def test_chance_is_the_share_of_all_other_images(answers):
    labels, _, reference, _ = answers
    for query, found in enumerate(kept_by_chance(labels, reference).tolist()):
        own = reference[query]
        others = [labels[row] == labels[own] for row in range(len(labels)) if row != own]
        np.testing.assert_allclose(found, math.nan if labels[own] < 0 else np.mean(others))


def test_chance_among_matches_is_the_share_of_all_images_with_the_labels(rng):
    gallery, queries = 60, 80
    labels, asked = rng.integers(-1, 3, gallery), rng.integers(-1, 2, (gallery, 2))
    reference, targets = rng.integers(0, gallery, queries), rng.integers(-1, 3, (queries, 2))
    found = kept_among_matches_by_chance(labels, reference, asked, targets)
    for query, own in enumerate(reference.tolist()):
        rows = [row for row in range(gallery) if row != own and (asked[row] == targets[query]).all()]
        keeps = [labels[row] == labels[own] for row in rows]
        expected = math.nan if labels[own] < 0 or not keeps else np.mean(keeps)
        np.testing.assert_allclose(found[query], expected)
    assert np.isnan(found).any()
    assert (~np.isnan(found)).sum() > 20


def test_no_label_at_all_gives_no_chance():
    labels, reference = np.full(4, -1), np.array([0, 1])
    assert np.isnan(kept_by_chance(labels, reference)).all()
    asked = np.zeros((4, 1), int)
    assert np.isnan(kept_among_matches_by_chance(labels, reference, asked, asked[:2])).all()


@pytest.mark.parametrize("period", [math.inf, 1.0])
def test_near_scores_equal_those_of_a_loop(rng, answers, period):
    _, neighbors, reference, _ = answers
    values = rng.random(9)
    values[2] = math.nan

    def distance(a, b):
        apart = abs(values[a] - values[b])
        return apart if math.isinf(period) else min(apart, period - apart)

    pairs = [distance(a, b) for a in range(9) for b in range(a) if a != 2 and b != 2]
    found = near_scores(values, neighbors, reference, KS, period=period)
    for query, own in enumerate(reference.tolist()):
        for column, k in enumerate(KS):
            rows = [row for row in neighbors[query, :k].tolist() if row not in (own, 2)]
            scores = [1 - distance(own, row) / np.mean(pairs) for row in rows]
            expected = np.mean(scores) if scores and own != 2 else math.nan
            np.testing.assert_allclose(found[query, column], expected, rtol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40, 41])
@pytest.mark.parametrize("period", [math.inf, 1.0, 0.3])
def test_the_mean_distance_is_that_of_all_pairs(rng, count, period):
    values = rng.normal(size=count).round(1)  # some of them equal
    pairs = [abs(a - b) for i, a in enumerate(values) for b in values[:i]]
    if not math.isinf(period):
        pairs = [min(distance % period, -distance % period) for distance in pairs]
    expected = math.fsum(pairs) / max(len(pairs), 1)
    assert unlabelled._mean_distance(values, period) == pytest.approx(expected, abs=1e-12)
    assert unlabelled._mean_distance(np.full(count, 0.1), period) == 0


def test_random_results_are_near_zero_and_the_mean_distance_of_many_is_that_of_some(rng, monkeypatch):
    values, rows = rng.random(1200), rng.permutation(1200)
    monkeypatch.setattr(unlabelled, "MOST_COMPARED", 600)
    found = near_scores(values, rows[300:].reshape(-1, 3), rows[:300], (3,), period=1.0)
    assert abs(found.mean()) < 0.05
    monkeypatch.setattr(unlabelled, "MOST_COMPARED", 1200)
    exact = near_scores(values, rows[300:].reshape(-1, 3), rows[:300], (3,), period=1.0)
    assert np.abs(found - exact).max() < 0.05


def test_a_nuisance_with_one_value_says_nothing():
    assert np.isnan(near_scores(np.full(3, 0.5), np.array([[1, 2]]), np.array([0]), (2,))).all()


@pytest.mark.parametrize("ks", [(0,), (3,), ()])
def test_cut_offs_must_lie_within_the_answers(ks):
    with pytest.raises(ValueError, match="cut-off"):
        near_scores(np.array([0.0, 1.0]), np.array([[1, 0]]), np.array([0]), ks)


def test_whole_periods_change_no_distance(rng):
    """Values within one period take a shorter way than those beyond it."""
    values, rows = rng.random(40), rng.integers(0, 40, (30, 4))
    found = [
        near_scores(values + further, rows, rows[:, 0], (3,), period=1.0)
        for further in (0, rng.integers(0, 3, 40))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)
