import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.losses import (
    balanced_reversal_weight,
    classification_loss,
    pathway_losses,
    reversal_loss,
)
from gradrev_jax.core.manipulation import class_prototypes

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
SINGLE = AttributeSchema(("color",), (("blue", "green"),))

# Compiled once for all tests: eager calls compile every operation by itself.
LOSSES = (pathway_losses, classification_loss, reversal_loss)
jit_pathways, jit_classification, jit_reversal = (jax.jit(loss, static_argnums=2) for loss in LOSSES)
grad_classification, grad_reversal = (
    jax.jit(jax.grad(loss), static_argnums=2) for loss in (classification_loss, reversal_loss)
)


def example(batch=7, schema=SCHEMA, missing=0.4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (batch, schema.num_attributes, schema.num_values)).astype(np.float32)
    labels = np.stack([rng.integers(0, size, batch) for size in schema.sizes], axis=1).astype(np.int32)
    return logits, np.where(rng.random(labels.shape) < missing, -1, labels).astype(np.int32)


def slow_pathway_losses(logits, labels, schema, weights=None):
    """Float64 loops over pathways and samples."""
    weights = np.ones(labels.shape) if weights is None else weights
    losses = np.zeros((schema.num_attributes,) * 2)
    for j in range(schema.num_attributes):
        for n in range(schema.num_attributes):
            terms = []
            for b in range(len(logits)):
                if labels[b, n] >= 0:
                    scores = logits[b, j, schema.offsets[n] : schema.offsets[n] + schema.sizes[n]].astype(
                        float
                    )
                    normalizer = np.log(np.exp(scores - scores.max()).sum()) + scores.max()
                    terms.append(weights[b, n] * (normalizer - scores[labels[b, n]]))
            losses[j, n] = np.mean(terms) if terms else 0.0
    return losses


@pytest.mark.parametrize("schema", [SCHEMA, SINGLE])
@pytest.mark.parametrize("missing", [0.0, 0.4, 1.0])
def test_against_loops(schema, missing):
    logits, labels = example(schema=schema, missing=missing)
    expected = slow_pathway_losses(logits, labels, schema)
    np.testing.assert_allclose(jit_pathways(logits, labels, schema), expected, rtol=2e-5, atol=1e-6)
    diagonal = expected.trace()
    np.testing.assert_allclose(jit_classification(logits, labels, schema), diagonal, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(
        jit_reversal(logits, labels, schema), expected.sum() - diagonal, rtol=2e-5, atol=1e-5
    )


def test_a_weight_of_0_leaves_a_sample_out_whose_label_is_ruled_out():
    logits = np.zeros((2, 3, SCHEMA.num_values), np.float32)
    logits[0, :, 0] = -np.inf
    labels, weights = np.zeros((2, 3), int), np.ones((2, 3), np.float32)
    weights[0, 0] = 0
    expected = np.log(SCHEMA.sizes) / [2, 1, 1]
    found = jit_pathways(logits, labels, SCHEMA, weights)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (3, 3)), rtol=1e-6)


def test_weights_are_those_of_a_sample_for_a_classifier():
    logits, labels = example()
    weights = np.random.default_rng(1).uniform(0.2, 5, labels.shape).astype(np.float32)
    weights[labels < 0] = np.nan  # of what is not labelled they do not matter
    expected = slow_pathway_losses(logits, labels, SCHEMA, weights)
    np.testing.assert_allclose(jit_pathways(logits, labels, SCHEMA, weights), expected, rtol=2e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: pathway_losses(x, labels, SCHEMA, weights)[0, 1]))(logits)
    plain = jax.jit(jax.vmap(jax.grad(lambda x, y: pathway_losses(x[None], y[None], SCHEMA)[0, 1])))(
        logits, labels
    )
    expected = np.where(labels >= 0, weights, 0)[:, 1, None, None] * plain / (labels[:, 1] >= 0).sum()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_ones_as_weights_change_nothing():
    logits, labels = example()
    ones = np.ones(labels.shape, np.float32)
    plain = jit_pathways(logits, labels, SCHEMA)
    np.testing.assert_array_equal(jit_pathways(logits, labels, SCHEMA, ones), plain)


