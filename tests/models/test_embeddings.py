import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.embeddings import Embeddings, vector_statistics
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.training.encoder_step import init_state, make_train_step

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


def statistics(rng, width):
    return {"mean": jnp.asarray(rng.normal(size=width)), "std": jnp.asarray(rng.uniform(0.5, 2, size=width))}


def test_vectors_are_scaled_by_one_number_or_by_one_per_number(rng):
    vectors, known = rng.normal(size=(5, 4)).astype(np.float32), statistics(rng, 4)
    centred, std = vectors - np.asarray(known["mean"]), np.asarray(known["std"])
    each = Embeddings(tap="standardized").apply({"batch_stats": known}, jnp.asarray(vectors))
    np.testing.assert_allclose(each, centred / std, rtol=1e-5)
    balanced = Embeddings(tap="balanced").apply({"batch_stats": known}, jnp.asarray(vectors))
    np.testing.assert_allclose(balanced, 0.1 * centred / std, rtol=1e-5)
    raw = Embeddings(tap="raw").apply({"batch_stats": known}, jnp.asarray(vectors))
    np.testing.assert_array_equal(raw, vectors)


def test_scaled_vectors_have_one_size_whatever_they_come_in(rng):
    vectors = (5 + 3 * rng.normal(size=(50, 4))).astype(np.float32)
    centred = vectors - vectors.mean(axis=0)
    for factor in (1.0, 1e-3, 1e4):
        known = vector_statistics((factor * vectors)[:, None])
        scaled = Embeddings().apply({"batch_stats": known}, jnp.asarray(factor * vectors))
        expected = 0.1 * centred / np.sqrt((centred**2).mean())
        np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-4)


def test_a_number_that_never_changes_is_zero_and_not_infinite():
    known = {"mean": jnp.array([2.0]), "std": jnp.array([0.0])}
    for tap in ("standardized", "balanced"):
        assert Embeddings(tap=tap).apply({"batch_stats": known}, jnp.array([[2.0]])).tolist() == [[0.0]]
    nothing = {"mean": jnp.array([0.0]), "std": jnp.array([0.0])}
    assert Embeddings().apply({"batch_stats": nothing}, jnp.array([[0.0]])).tolist() == [[0.0]]


def test_dropout_is_for_training_alone():
    vectors = jnp.ones((1, 1000))
    network = Embeddings(tap="raw", dropout=0.25)
    known = network.init(jax.random.key(0), vectors)
    np.testing.assert_array_equal(network.apply(known, vectors), vectors)
    dropped = network.apply(known, vectors, train=True, rngs={"dropout": jax.random.key(1)})
    assert 0.2 < float((dropped == 0).mean()) < 0.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tap": "fc6"}, "^tap must be one of scaled, standardized, raw, balanced, got 'fc6'"),
        ({"width": 0.5}, "^embeddings have a width of their own: width must be 1, got 0.5"),
    ],
)
def test_what_vectors_do_not_have(fields, message):
    with pytest.raises(ValueError, match=message):
        Embeddings(**fields).init(jax.random.key(0), jnp.zeros((1, 4)))


@pytest.mark.long
def test_a_step_trains_the_parameters_and_leaves_the_statistics(rng):
    encoder = AttributeEncoder(SCHEMA, feature_dim=3, backbone="embeddings")
    state = init_state(encoder, optax.adam(0.1), input_size=8, seed=0)
    known = {"backbone": statistics(rng, 8)}
    state = state._replace(params={**state.params, "batch_stats": known})
    before = jax.tree.map(np.array, state.params)
    assert "backbone" not in before["params"]
    labels = np.array([[0, 1], [1, -1], [2, 0]])
    step = make_train_step(encoder, optax.adam(0.1), seed=0, total_steps=1)
    trained, metrics = step(state, rng.normal(size=(3, 2, 8)).astype(np.float32), labels)
    assert np.isfinite(metrics.loss)
    jax.tree.map(np.testing.assert_array_equal, trained.params["batch_stats"], before["batch_stats"])
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), trained.params["params"], before["params"])
    assert all(jax.tree.leaves(changed))
    assert "batch_stats" not in str(jax.tree.structure(trained.opt_state))


def test_images_are_no_vectors():
    encoder = AttributeEncoder(SCHEMA, backbone="embeddings")
    with pytest.raises(
        ValueError, match=r"^vectors must be floating-point \[B, D\], got float32 \(1, 2, 2, 3\)"
    ):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 2, 2, 3)))
