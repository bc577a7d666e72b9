import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gradrev_jax.core.triplet_losses import (
    attribute_triplet_loss,
    semi_hard_triplet_loss,
    squared_distances,
    triplet_margin_loss,
)

semi_hard = jax.jit(semi_hard_triplet_loss, static_argnames="margin")


def oracle(embeddings, classes, labelled, margin):
    """Every pair, every negative, in Python and float64."""
    rows = [tuple(np.atleast_1d(row).tolist()) for row in classes]
    taking_part = [i for i in range(len(rows)) if labelled[i]]
    losses = []
    for a in taking_part:
        to = {i: ((embeddings[a] - embeddings[i]) ** 2).sum() for i in taking_part}
        negatives = [to[i] for i in taking_part if rows[i] != rows[a]]
        for p in taking_part:
            if p == a or rows[p] != rows[a] or not negatives:
                continue
            farther = [distance for distance in negatives if distance > to[p]]
            losses.append(max(0.0, to[p] - (min(farther) if farther else max(negatives)) + margin))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("batch", [1, 2, 9, 40])
@pytest.mark.parametrize("kinds", [1, 3, 40])
def test_semi_hard_equals_the_oracle(rng, batch, kinds):
    for margin in (0.1, 2.0):
        embeddings = rng.normal(size=(batch, 3)).astype(np.float32)
        classes = rng.integers(0, kinds, batch)
        labelled = rng.random(batch) < 0.8
        loss = semi_hard(embeddings, classes, labelled=labelled, margin=margin)
        expected = oracle(embeddings.astype(float), classes, labelled, margin)
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_a_class_may_be_a_whole_row_of_labels(rng):
    embeddings = rng.normal(size=(20, 4)).astype(np.float32)
    rows = rng.integers(-1, 1, (20, 2))
    np.testing.assert_allclose(
        semi_hard(embeddings, rows),
        oracle(embeddings.astype(float), rows, np.ones(20, bool), 0.5),
        rtol=1e-5,
    )


def test_no_pair_and_no_negative_give_zero_and_no_nan(rng):
    embeddings = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    value_and_gradient = jax.jit(
        jax.value_and_grad(lambda x, classes, labelled: semi_hard_triplet_loss(x, classes, labelled=labelled))
    )
    for classes, labelled in (
        (np.arange(4), np.ones(4, bool)),
        (np.zeros(4, int), np.ones(4, bool)),
        (np.zeros(4, int), np.zeros(4, bool)),
    ):
        value, gradient = value_and_gradient(embeddings, classes, labelled)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


def test_gradient_of_the_semi_hard_loss_against_finite_differences(rng):
    with jax.enable_x64(True):
        embeddings = jnp.asarray(rng.normal(size=(8, 3)))
        classes = np.array([0, 0, 1, 1, 2, 0, 1, 2])
        loss = jax.jit(lambda x: semi_hard_triplet_loss(x, classes, margin=3.0))
        check_grads(loss, (embeddings,), order=1, modes=["rev"])


def test_attributes_add_up_and_unlabelled_images_are_left_out(rng):
    features = rng.normal(size=(12, 3, 4)).astype(np.float32)
    labels = rng.integers(-1, 2, (12, 3))
    expected = sum(
        oracle(
            features[:, n].astype(float)
            / np.linalg.norm(features[:, n].astype(float), axis=1, keepdims=True),
            labels[:, n],
            labels[:, n] >= 0,
            0.5,
        )
        for n in range(3)
    )
    np.testing.assert_allclose(jax.jit(attribute_triplet_loss)(features, labels), expected, rtol=1e-5)


def test_margin_loss_against_loops(rng):
    anchor, positive, negative = rng.normal(size=(3, 7, 5)).astype(np.float32)
    expected = [
        max(0, np.linalg.norm(a - p) - np.linalg.norm(a - n) + 0.5)
        for a, p, n in zip(anchor, positive, negative, strict=True)
    ]
    loss = jax.jit(triplet_margin_loss)(anchor, positive, negative)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_equal_vectors_have_a_finite_gradient():
    x = jnp.ones((2, 3))
    gradient = jax.jit(jax.grad(lambda a: triplet_margin_loss(a, x, 2 * x)))(x)
    assert np.isfinite(gradient).all()


def test_squared_distances_are_never_negative(rng):
    x = jnp.asarray(1000 + 1e-3 * rng.normal(size=(30, 50)), jnp.float32)
    distances = np.asarray(jax.jit(squared_distances)(x))
    assert (distances >= 0).all()
    np.testing.assert_array_equal(distances.diagonal(), 0)


def test_rows_that_disagree(unchecked):
    with pytest.raises(ValueError, match="must have as many rows; got 3, 2 and None"):
        semi_hard_triplet_loss(jnp.zeros((3, 2)), jnp.zeros(2, int))


def test_what_does_not_fit(unchecked):
    rows, labels = jnp.zeros((3, 2)), np.array([0, 0, 1])
    with pytest.raises(ValueError, match=r"embeddings must be \[B, D\] .* got \(3,\) and \(3,\)"):
        semi_hard_triplet_loss(rows[:, 0], labels)
    with pytest.raises(ValueError, match="classes must be of an integer dtype, got float64"):
        semi_hard_triplet_loss(rows, labels.astype(float))
    with pytest.raises(ValueError, match=r"\[B, D\] alike; got \(3, 2\), \(3, 2\) and \(2,\)"):
        triplet_margin_loss(rows, rows, rows[0])
    with pytest.raises(ValueError, match=r"features must be \[B, N, d\] and labels \[B, N\]; got"):
        attribute_triplet_loss(rows, labels)


def test_only_minus_one_is_not_labelled():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(6, 1, 3)), jnp.float32)
    labels = np.array([[0], [0], [1], [1], [-100], [-100]])
    with pytest.raises(ValueError, match="label -100 of row 4 is below -1"):
        attribute_triplet_loss(features, labels)
    jitted = jax.jit(attribute_triplet_loss)
    masked = jitted(features, np.maximum(labels, -1))
    assert masked > 0
    np.testing.assert_array_equal(jitted(features, labels), masked)


def test_a_batch_without_rows_has_no_loss():
    none = np.zeros((0, 3), np.float32)
    assert float(semi_hard_triplet_loss(none, np.zeros(0, int))) == 0
    assert float(attribute_triplet_loss(np.zeros((0, 2, 3), np.float32), np.zeros((0, 2), int))) == 0
    assert float(triplet_margin_loss(none, none, none)) == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e-5, 1.0, 300.0])
def test_half_precision_is_computed_in_float32(rng, dtype, size):
    features = jnp.asarray(size * rng.normal(size=(24, 2, 8)), dtype)
    labels = rng.integers(-1, 3, (24, 2))

    def losses(features):
        return jnp.stack(
            [
                semi_hard_triplet_loss(features[:, 0], labels, margin=size),
                attribute_triplet_loss(features, labels),
                triplet_margin_loss(features[:8, 0], features[8:16, 0], features[16:, 0], margin=size),
            ]
        )

    half, full = losses(features), losses(features.astype(jnp.float32))
    assert half.dtype == jnp.float32
    np.testing.assert_array_equal(half, full)
