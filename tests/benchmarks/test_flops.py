import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.flops import count_flops
from gradrev_jax.models.convolution import convolve, is_worthwhile
from gradrev_jax.models.winograd import Geometry


def of(function, *shapes):
    return count_flops(function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


def test_a_batched_product_is_counted_whatever_its_axes_are():
    counts = of(lambda x, y: jnp.einsum("bnc,ncd->bnd", x, y), (5, 3, 7), (3, 7, 2))
    assert counts == {"convolutions": 0, "products": 2 * 5 * 3 * 7 * 2}


def test_a_scan_counts_each_of_its_turns():
    def function(x, y):
        return jax.lax.scan(lambda total, _: (total @ y, None), x, length=6)[0]

    assert of(jax.jit(function), (4, 3), (3, 3))["products"] == 6 * 2 * 4 * 3 * 3


@pytest.mark.parametrize("function", [
    lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x),
    lambda x: jax.lax.cond(x.sum() < 9, lambda x: x @ x, lambda x: x, x),
])  # fmt: skip
def test_what_cannot_be_counted_is_refused(function):
    with pytest.raises(ValueError, match="nothing tells how often"):
        of(function, (3, 3))


def test_convolutions_by_tiles_count_as_direct_ones():
    images, kernel = (16, 11, 10, 32), (3, 3, 32, 40)
    assert is_worthwhile(jnp.zeros(images), jnp.zeros(kernel), Geometry(1, 0))
    counts = of(lambda x, k: convolve(x, k, (1, 1), [(0, 0)] * 2), images, kernel)
    assert counts == {"convolutions": 2 * (16 * 9 * 8 * 40) * (3 * 3 * 32), "products": 0}


def test_both_gradients_of_a_convolution_cost_what_it_costs():
    """Without padding, where no tap meets a zero, each of the three takes the same multiplications."""
    images, kernel = (2, 9, 9, 3), (3, 3, 3, 4)

    def loss(images, kernel):
        return jnp.square(jax.lax.conv_general_dilated(
            images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )).sum()  # fmt: skip

    forward = 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3)
    assert of(loss, images, kernel)["convolutions"] == forward
    with_kernel = of(jax.grad(loss, argnums=1), images, kernel)["convolutions"]
    assert with_kernel == 2 * forward
    both = of(jax.grad(loss, argnums=(0, 1)), images, kernel)["convolutions"]
    # The images' gradient is counted at all 9 x 9 outputs, of which taps at the rim meet padding.
    assert both - with_kernel == pytest.approx(2 * (2 * 9 * 9 * 3) * (3 * 3 * 4) / 4)


def test_products_agree_with_those_that_xla_counts(rng):
    """XLA's own count of a layer's training, of which all but the elementwise work is products."""
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((64, 128), (128, 256)))
    function = jax.grad(lambda w, x: jnp.square(x @ w).sum(), argnums=(0, 1))
    xla = jax.jit(function).lower(w, x).cost_analysis()["flops"]
    ours = sum(count_flops(function, w, x).values())
    np.testing.assert_allclose(ours, xla, rtol=0.02)
