import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.core.losses import pathway_losses
from gradrev_jax.core.removal import REMOVAL_TARGETS, removal_losses
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.training.adversarial_step import AdversarialTraining, make_adversarial_update
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.update import make_update

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=6, backbone="embeddings", tap="raw", dropout=0.0)
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(8, 1, 5)).astype(np.float32)
LABELS = np.stack([RNG.integers(-1, size, 8) for size in SCHEMA.sizes], axis=1).astype(np.int32)
OBJECTIVE = EncoderObjective(weighting="fixed", beta=0.7, w_cls=1.3)
SCALE = np.array([[9.0, 0.5], [2.0, 9.0]], np.float32)  # whose diagonal counts nothing
SGD = optax.sgd(1e-2)


def removal(target="clipped", steps=2, schema=SCHEMA, labels=LABELS, rate=0.1):
    adversaries = Adversaries(schema, copies=2, hidden=4)
    return AdversarialTraining(
        adversaries, conditionals(count_pairs(labels, schema), schema), optax.sgd(rate), steps, target
    )


def begin(played, encoder=ENCODER, optimizer=SGD):
    """The first state, in which adversaries know something already."""
    state = init_state(encoder, optimizer, input_size=5, seed=0)
    state = played.begin(state, feature_dim=6, seed=0)
    numbers = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: leaf + numbers.normal(size=leaf.shape) * 0.5, state.adversaries.params)
    return state._replace(adversaries=state.adversaries._replace(params=params))


def step(played, objective=OBJECTIVE, optimizer=SGD, encoder=ENCODER, **settings):
    settings = {"seed": 0, "total_steps": 1, "mirror": False, **settings}
    update = make_adversarial_update(played, encoder, optimizer, objective, **settings)
    return jax.jit(update)


def features_of(params):
    return ENCODER.apply(params, jnp.asarray(VECTORS[:, 0])).features


def over_pathways(losses, scale=1.0):
    return (jnp.stack(losses) * (1 - jnp.eye(2)) * scale).sum(axis=(1, 2)).mean()


@pytest.mark.long
@pytest.mark.parametrize("target", REMOVAL_TARGETS)
def test_a_step_descends_for_both_sides_as_each_alone(target):
    """Features go down what is to be removed, adversaries down cross-entropies, both written out here."""
    played = removal(target, steps=1)
    before = begin(played)
    objective = dataclasses.replace(OBJECTIVE, reversal_scale=SCALE)
    after, metrics = step(played, objective)(before, VECTORS, LABELS)

    def logits_of(params, features):
        return played.adversaries.apply(params, features, LABELS, played.prior)

    def encoder_side(params):
        output = ENCODER.apply(params, jnp.asarray(VECTORS[:, 0]))
        own = jnp.trace(pathway_losses(output.logits, LABELS, SCHEMA))
        read = [
            removal_losses(logits, LABELS, played.prior, SCHEMA, target=target)
            for logits in logits_of(before.adversaries.params, output.features)
        ]
        return 1.3 * own + 0.7 * over_pathways(read, SCALE)

    def adversaries_side(params):
        read = logits_of(params, features_of(before.params))
        return over_pathways([pathway_losses(logits, LABELS, SCHEMA) for logits in read])

    total, slopes = jax.jit(jax.value_and_grad(encoder_side))(before.params)
    np.testing.assert_allclose(metrics.loss, total, rtol=1e-5)
    assert_moved_by(-1e-2, slopes, before.params, after.params)
    total, slopes = jax.jit(jax.value_and_grad(adversaries_side))(before.adversaries.params)
    np.testing.assert_allclose(metrics.terms["adversaries"], total, rtol=1e-5)
    assert_moved_by(-0.1, slopes, before.adversaries.params, after.adversaries.params)


def assert_moved_by(factor, slopes, before, after):
    def check(slope, start, end):
        np.testing.assert_allclose(end - start, factor * slope, rtol=1e-2, atol=1e-6)

    jax.tree.map(check, slopes, before, after)


