import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.metrics import (
    accuracy_summary,
    cross_accuracy,
    cross_correct,
    hit_rate,
    majority_correct,
    ndcg,
    precision,
    retrieval_scores,
)

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
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
            np.testing.assert_allclose(scores[name][query], expected, rtol=1e-5)


@pytest.mark.parametrize("attributes", [1, 3])
@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray])
def test_the_scores_of_one_pass_are_those_of_each_query_alone(attributes, to_array):
    neighbors, targets, changed = example(attributes=attributes)
    ks = (4, 1, 6)
    scores = retrieval_scores(to_array(neighbors), to_array(targets), to_array(changed), ks)
    names = {"ndcg": "all", "ndcg_target": "target", "ndcg_others": "others"}
    assert set(scores) == {"hit_rate", "precision", *names}
    tolerance = 1e-12 if to_array is np.asarray else 1e-6
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


def test_cross_accuracy_against_loops():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 3, 6)).astype(np.float32)
    labels = np.stack([rng.integers(-1, size, 30) for size in SCHEMA.sizes], axis=1)
    labels[:, 1] = -1
    expected = np.zeros((3, 3))
    for j in range(3):
        for n in range(3):
            own = logits[:, j, SCHEMA.offsets[n] : SCHEMA.offsets[n] + SCHEMA.sizes[n]]
            right = [own[m].argmax() == labels[m, n] for m in range(30) if labels[m, n] >= 0]
            expected[j, n] = np.mean(right) if right else 0
    np.testing.assert_allclose(cross_accuracy(logits, labels, SCHEMA), expected)
    np.testing.assert_allclose(cross_accuracy(jnp.asarray(logits), labels, SCHEMA), expected, rtol=1e-6)
    assert (expected[:, 2] == 1).all(), "an attribute with one value is always right"


def test_accuracy_summary_leaves_out_what_nobody_labelled():
    summary = accuracy_summary(np.array([1, 0, 6]), np.array([2, 0, 8]), SCHEMA)
    assert summary == {"macro": 0.625, "micro": 0.7, "per_attribute": {"color": 0.5, "only": 0.75}}
    with pytest.raises(ValueError, match="no image is labelled"):
        accuracy_summary(np.zeros(3, int), np.zeros(3, int), SCHEMA)


def test_majority_is_that_of_the_reference():
    labels = np.array([[0, -1], [0, 1], [1, 1], [-1, 0]])
    reference = np.array([[1, -1], [1, -1], [0, -1]])
    assert majority_correct(labels, reference).tolist() == [1, 0]


def test_logits_and_labels_that_do_not_fit(unchecked):
    logits, labels = np.zeros((2, 3, 6)), np.zeros((2, 3), int)
    for bad in (
        (logits[..., :5], labels),
        (logits[:1], labels),
        (logits, labels[:, :2]),
        (logits[0], labels[0]),
    ):
        with pytest.raises(ValueError, match=r"labels \[B, N\] with N, J = \(3, 6\); got"):
            cross_correct(*bad, SCHEMA)
    for bad in (-2, 3):
        labels[1, 0] = bad
        with pytest.raises(ValueError, match=f"label {bad} of row 1 is outside .* 'color'"):
            cross_accuracy(logits, labels, SCHEMA)
        found = jax.jit(cross_accuracy, static_argnums=2)(logits, labels, SCHEMA)
        np.testing.assert_allclose(found, cross_accuracy(logits, np.where(labels == bad, -1, labels), SCHEMA))


def test_counts_that_do_not_fit(unchecked):
    for correct, labelled in (([1, 2], [2, 2]), ([3, 0, 0], [2, 1, 1]), ([-1, 0, 0], [2, 1, 1])):
        with pytest.raises(ValueError, match="with 0 <= correct <= labelled"):
            accuracy_summary(np.array(correct), np.array(labelled), SCHEMA)
    with pytest.raises(ValueError, match=r"reference must be at least -1 .* got -2 at \(0, 0\)"):
        majority_correct(np.array([[0]]), np.array([[-2]]))
    with pytest.raises(ValueError, match=r"must be \[M, N\] and reference \[R, N\]; got \(1, 1\), \(1, 2\)"):
        majority_correct(np.array([[0]]), np.array([[0, 1]]))
