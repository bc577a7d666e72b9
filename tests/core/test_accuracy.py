import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.accuracy import accuracy_summary, cross_accuracy, cross_correct, majority_correct
from gradrev_jax.core.attributes import AttributeSchema

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


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