@pytest.mark.long
def test_more_steps_are_steps_on_the_same_features():
    """The features of the encoder before its step."""
    played = removal(steps=3)
    state = begin(played)
    features = features_of(state.params)
    params, slope_of = state.adversaries.params, jax.jit(jax.grad(played.adversary_loss))
    for _ in range(3):
        gradient = slope_of(params, features, jnp.asarray(LABELS))
        params = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient)
    after, _ = step(played)(state, VECTORS, LABELS)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), after.adversaries.params, params
    )


@pytest.mark.long
def test_before_the_first_step_of_adversaries_the_encoder_trains_without_reversal():
    """They start at chance, where nothing is left to remove."""
    played = removal()
    state = played.begin(init_state(ENCODER, SGD, input_size=5, seed=0), feature_dim=6, seed=0)
    after, metrics = step(played)(state, VECTORS, LABELS)
    off = dataclasses.replace(OBJECTIVE, weighting="off")
    plain = jax.jit(make_update(ENCODER, SGD, off, seed=0, total_steps=1, mirror=False))
    alone, _ = plain(state, VECTORS, LABELS)
    np.testing.assert_allclose(metrics.terms["removal"], 0, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-7), after.params, alone.params)
    assert float(metrics.w_rev) == pytest.approx(0.7)


@pytest.mark.long
def test_the_weight_may_rise_from_0():
    objective = dataclasses.replace(OBJECTIVE, weighting="schedule")
    played = removal()
    state = begin(played)
    _, first = step(played, objective, total_steps=10)(state, VECTORS, LABELS)
    _, later = step(played, objective, total_steps=10)(state._replace(step=jnp.int32(5)), VECTORS, LABELS)
    assert float(first.w_rev) == 0 < float(later.w_rev) < 0.7


@pytest.mark.long
def test_one_attribute_has_nothing_to_remove():
    schema = AttributeSchema(("color",), (("blue", "green", "red"),))
    encoder = dataclasses.replace(ENCODER, schema=schema)
    played = removal(schema=schema, labels=LABELS[:, :1])
    state = begin(played, encoder)
    after, metrics = step(played, encoder=encoder)(state, VECTORS, LABELS[:, :1])
    assert metrics.terms["removal"] == metrics.terms["adversaries"] == 0
    jax.tree.map(np.testing.assert_array_equal, after.adversaries.params, state.adversaries.params)
    assert np.isfinite(float(metrics.loss))


def test_a_batch_without_labels_changes_nothing():
    played = removal()
    state = begin(played)
    after, metrics = step(played)(state, VECTORS, np.full_like(LABELS, -1))
    assert float(metrics.loss) == 0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, after.adversaries.params, state.adversaries.params)


def test_without_adversaries_a_state_has_none():
    state = init_state(ENCODER, SGD, input_size=5, seed=0)
    assert state.adversaries is None
    after, _ = jax.jit(make_update(ENCODER, SGD, OBJECTIVE, seed=0, total_steps=1, mirror=False))(
        state, VECTORS, LABELS
    )
    assert after.adversaries is None


@pytest.mark.long
def test_missing_labels_that_are_a_class_are_removed_too():
    encoder = dataclasses.replace(ENCODER, missing="value")
    classes, labels = encoder.classes, np.asarray(encoder.class_labels(LABELS))
    assert classes.num_values > SCHEMA.num_values
    played = removal(schema=classes, labels=labels)
    state = begin(played, encoder)
    _, metrics = step(played, encoder=encoder)(state, VECTORS, LABELS)
    features = encoder.apply(state.params, jnp.asarray(VECTORS[:, 0])).features
    expected = played.adversary_loss(state.adversaries.params, features, jnp.asarray(labels))
    np.testing.assert_allclose(metrics.terms["adversaries"], expected, rtol=1e-5)