def test_weights_of_another_shape(unchecked):
    logits, labels = example()
    with pytest.raises(ValueError, match=r"weights must be \[B, N\] as labels are, \(7, 3\); got \(7, 1\)"):
        pathway_losses(logits, labels, SCHEMA, np.ones((7, 1)))


def test_an_attribute_nobody_is_labelled_for_contributes_nothing():
    logits, labels = example(missing=0.0)
    labels[:, 1] = -1
    losses = np.asarray(jit_pathways(logits, labels, SCHEMA))
    assert (losses[:, 1] == 0).all()
    gradient = grad_classification(jnp.asarray(logits), labels, SCHEMA)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[:, :, 3:5] == 0).all()


def test_empty_batch_is_zero_not_nan():
    logits, labels = example(batch=0)
    assert jit_classification(logits, labels, SCHEMA) == 0
    assert jit_reversal(logits, labels, SCHEMA) == 0


def test_missing_samples_do_not_change_the_mean():
    logits, labels = example(missing=0.0)
    padded = np.concatenate([logits, 50 * np.ones_like(logits)])
    unlabelled = np.concatenate([labels, np.full_like(labels, -1)])
    np.testing.assert_allclose(
        jit_classification(padded, unlabelled, SCHEMA),
        jit_classification(logits, labels, SCHEMA),
        rtol=1e-6,
    )


def test_gradient_is_softmax_minus_one_hot():
    logits, labels = example()
    gradient = grad_classification(jnp.asarray(logits), labels, SCHEMA)
    expected = np.zeros_like(logits)
    for n in range(3):
        own = slice(SCHEMA.offsets[n], SCHEMA.offsets[n] + SCHEMA.sizes[n])
        labelled = np.flatnonzero(labels[:, n] >= 0)
        for b in labelled:
            softmax = np.exp(logits[b, n, own] - logits[b, n, own].max())
            softmax /= softmax.sum()
            softmax[labels[b, n]] -= 1
            expected[b, n, own] = softmax / len(labelled)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_large_logits_neither_overflow_nor_lose_the_small_slice():
    logits = np.zeros((1, 3, 6), np.float32)
    logits[..., :3] = 1e4  # exp overflows, and a maximum over all J would starve the other slices
    losses = np.asarray(jit_pathways(logits, np.array([[0, 1, 0]]), SCHEMA))
    np.testing.assert_allclose(losses[0], [np.log(3), np.log(2), 0], rtol=1e-5)


def test_bfloat16_logits_are_reduced_in_float32():
    logits, labels = example(batch=256)
    low = jnp.asarray(logits, jnp.bfloat16)
    loss = jit_classification(low, labels, SCHEMA)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, jit_classification(low.astype(jnp.float32), labels, SCHEMA), rtol=1e-6)


def test_shapes_that_disagree():
    logits, labels = example()
    with pytest.raises(ValueError, match=r"N, J = \(1, 2\)"):
        classification_loss(logits, labels, SINGLE)


def test_balanced_weight_value_and_its_missing_gradient():
    np.testing.assert_allclose(balanced_reversal_weight(3.0, 12.0, w_cls=2.0, beta=0.1), 0.1 * 2 * 3 / 12)
    total = lambda rev: balanced_reversal_weight(3.0, rev) * rev  # noqa: E731
    # Without the stop-gradient the derivative of the weighted loss would be zero.
    np.testing.assert_allclose(jax.grad(total)(12.0), 0.1 * 3 / 12)
    assert jax.grad(lambda cls: balanced_reversal_weight(cls, 12.0))(3.0) == 0


