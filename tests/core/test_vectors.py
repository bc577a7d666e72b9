import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.core.vectors import length, unit


def test_lengths_of_every_size():
    vectors = np.outer([1e-37, 1e-25, 1e-10, 0, 1, 1e19, 1e37], [3, 4]).astype(np.float32)
    np.testing.assert_allclose(length(jnp.asarray(vectors)), 5 * vectors[:, 0] / 3, rtol=1e-6)
    assert np.isinf(length(jnp.array([np.inf, 1.0])))
    assert np.isnan(length(jnp.array([np.nan, 1.0])))


def test_ordinary_vectors_give_what_plain_formulas_give(rng):
    """One vector of unusual size has all of a batch scaled, by powers of two, which round nothing."""
    vectors = jnp.asarray(rng.normal(size=(50, 7)), jnp.float32)
    norms = jnp.linalg.norm(vectors, axis=-1)
    tiny = jnp.full((1, 7), 1e-25, jnp.float32)
    for batch in (vectors, jnp.concatenate([vectors, tiny])):
        np.testing.assert_array_equal(length(batch)[:50], norms)
        np.testing.assert_array_equal(unit(batch)[:50], vectors / norms[:, None])


def test_gradients_of_unit_vectors(rng):
    vector = jnp.asarray(rng.normal(size=5), jnp.float32)
    plain = jax.grad(lambda x: (x / jnp.linalg.norm(x))[0])(vector)
    np.testing.assert_allclose(jax.grad(lambda x: unit(x)[0])(vector), plain, rtol=1e-5, atol=1e-6)
