import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.gradient_reversal import reverse_gradient
from gradrev_jax.core.reversed_product import reversed_product

B, N, J, D = 3, 2, 4, 5


def reversed_one_by_one(features, kernel, scales):
    """The formula as it is written: a copy of every feature for every value, each behind its reversal."""

    def read(feature, scale):
        copies = jnp.broadcast_to(feature[:, :, None], (B, N, J, D))
        return reverse_gradient(copies, jnp.broadcast_to(scale, (N, J))[:, :, None])

    total, *others = (read(*each) for each in zip(features, scales, strict=True))
    for other in others:  # the same values, whose gradients alone count
        total += other - jax.lax.stop_gradient(other)
    return jnp.einsum("bnjd,ndj->bnj" if kernel.ndim == 3 else "bnjd,dj->bnj", total, kernel)


@pytest.fixture(params=[True, False], ids=["own", "shared"])
def inputs(request, rng):
    kernel = rng.normal(size=(N, D, J) if request.param else (D, J))
    return tuple(jnp.asarray(x, jnp.float32) for x in (rng.normal(size=(B, N, D)), kernel))


SCALES = (np.full((), 0.7, np.float32), np.linspace(-1, 2, N * J).astype(np.float32).reshape(N, J))


@pytest.mark.parametrize("scales", [SCALES[:1], SCALES[1:], SCALES])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_derivatives_of_all_orders_are_those_of_the_formula(inputs, rng, scales, order):
    """Second derivatives between features and classifiers were 0."""
    feature, kernel = inputs
    weights = jnp.asarray(rng.normal(size=(B, N, J)), jnp.float32)

    def differentiate(product):
        def value(features, kernel):
            return (weights * jnp.tanh(product(features, kernel, scales))).sum()

        for _ in range(order):
            value = functools.partial(_sum_of_squares, jax.grad(value, (0, 1)))
        return jax.jit(jax.grad(value, (0, 1)))((feature,) * len(scales), kernel)

    ours, oracle = differentiate(reversed_product), differentiate(reversed_one_by_one)
    for each, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        np.testing.assert_allclose(each, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
        assert np.abs(expected).max() > 0


def _sum_of_squares(gradients, features, kernel):
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients(features, kernel)))


def test_scales_that_are_mapped_over_alone_scale_each_gradient(inputs):
    feature, kernel = inputs
    scales = jnp.array([0.0, 1.0, 2.0])

    def gradients(product):
        def of_scale(scale):
            return jax.grad(lambda f, k: (product((f,), k, (scale,)) ** 3).sum(), (0, 1))(feature, kernel)

        return jax.vmap(of_scale)(scales)

    def summed(product):
        """The gradient of what maps over the scales, which has to be scaled before it is added up."""

        def total(f):
            logits = jax.vmap(lambda scale: product((f,), kernel, (scale,)))(scales)
            return (logits * jnp.arange(3.0)[:, None, None, None]).sum()

        return jax.grad(total)(feature)

    for how in (gradients, summed):
        for each, expected in zip(
            *(jax.tree.leaves(how(product)) for product in (reversed_product, reversed_one_by_one)),
            strict=True,
        ):
            np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-4)


def test_a_scale_of_zero_cuts_an_infinite_gradient(inputs):
    feature, kernel = inputs
    gradient = jax.grad(lambda f: (jnp.inf * reversed_product((f,), kernel, (jnp.zeros(()),))).sum())(feature)
    assert (gradient == 0).all()


def test_nothing_is_added_to_values_that_overflow():
    """Half precision: infinity minus itself was NaN."""
    feature, kernel = jnp.full((1, 1, 2), 300, jnp.float16), jnp.full((2, 1), 300, jnp.float16)
    assert np.isposinf(reversed_product((feature,), kernel, (jnp.ones(()),))).all()