def test_balanced_weight_guards_a_vanishing_loss_and_shows_a_diverged_one():
    assert balanced_reversal_weight(3.0, 0.0) == 0
    assert balanced_reversal_weight(0.0, 0.0) == 0
    assert np.isfinite(balanced_reversal_weight(3.0, 1e-30))
    assert balanced_reversal_weight(3.0, 1e-30) * 1e-30 <= 0.3
    assert np.isnan(balanced_reversal_weight(np.nan, 1.0))
    assert np.isnan(balanced_reversal_weight(1.0, np.nan))


def slow_total_gradient(logits, labels, schema, *, beta):
    """The gradient of L_cls + w_rev L_rev with Eq. 5's weight, in closed form and float64."""
    pathways = slow_pathway_losses(logits.astype(np.float64), labels, schema)
    own = pathways.trace()
    reversed_ = pathways.sum() - own
    weight = beta * own / max(reversed_, 1e-6) if reversed_ else 0.0
    gradient = np.zeros(logits.shape)
    for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=False)):
        labelled = np.flatnonzero(labels[:, n] >= 0)
        for b in labelled:
            for j in range(schema.num_attributes):
                scores = logits[b, j, start : start + size].astype(np.float64)
                chances = np.exp(scores - scores.max())
                chances /= chances.sum()
                chances[labels[b, n]] -= 1
                factor = 1.0 if j == n else weight
                gradient[b, j, start : start + size] = factor * chances / len(labelled)
    return gradient


def confident_elsewhere(margin):
    """Logits whose pathways to other attributes are right by a margin, and labels."""
    logits, labels = example(missing=0.0)
    for b, n in np.ndindex(labels.shape):
        others = np.arange(SCHEMA.num_attributes) != n
        logits[b, others, SCHEMA.offsets[n] + labels[b, n]] += margin
    return logits, labels


