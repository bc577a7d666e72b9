import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gradrev_jax.models import convolution
from gradrev_jax.models.convolution import LAYOUT, convolve, is_worthwhile, plain
from gradrev_jax.models.winograd import Geometry

# AlexNet's kinds of layers, at the smallest sizes worth tiles: (images, kernel, stride, padding).
LAYERS = [
    ((20, 32, 32, 3), (11, 11, 3, 32), 4, 2),
    ((16, 8, 8, 32), (5, 5, 32, 32), 1, 2),
    ((16, 9, 8, 32), (3, 3, 32, 40), 1, 1),
]


def draw(shape, kernel_shape):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    return images, jnp.asarray(rng.normal(size=kernel_shape) / 10, jnp.float32)


def results(convolution, images, kernel):
    """Returns the outputs, and both gradients of a loss that is not linear."""

    def loss(images, kernel):
        outputs = convolution(images, kernel)
        return jnp.square(outputs).sum(), outputs

    gradients, outputs = jax.grad(loss, (0, 1), has_aux=True)(images, kernel)
    return outputs, *gradients


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_outputs_and_gradients_are_those_of_xla(layer):
    shape, kernel_shape, stride, padding = layer
    images, kernel = draw(shape, kernel_shape)
    geometry = Geometry(stride, padding)
    assert is_worthwhile(images, kernel, geometry)
    ours = jax.jit(
        lambda *given: results(lambda *x: convolve(*x, (stride,) * 2, [(padding,) * 2] * 2), *given)
    )(images, kernel)
    expected = jax.jit(lambda *given: results(lambda *x: plain(*x, geometry), *given))(images, kernel)
    for value, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=3e-5 * np.abs(other).max())


def test_other_devices_use_the_convolution_of_xla():
    images, kernel = draw(*LAYERS[2][:2])
    step = jax.jit(jax.grad(lambda kernel, images: convolve(images, kernel, (1, 1), [(1, 1)] * 2).sum()))
    for platform, count in (("cpu", 0), ("cuda", 1)):
        text = step.trace(kernel, images).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == count, platform


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": jnp.bfloat16}, "not float32"),
        ({"shape": (1, 9, 8, 32)}, "too few tiles"),
        ({"kernel_shape": (3, 3, 32, 31)}, "too few filters"),
        ({"shape": (16, 9, 8, 31), "kernel_shape": (3, 3, 31, 40)}, "too few channels"),
        ({"kernel_shape": (3, 5, 32, 40)}, "not square"),
        ({"kernel_shape": (7, 7, 32, 40)}, "no tiles for this size"),
        ({"strides": (1, 2)}, "strides differ"),
        ({"padding": [(1, 1), (0, 1)]}, "paddings differ"),
        ({"settings": {"rhs_dilation": (2, 2)}}, "dilated"),
        ({"settings": {"lhs_dilation": 2}}, "dilated"),
        ({"settings": {"precision": lax.Precision.HIGHEST}}, "a precision is asked for"),
        ({"settings": {"feature_group_count": 2}, "kernel_shape": (3, 3, 16, 40)}, "grouped"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_xla_computes_what_tiles_are_not_worth(monkeypatch, unchecked, changes, why):
    given = {"shape": LAYERS[2][0], "kernel_shape": LAYERS[2][1], "dtype": jnp.float32, **changes}
    images, kernel = (x.astype(given["dtype"]) for x in draw(given["shape"], given["kernel_shape"]))
    strides, padding = given.get("strides", (1, 1)), given.get("padding", [(1, 1)] * 2)
    settings = {"dimension_numbers": LAYOUT, **given.get("settings", {})}
    if settings.get("lhs_dilation") == 2:
        settings["lhs_dilation"] = (2, 2)

    def never(*arguments):
        raise AssertionError(why)

    monkeypatch.setattr(convolution, "_convolve", never)
    expected = lax.conv_general_dilated(images, kernel, strides, padding, **settings)
    np.testing.assert_array_equal(convolve(images, kernel, strides, padding, **settings), expected)


@pytest.mark.long
def test_a_convolution_can_be_mapped_and_looped():
    images, kernel = draw(*LAYERS[2][:2])
    geometry = Geometry(1, 1)

    def ours(images):
        return convolve(images, kernel, (1, 1), [(1, 1)] * 2)

    two = jnp.stack([images, 2 * images])
    once = jax.jit(lambda images: plain(images, kernel, geometry))(images)
    expected = jnp.stack([once, 2 * once])
    close = {"atol": 3e-5 * float(jnp.abs(expected).max())}
    np.testing.assert_allclose(jax.jit(jax.vmap(ours))(two), expected, **close)
    np.testing.assert_allclose(jax.jit(lambda two: lax.map(ours, two))(two), expected, **close)
    gradients = jax.jit(jax.vmap(jax.grad(lambda images: jnp.square(ours(images)).sum())))(two)
    single = jax.jit(jax.grad(lambda images: jnp.square(plain(images, kernel, geometry)).sum()))(images)
    np.testing.assert_allclose(gradients[1], 2 * single, atol=3e-5 * float(jnp.abs(single).max()))


@pytest.mark.long
def test_gradients_of_gradients():
    """Reverse mode over reverse mode, as for a gradient penalty; a custom_vjp has no forward mode."""
    images, kernel = draw(*LAYERS[2][:2])

    def ours(images, kernel):
        return convolve(images, kernel, (1, 1), [(1, 1)] * 2)

    def penalty(convolution):
        def squares(images, kernel):
            gradients = jax.grad(lambda *given: jnp.sin(convolution(*given)).sum(), (0, 1))(images, kernel)
            return sum(jnp.square(gradient).sum() for gradient in gradients)

        return jax.jit(jax.grad(squares, (0, 1)))(images, kernel)

    expected = penalty(lambda *given: plain(*given, Geometry(1, 1)))
    for value, other in zip(penalty(ours), expected, strict=True):
        np.testing.assert_allclose(value, other, atol=3e-5 * np.abs(other).max())
    for function in (ours, jax.grad(lambda *given: jnp.sin(ours(*given)).sum())):
        with pytest.raises(TypeError, match="forward-mode autodiff .jvp. to a custom_vjp function"):
            jax.jvp(function, (images, kernel), (images, kernel))
