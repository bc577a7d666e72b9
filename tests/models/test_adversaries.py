import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs, label_slots
from gradrev_jax.models.adversaries import Adversaries

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
LABELS = np.array([[0, 1], [2, -1], [-1, 0], [1, 1]], np.int32)
PRIOR = conditionals(count_pairs(LABELS, SCHEMA), SCHEMA)
ADVERSARIES = Adversaries(SCHEMA, copies=2, hidden=7)


@pytest.fixture
def features(rng):
    return jnp.asarray(rng.normal(size=(4, 2, 6)), jnp.float32)


@pytest.fixture
def params(features, rng):
    """Random everywhere: the last layer would start at 0."""
    shapes = jax.eval_shape(ADVERSARIES.init, jax.random.key(0), features, LABELS, PRIOR)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def slow_logits(params, features, labels):
    """One MLP on one image at a time, in float64."""
    layers = {name: {k: np.float64(v) for k, v in part.items()} for name, part in params["params"].items()}
    logits = np.zeros((2, len(labels), 2, 5))
    for k, b, j in np.ndindex(2, len(labels), 2):
        f = np.float64(features[b, j])
        own = np.zeros(4)
        own[labels[b, j] if labels[b, j] >= 0 else 3] = 1
        x = np.concatenate([f / np.linalg.norm(f) * len(f) ** 0.5, own])
        units = slice(7 * k, 7 * k + 7)
        hidden = x @ layers["hidden"]["kernel"][j][:, units] + layers["hidden"]["bias"][j][units]
        which = 2 * j + k
        out = np.maximum(hidden, 0) @ layers["out"]["kernel"][which] + layers["out"]["bias"][which]
        row = 5 + j if labels[b, j] < 0 else SCHEMA.offsets[j] + labels[b, j]
        logits[k, b, j] = out + np.log(PRIOR[row])
    return logits


@pytest.mark.long
def test_logits_are_those_of_one_mlp_at_a_time(params, features):
    logits = ADVERSARIES.apply(params, features, LABELS, PRIOR)
    np.testing.assert_allclose(logits, slow_logits(params, features, LABELS), rtol=1e-4, atol=1e-4)


def test_they_start_at_chance_from_different_weights(features):
    logits, start = ADVERSARIES.init_with_output(jax.random.key(0), features, LABELS, PRIOR)
    expected = np.broadcast_to(np.log(PRIOR)[label_slots(LABELS, SCHEMA)], logits.shape)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    first, second = np.split(np.asarray(start["params"]["hidden"]["kernel"]), 2, axis=-1)
    assert np.abs(first - second).min() > 0


@pytest.mark.long
def test_only_directions_are_read(params, features):
    """A feature cannot grow out of an adversary's reach, and its gradient is across it."""
    lengths = np.array([1e-3, 1.0, 30.0, 7.0], np.float32)[:, None, None]
    plain = ADVERSARIES.apply(params, features, LABELS, PRIOR)
    np.testing.assert_allclose(
        ADVERSARIES.apply(params, features * lengths, LABELS, PRIOR), plain, rtol=1e-4, atol=1e-4
    )
    gradient = jax.grad(lambda f: ADVERSARIES.apply(params, f, LABELS, PRIOR)[..., 1].sum())(features)
    assert jnp.abs(gradient).max() > 0.1
    np.testing.assert_allclose((gradient * features).sum(axis=-1), 0, atol=1e-4)


def test_a_feature_of_length_0_has_a_gradient_of_0(params):
    gradient = jax.grad(lambda f: ADVERSARIES.apply(params, f, LABELS, PRIOR).sum())(jnp.zeros((4, 2, 6)))
    np.testing.assert_array_equal(gradient, 0)


def test_a_traced_label_outside_its_attribute_counts_as_missing(params, features):
    wrong = np.where(LABELS == -1, 99, LABELS)
    traced = jax.jit(lambda labels: ADVERSARIES.apply(params, features, labels, PRIOR))(wrong)
    np.testing.assert_allclose(traced, ADVERSARIES.apply(params, features, LABELS, PRIOR), atol=1e-5)
