import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core import metrics
from gradrev_jax.core.metrics import METRICS, Comparison, hit_rate, ndcg, precision, retrieval_scores

PARTS = ("all", "target", "others")


def example(queries=40, depth=6, attributes=3, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-1, 2, (queries, depth, attributes)),
        rng.integers(-1, 2, (queries, attributes)),
        rng.integers(0, attributes, queries),
    )


def slow_ndcg(neighbors, targets, changed, k, part):
    values = []
    for query, target in enumerate(targets):
        gained = ideal = 0.0
        for rank in range(1, k + 1):
            right = [a == b for a, b in zip(neighbors[query, rank - 1], target, strict=True)]
            if part == "target":
                relevance = float(right[changed[query]])
            elif part == "others":
                kept = [r for n, r in enumerate(right) if n != changed[query]]
                relevance = sum(kept) / len(kept) if kept else 1.0
            else:
                relevance = sum(right) / len(right)
            gained += (2**relevance - 1) / np.log(rank + 1)
            ideal += 1 / np.log(rank + 1)
        values.append(gained / ideal)
    return np.mean(values)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_hit_rate_and_precision_against_loops(k):
    neighbors, targets, _ = example()
    matches = [
        [(row == target).all() for row in rows[:k]] for rows, target in zip(neighbors, targets, strict=True)
    ]
    assert hit_rate(neighbors, targets, k) == pytest.approx(np.mean([any(row) for row in matches]), abs=1e-12)
    assert precision(neighbors, targets, k) == pytest.approx(
        np.mean([sum(row) / k for row in matches]), abs=1e-12
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("attributes", [1, 3])
@pytest.mark.parametrize("k", [1, 4])
def test_ndcg_against_loops(part, attributes, k):
    neighbors, targets, changed = example(attributes=attributes)
    expected = slow_ndcg(neighbors, targets, changed, k, part)
    assert ndcg(neighbors, targets, changed, k, part) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("part", PARTS)
def test_jax_arrays_are_traceable_and_agree(part):
    neighbors, targets, changed = example()
    arrays = jnp.asarray(neighbors), jnp.asarray(targets)
    jitted = jax.jit(ndcg, static_argnums=(3, 4))(*arrays, jnp.asarray(changed), 4, part)
    np.testing.assert_allclose(jitted, ndcg(neighbors, targets, changed, 4, part), rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(hit_rate, static_argnums=2)(*arrays, 4), hit_rate(neighbors, targets, 4)
    )
    np.testing.assert_allclose(
        jax.jit(precision, static_argnums=2)(*arrays, 4), precision(neighbors, targets, 4), rtol=1e-6
    )


@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray])
def test_the_scores_of_one_pass_where_several_or_all_attributes_change(to_array):
    neighbors, targets, _ = example()
    mask = np.random.default_rng(1).random(targets.shape) < 0.5
    mask[:3] = [[True] * 3, [False] * 3, [True, True, False]]
    scores = retrieval_scores(to_array(neighbors), to_array(targets), to_array(mask), (2, 5))
    for name, part in {"ndcg": "all", "ndcg_target": "target", "ndcg_others": "others"}.items():
        for query in range(len(targets)):
            one = slice(query, query + 1)
            expected = [ndcg(neighbors[one], targets[one], mask[one], k, part) for k in (2, 5)]
            np.testing.assert_allclose(np.asarray(scores[name])[query], expected, rtol=1e-5)


@pytest.mark.parametrize("attributes", [1, 3])
@pytest.mark.parametrize("traced", [False, True])
def test_the_scores_of_one_pass_are_those_of_each_query_alone(attributes, traced):
    neighbors, targets, changed = example(attributes=attributes)
    ks = (4, 1, 6)
    score = jax.jit(retrieval_scores, static_argnums=3) if traced else retrieval_scores
    scores = {name: np.asarray(values) for name, values in score(neighbors, targets, changed, ks).items()}
    names = {"ndcg": "all", "ndcg_target": "target", "ndcg_others": "others"}
    assert set(scores) == {"hit_rate", "precision", *names}
    tolerance = 1e-6 if traced else 1e-12
    for column, k in enumerate(ks):
        for query in range(len(neighbors)):
            one = slice(query, query + 1)
            expected = {
                "hit_rate": float(any((row == targets[query]).all() for row in neighbors[query, :k])),
                "precision": sum((row == targets[query]).all() for row in neighbors[query, :k]) / k,
            }
            for name, part in names.items():
                expected[name] = slow_ndcg(neighbors[one], targets[one], changed[one], k, part)
            for name, value in expected.items():
                assert scores[name][query, column] == pytest.approx(value, abs=tolerance), (name, query, k)


