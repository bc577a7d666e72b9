import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.vectors import (
    length,
    squared_length,
    squared_length_operations,
    unit_of_any_size,
    unit_with_safe_gradient,
)


def test_lengths_of_every_size():
    vectors = np.outer([1e-37, 1e-25, 1e-10, 0, 1, 1e19, 1e37, np.inf, np.nan], [3, 4]).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = 5 * vectors[:, 0] / 3
    np.testing.assert_allclose(jax.jit(length)(vectors), expected, rtol=1e-6)


def test_ordinary_vectors_give_what_plain_formulas_give(rng):
    """One vector of unusual size has all of a batch scaled, by powers of two, which round nothing."""
    vectors = jnp.asarray(rng.normal(size=(50, 7)), jnp.float32)

    @jax.jit
    def both(batch):
        return length(batch), unit_of_any_size(batch)

    norms = jax.jit(lambda x: jnp.linalg.norm(x, axis=-1))(vectors)
    for last in (vectors[-1:], np.full((1, 7), 1e-25, np.float32)):
        lengths, units = both(np.concatenate([vectors[:-1], last]))
        np.testing.assert_array_equal(lengths[:-1], norms[:-1])
        np.testing.assert_array_equal(units[:-1], np.asarray(vectors / norms[:, None])[:-1])


def test_gradients_of_unit_vectors(rng):
    vector = jnp.asarray(rng.normal(size=5), jnp.float32)
    plain, any_size, safe = (
        jax.jit(jax.grad(lambda x, f=f: f(x)[0]))(vector)
        for f in (lambda x: x / jnp.linalg.norm(x), unit_of_any_size, unit_with_safe_gradient)
    )
    np.testing.assert_allclose(any_size, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(safe, plain, rtol=1e-5, atol=1e-6)


def test_a_zero_vector_stays_zero_and_may_have_a_gradient_of_0():
    zeros = jnp.zeros((1, 3))
    np.testing.assert_array_equal(jax.jit(unit_of_any_size)(zeros), 0)
    of_sum = jax.jit(jax.value_and_grad(lambda x: unit_with_safe_gradient(x).sum()))
    for shortest in (1e-12, 1e-13, 1e-19, 1e-30):
        assert np.isfinite(of_sum(jnp.array([shortest, 0.0]))[1]).all(), "of nearly zero"
    value, gradient = of_sum(zeros)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("width", [1, 24, 32, 100, 4080])
def test_squared_lengths_err_less_than_they_may(rng, width):
    """Summands of one sign, and of sizes that differ by as much as a float32 has digits."""
    for scale in (1, 10.0 ** rng.integers(-4, 4, width)):
        difference = (scale * rng.normal(size=width)).astype(np.float32)
        exact = np.square(difference, dtype=np.float64).sum()
        error = abs(float(squared_length(jnp.asarray(difference))) - exact)
        assert error <= (squared_length_operations(width) + 1) * np.finfo(np.float32).eps / 2 * exact


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_vectors_keep_their_direction_where_their_squares_do_not_fit(dtype):
    vectors = jnp.asarray([[300.0, 400.0], [3e-5, 4e-5], [0.0, 0.0]], dtype)
    unit = unit_with_safe_gradient(vectors)
    assert unit.dtype == dtype
    np.testing.assert_allclose(unit.astype(jnp.float32), [[0.6, 0.8], [0.6, 0.8], [0, 0]], atol=6e-3)
