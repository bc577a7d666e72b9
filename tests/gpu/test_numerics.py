"""Values and gradients of the default device beside float64 on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes
from benchmarks.side_by_side.inputs import random_images, random_labels
from gradrev_jax import (
    AttributeEncoder,
    balanced_reversal_weight,
    classification_loss,
    reversal_loss,
    reverse_gradient,
)
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.update import TrainState, make_update

pytestmark = pytest.mark.gpu

SCHEMA = schema_of_sizes(SHOPPING100K_SIZES)
# Relative errors, in norm. At the paper's sizes float32 errs by 1e-6, parameters rounded to TF32 by 1e-3.
VALUES, GRADIENTS = 1e-5, 1e-4


def in_float64(function, *arguments):
    """What a function gives on a CPU, of its float arguments in float64."""

    def widened(leaf):
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf, np.float64 if leaf.dtype == np.float32 else leaf.dtype)

    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return jax.tree.map(np.asarray, jax.jit(function)(*jax.tree.map(widened, arguments)))


def apart(found, expected):
    """Norm of the difference of two arrays, relative to the second."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def make_encoder(sizes, dtype=jnp.float32):
    return AttributeEncoder(SCHEMA, sizes["dim"], width=sizes["width"], dropout=0.0, dtype=dtype)


@pytest.fixture
def batch(sizes):
    labels = random_labels(sizes["batch"], SCHEMA.sizes).astype(np.int32)
    return random_images(sizes["batch"], sizes["image"]), labels


def test_the_reversal_turns_gradients_round_to_the_bit(rng):
    x = jnp.asarray(rng.standard_normal((64, 340)), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: (reverse_gradient(x, 0.5) ** 2).sum()))(x)
    np.testing.assert_array_equal(gradient, -x)
    assert apart(value, np.square(np.asarray(x, np.float64)).sum()) < VALUES


def test_losses_and_their_gradients(rng, full_float32):
    logits = rng.standard_normal((64, SCHEMA.num_attributes, SCHEMA.num_values)).astype(np.float32)
    labels = random_labels(64, SCHEMA.sizes).astype(np.int32)

    def total(logits, labels):
        of_own, of_others = (loss(logits, labels, SCHEMA) for loss in (classification_loss, reversal_loss))
        return of_own + balanced_reversal_weight(of_own, of_others) * of_others

    found = jax.jit(jax.value_and_grad(total))(logits, labels)
    value, gradient = in_float64(jax.value_and_grad(total), logits, labels)
    assert apart(found[0], value) < VALUES
    assert apart(found[1], gradient) < GRADIENTS


def test_a_train_step(sizes, batch, full_float32):
    """One step of gradient descent, so that the change of each parameter is its gradient."""
    images, labels = batch
    optimizer = optax.sgd(1.0)

    def step_of(dtype):
        return make_update(
            make_encoder(sizes, dtype), optimizer, EncoderObjective(), seed=0, total_steps=9, mirror=False
        )

    params = init_state(make_encoder(sizes), optimizer, input_size=sizes["image"], seed=0).params
    first = TrainState.begin(params, optimizer)
    state, metrics = jax.jit(step_of(jnp.float32))(first, images, labels)
    exact, exact_metrics = in_float64(step_of(jnp.float64), first, images, labels)
    for name in ("loss", "loss_cls", "loss_rev", "w_rev", "pathways"):
        assert apart(getattr(metrics, name), getattr(exact_metrics, name)) < VALUES, name
    before = jax.tree.map(np.float64, params)
    for (path, start), found, expected in zip(
        jax.tree_util.tree_leaves_with_path(before),
        jax.tree.leaves(state.params),
        jax.tree.leaves(exact.params),
        strict=True,
    ):
        rounding = np.finfo(np.float32).eps * np.linalg.norm(start)  # of adding the gradient
        difference = np.linalg.norm(np.asarray(found, np.float64) - expected)
        assert difference < GRADIENTS * np.linalg.norm(expected - start) + rounding, path


def test_bfloat16_beside_float32(sizes, batch, full_float32):
    images, labels = batch
    params = init_state(make_encoder(sizes), optax.identity(), input_size=sizes["image"], seed=0).params

    def outputs(dtype):
        encoder = make_encoder(sizes, dtype)

        def loss(params):
            found = encoder.apply(params, normalize_images(images))
            return classification_loss(found.logits, labels, SCHEMA), found.features

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (loss, features), gradients = outputs(jnp.float32)
    (narrow_loss, narrow_features), narrow_gradients = outputs(jnp.bfloat16)
    assert narrow_features.dtype == jnp.float32
    assert apart(narrow_loss, loss) < 1e-2
    assert apart(narrow_features, features) < 3e-2
    flat, narrow = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (gradients, narrow_gradients)
    )
    assert apart(narrow, flat) < 1e-1