def test_perfect_and_hopeless_rankings():
    targets = np.array([[0, 1, -1]])
    perfect, hopeless = np.array([[[0, 1, -1]] * 3]), np.array([[[1, 0, 0]] * 3])
    for part in PARTS:
        assert ndcg(perfect, targets, np.array([1]), 3, part) == pytest.approx(1)
        assert ndcg(hopeless, targets, np.array([1]), 3, part) == 0
    assert hit_rate(perfect, targets, 1) == precision(perfect, targets, 3) == 1
    assert hit_rate(hopeless, targets, 3) == precision(hopeless, targets, 3) == 0


def test_not_labelled_matches_only_not_labelled():
    targets = np.array([[0, -1]])
    assert hit_rate(np.array([[[0, -1]]]), targets, 1) == 1
    assert hit_rate(np.array([[[0, 0]]]), targets, 1) == 0


def test_an_earlier_match_is_worth_more():
    targets, changed = np.array([[0]]), np.array([0])
    early, late = np.array([[[0], [1]]]), np.array([[[1], [0]]])
    assert ndcg(early, targets, changed, 2) > ndcg(late, targets, changed, 2)
    assert precision(early, targets, 2) == precision(late, targets, 2) == 0.5


def test_what_cannot_be_computed(unchecked):
    neighbors, targets, changed = example()
    for k in (0, 7):
        with pytest.raises(ValueError, match=rf"k must lie in \[1, 6\] .*, got {k}"):
            hit_rate(neighbors, targets, k)
    with pytest.raises(ValueError, match="no queries"):
        precision(neighbors[:0], targets[:0], 1)
    for ks, wrong in (((1, 7), 7), ((0, 1), 0)):
        with pytest.raises(ValueError, match=rf"k must lie in \[1, 6\] .*, got {wrong}"):
            retrieval_scores(neighbors, targets, changed, ks)
    with pytest.raises(ValueError, match="part must be one of"):
        ndcg(neighbors, targets, changed, 1, "most")
    with pytest.raises(ValueError, match=r"needs target_labels \(40, 3\), got \(39, 3\)"):
        hit_rate(neighbors, targets[:39], 1)


def test_a_metric_is_one_function_and_one_entry(monkeypatch):
    """The share of the kept attributes among the right labels of the first k, from what is shared."""

    def kept_share(comparison: Comparison):
        kept = (comparison.num_right - comparison.num_right_changed).cumsum(axis=1)
        return comparison.at_cut_offs(kept / np.maximum(comparison.num_right.cumsum(axis=1), 1))

    monkeypatch.setitem(metrics.METRICS, "kept_share", kept_share)
    neighbors, targets, changed = example()
    scores = retrieval_scores(neighbors, targets, changed, (2, 5))
    assert list(scores) == list(METRICS)
    right = neighbors == targets[:, None]
    for column, k in enumerate((2, 5)):
        for query in range(len(neighbors)):
            cells = [(row[n], n != changed[query]) for row in right[query, :k] for n in range(3)]
            total = sum(correct for correct, _ in cells)
            expected = sum(correct and kept for correct, kept in cells) / total if total else 0
            assert scores["kept_share"][query, column] == pytest.approx(expected)


@pytest.mark.parametrize("traced", [0, 1, 2])
def test_any_one_argument_may_be_traced(traced):
    rng = np.random.default_rng(0)
    arguments = [rng.integers(0, 2, (4, 3, 2)), rng.integers(0, 2, (4, 2)), np.array([0, 1, 1, 0])]

    def compute(one):
        mixed = [*arguments[:traced], one, *arguments[traced + 1 :]]
        return ndcg(*mixed, 3, "others"), retrieval_scores(*mixed, (1, 3))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        jax.jit(compute)(arguments[traced]),
        compute(arguments[traced]),
    )


def test_labels_may_be_unsigned(unchecked):
    labels = jnp.ones((1, 1, 1), jnp.uint8)
    assert hit_rate(labels, labels[0], 1) == jax.jit(hit_rate, static_argnums=2)(labels, labels[0], 1) == 1