@pytest.mark.parametrize("margin", [0.0, 12.0, 25.0, 1e4])
@pytest.mark.parametrize("missing", [(), (1,), (0, 1, 2)])
def test_gradients_stay_those_of_the_closed_form_where_losses_vanish(margin, missing):
    """L_rev of nearly or exactly 0, which Eq. 5 divides by, and attributes without any label."""
    logits, labels = confident_elsewhere(margin)
    labels[:, list(missing)] = -1

    def total(logits):
        pathways = pathway_losses(logits, labels, SCHEMA)
        own = jnp.trace(pathways)
        reversed_ = (pathways * (1 - jnp.eye(len(pathways)))).sum()
        return own + balanced_reversal_weight(own, reversed_, beta=0.1) * reversed_

    gradient = np.asarray(jax.jit(jax.grad(total))(logits))
    assert np.isfinite(gradient).all()
    # By a margin of 25, float32 makes L_rev 0, and so its weight; by one of 12, it has two digits of it.
    expected = slow_total_gradient(logits, labels, SCHEMA, beta=0.1 if margin < 25 else 0.0)
    np.testing.assert_allclose(gradient, expected, rtol=3e-2 if margin == 12 else 1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_only_minus_one_is_not_labelled(loss):
    logits, labels = example(missing=0.0)
    value_and_gradient = jax.jit(
        lambda x, y: (loss(x, y, SCHEMA), jax.grad(lambda x: loss(x, y, SCHEMA).sum())(x))
    )
    labels[4, 0] = -1
    expected = value_and_gradient(logits, labels)
    assert np.abs(expected[1]).sum() > 0
    for bad in (-100, -2, 3, 255):
        labels[4, 0] = bad
        message = rf"labels: label {bad} of row 4 is outside \[-1, 3\) of .*'color'"
        with pytest.raises(ValueError, match=message):
            loss(logits, labels, SCHEMA)
        for found, masked in zip(value_and_gradient(logits, labels), expected, strict=True):
            np.testing.assert_array_equal(found, masked)


def test_a_step_that_is_jitted_pays_for_no_check(monkeypatch):
    logits, labels = example()

    def fail(*_):
        raise AssertionError("labels were looked at")

    monkeypatch.setattr("gradrev_jax.core.attributes.check_labels", fail)
    jax.jit(lambda x, y: classification_loss(x, y, SCHEMA))(logits, labels)


def optax_losses(logits, labels, schema):
    """Row j, column n: optax's cross-entropy of feature j read by classifier n."""
    rows = []
    for j in range(schema.num_attributes):
        for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
            known = np.flatnonzero(labels[:, n] >= 0)
            own = jnp.asarray(logits)[known, j, start : start + size]
            rows.append(optax.softmax_cross_entropy_with_integer_labels(own, labels[known, n]).mean())
    return jnp.stack(rows).reshape(schema.num_attributes, schema.num_attributes)


def test_values_that_are_ruled_out():
    logits, labels = example(missing=0.2)
    for b, row in enumerate(labels):
        other = (row[0] + 1) % 3 if row[0] >= 0 else 0
        logits[b, b % 3, other] = -np.inf
    logits[0, :, 3 + (labels[0, 1] == 0)] = -np.inf
    ours, oracle = (
        jax.jit(lambda x, loss=loss: (loss(x, labels, SCHEMA), jax.jacrev(loss)(x, labels, SCHEMA)))(logits)
        for loss in (pathway_losses, optax_losses)
    )
    np.testing.assert_allclose(ours[0], oracle[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours[1], oracle[1], atol=1e-6)


@pytest.mark.parametrize("every_value", [False, True])
def test_a_label_that_is_ruled_out_costs_infinitely_much(every_value):
    logits, labels = example(missing=0.0)
    logits[2, 1, slice(0, 3) if every_value else labels[2, 0]] = -np.inf
    losses = np.asarray(jit_pathways(logits, labels, SCHEMA))
    assert losses[1, 0] == np.inf
    assert np.isfinite(np.delete(losses.ravel(), 3)).all()
    gradient = grad_reversal(jnp.asarray(logits), labels, SCHEMA)
    assert np.isfinite(gradient).all()
    labels[2, 0] = -1  # nothing is asked of what is not labelled
    assert np.isfinite(jit_pathways(logits, labels, SCHEMA)).all()
    assert np.isfinite(grad_reversal(jnp.asarray(logits), labels, SCHEMA)).all()


def test_a_diverged_logit_is_seen():
    logits, labels = example(missing=0.0)
    logits[0, 0, 0] = np.nan
    assert np.isnan(jit_classification(logits, labels, SCHEMA))


def test_both_losses_keep_the_dtype_where_numbers_have_64_bits():
    labels = np.zeros((2, 3), int)
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            logits = jnp.zeros((2, 3, 6), dtype)
            assert classification_loss(logits, labels, SCHEMA).dtype == dtype
            assert reversal_loss(logits, labels, SCHEMA).dtype == dtype


def test_the_largest_number_of_an_unsigned_dtype_is_a_label(unchecked):
    """Found by use: 255 of uint8 equals -1 of it, and counted as not labelled outside of jit."""
    schema = AttributeSchema(("only",), (tuple(map(str, range(256))),))
    labels = np.array([[255], [3]], np.uint8)
    logits = jnp.zeros((2, 1, 256)).at[0, 0, 255].set(-5.0)
    expected = classification_loss(logits, labels.astype(np.int32), schema)
    for given in (labels, jnp.asarray(labels)):
        assert classification_loss(logits, given, schema) == expected
        assert class_prototypes(np.ones((2, 1, 1)), given, schema)[255].tolist() == [[1]]


def test_the_balanced_weight_of_small_losses_in_half_precision_is_finite():
    weight = balanced_reversal_weight(jnp.float16(3), jnp.float16(1e-7))
    assert weight == pytest.approx(0.1 * 3 / 1e-6, rel=1e-3)
