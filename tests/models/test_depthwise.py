import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.depthwise import depthwise_convolve, grouped

CASES = [  # (images, size of the kernel, stride, padding)
    ((2, 6, 6, 4), 3, 1, ((1, 1), (1, 1))),
    ((1, 8, 8, 3), 3, 2, ((0, 1), (0, 1))),
    ((2, 7, 5, 3), 3, 2, ((1, 1), (1, 1))),
    ((1, 5, 9, 2), 5, 1, ((2, 2), (2, 2))),
    ((2, 8, 8, 17), 5, 2, ((1, 2), (1, 2))),
    ((1, 9, 6, 5), 5, 2, ((2, 2), (1, 2))),
    ((3, 4, 4, 1), 3, 1, ((1, 1), (1, 1))),
    ((2, 1, 1, 4), 5, 1, ((2, 2), (2, 2))),
    ((1, 2, 3, 4), 5, 2, ((1, 2), (2, 2))),
    ((1, 7, 7, 2), 3, 1, ((0, 0), (0, 0))),
    ((0, 6, 6, 4), 3, 1, ((1, 1), (1, 1))),
]


def slow(images, kernel, stride, padding):
    """Computes the convolution pixel by pixel, in float64."""
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), *padding, (0, 0)))
    k = len(kernel)
    rows, columns = ((size - k) // stride + 1 for size in padded.shape[1:3])
    out = np.zeros((len(images), rows, columns, images.shape[-1]))
    for b, i, j, c in np.ndindex(out.shape):
        window = padded[b, i * stride : i * stride + k, j * stride : j * stride + k, c]
        out[b, i, j, c] = (window * np.asarray(kernel, np.float64)[:, :, c]).sum()
    return out


def draw(rng, shape, size):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    return images, jnp.asarray(rng.normal(size=(size, size, shape[-1])), jnp.float32)


@pytest.mark.long
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), CASES, ids=str)
@pytest.mark.parametrize("function", [depthwise_convolve, grouped])
def test_outputs_are_those_of_a_loop(function, shape, size, stride, padding, rng):
    images, kernel = draw(rng, shape, size)
    outputs = jax.jit(lambda *given: function(*given, stride, padding))(images, kernel)
    np.testing.assert_allclose(outputs, slow(images, kernel, stride, padding), rtol=1e-5, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), CASES[:-1], ids=str)
def test_gradients_are_those_of_the_definition(shape, size, stride, padding, rng):
    """The outputs are linear in either input, so a gradient is the output for each of its units."""
    images, kernel = draw(rng, shape, size)
    weights = rng.normal(size=slow(images, kernel, stride, padding).shape)

    def loss(images, kernel):
        return (depthwise_convolve(images, kernel, stride, padding) * weights).sum()

    found = jax.jit(jax.grad(loss, (0, 1)))(images, kernel)
    for place in map(tuple, rng.integers(0, shape, (6, 4))):
        unit = np.zeros(shape)
        unit[place] = 1
        expected = (slow(unit, kernel, stride, padding) * weights).sum()
        np.testing.assert_allclose(found[0][place], expected, rtol=1e-4, atol=1e-4)
    for place in map(tuple, rng.integers(0, kernel.shape, (6, 3))):
        unit = np.zeros(kernel.shape)
        unit[place] = 1
        expected = (slow(images, unit, stride, padding) * weights).sum()
        np.testing.assert_allclose(found[1][place], expected, rtol=1e-4, atol=1e-4)


def test_other_devices_use_the_convolution_of_xla(rng):
    step = jax.jit(jax.grad(lambda *given: depthwise_convolve(*given, 1, ((1, 1), (1, 1))).sum(), (0, 1)))
    for platform, has_convolutions in (("cpu", False), ("cuda", True)):
        lowered = step.trace(*draw(rng, (2, 6, 6, 4), 3)).lower(lowering_platforms=(platform,))
        assert ("stablehlo.convolution" in lowered.as_text()) == has_convolutions, platform


@pytest.mark.long
def test_it_can_be_mapped_and_differentiated_twice(rng):
    images, kernel = draw(rng, (2, 5, 5, 3), 3)

    def loss(kernel, images):
        return jnp.sin(depthwise_convolve(images, kernel, 2, ((1, 1), (1, 1)))).sum()

    mapped = jax.vmap(lambda image: loss(kernel, image[None]))(images)
    np.testing.assert_allclose(mapped.sum(), loss(kernel, images), rtol=1e-5)
    direction = jnp.ones_like(kernel)
    second = jax.jvp(lambda kernel: jax.grad(loss)(kernel, images), (kernel,), (direction,))[1]
    step = 1e-2
    ahead, behind = (jax.grad(loss)(kernel + s * direction, images) for s in (step, -step))
    np.testing.assert_allclose(second, (ahead - behind) / (2 * step), rtol=0.05, atol=0.05)
