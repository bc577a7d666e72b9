import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.tile_transforms import KERNELS, OUTPUTS, make_algorithm
from gradrev_jax.models.winograd import (
    Geometry,
    _choose_algorithm,
    output_length,
    tiled,
    tiled_images_gradient,
    tiled_kernel_gradient,
)

# (batch, height, width, channels, kernel, filters, stride, padding)
CASES = [
    (1, 5, 5, 2, 3, 3, 1, 1),
    (3, 7, 6, 2, 3, 4, 1, 0),
    (2, 4, 5, 1, 3, 1, 1, 2),
    (2, 9, 8, 3, 5, 2, 1, 2),
    (2, 21, 18, 3, 11, 2, 4, 2),
    (1, 12, 13, 2, 10, 3, 4, 0),
    (2, 9, 9, 2, 9, 3, 3, 1),
    (2, 3, 3, 2, 5, 2, 1, 2),
    (2, 2, 2, 2, 5, 2, 1, 2),
]


def draw(case, seed=0):
    batch, height, width, channels, size, filters, stride, padding = case
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(batch, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels, filters)).astype(np.float32)
    geometry = Geometry(stride, padding)
    shape = [output_length(length, size, geometry) for length in (height, width)]
    gradient = rng.normal(size=(batch, *shape, filters)).astype(np.float32)
    return images, kernel, gradient, geometry


def slow(images, kernel, geometry):
    """Window by window, in float64."""
    stride, padding = geometry
    padded = np.pad(images.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = len(kernel)
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:3])
    result = np.zeros((len(images), rows, columns, kernel.shape[3]))
    for y in range(rows):
        for x in range(columns):
            window = padded[:, y * stride : y * stride + size, x * stride : x * stride + size]
            result[:, y, x] = np.einsum("bijc,ijcf->bf", window, kernel.astype(np.float64))
    return result


jitted_tiled = jax.jit(tiled, static_argnums=2)
jitted_images_gradient = jax.jit(tiled_images_gradient, static_argnums=2)
jitted_kernel_gradient = jax.jit(tiled_kernel_gradient, static_argnums=(2, 3))


def close(ours, expected):
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_a_convolution(case):
    images, kernel, _, geometry = draw(case)
    close(jitted_tiled(images, kernel, geometry), slow(images, kernel, geometry))


@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if case[6] == 1], ids=str)
def test_the_images_gradient(case):
    """A convolution is linear in its images, so <conv(X), dY> = <X, gradient> for every X."""
    images, kernel, gradient, geometry = draw(case)
    expected = np.zeros(images.shape)
    for index in np.ndindex(*images.shape):
        one = np.zeros(images.shape)
        one[index] = 1
        expected[index] = (slow(one, kernel, geometry) * gradient).sum()
    close(jitted_images_gradient(kernel, gradient, geometry), expected)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernels_gradient(case):
    images, kernel, gradient, geometry = draw(case)
    stride, padding = geometry
    padded = np.pad(images.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    expected = np.zeros(kernel.shape)
    rows, columns = gradient.shape[1:3]
    for i in range(len(kernel)):
        for j in range(len(kernel)):
            seen = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
            expected[i, j] = np.einsum("byxc,byxf->cf", seen[:, :rows, :columns], gradient)
    close(jitted_kernel_gradient(images, gradient, geometry, len(kernel)), expected)


@pytest.mark.long
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_chunks_of_any_size(monkeypatch, chunk_size):
    from gradrev_jax.models import winograd

    monkeypatch.setattr(winograd, "_chunk_size", lambda *arguments: chunk_size)
    images, kernel, gradient, geometry = draw((7, 6, 6, 2, 3, 3, 1, 1))

    @jax.jit
    def both(images, kernel, gradient):
        outputs, pullback = jax.vjp(lambda kernel: tiled(images, kernel, geometry), kernel)
        return outputs, pullback(gradient)[0], tiled_kernel_gradient(images, gradient, geometry, 3)

    outputs, expected, found = both(images, kernel, gradient)
    close(outputs, slow(images, kernel, geometry))
    close(found, np.asarray(expected))


@pytest.mark.parametrize("size", KERNELS)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_the_matrices_give_a_correlation(size, outputs):
    algorithm = make_algorithm(size, outputs)
    rng = np.random.default_rng(0)
    tile, kernel = rng.normal(size=size + outputs - 1), rng.normal(size=size)
    ours = algorithm.outputs @ ((algorithm.kernel @ kernel) * (algorithm.inputs @ tile))
    np.testing.assert_allclose(ours, np.correlate(tile, kernel, "valid"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "shape", "outputs"),
    [(3, (13, 13), 3), (3, (5, 5), 3), (3, (2, 2), 2), (5, (27, 27), 3), (5, (3, 3), 3), (5, (2, 1), 2)],
)
def test_tiles_have_the_size_that_takes_the_fewest_multiplications(size, shape, outputs):
    assert len(_choose_algorithm(size, shape).outputs) == outputs


def test_a_convolution_is_few_programs_to_compile():
    """A fusion per pixel of a tile, 36 or 64 of them, made the first step wait for the compiler."""
    images, kernel, gradient, geometry = draw((4, 8, 8, 4, 5, 4, 1, 2))
    for function, arguments in (
        (jitted_tiled, (images, kernel, geometry)),
        (jitted_kernel_gradient, (images, gradient, geometry, 5)),
    ):
        text = function.lower(*arguments).compile().as_text()
        assert len(re.findall(r" fusion\(", text)) < 25


def convolve_and_its_kernel_gradient(images, kernel):
    outputs = tiled(images, kernel, Geometry(1, 1))
    return outputs, tiled_kernel_gradient(images, outputs, Geometry(1, 1), 3)


@pytest.mark.parametrize(("images", "kernel"), [("d", None), (None, "d"), ("d", "d")])
def test_a_convolution_and_its_gradient_under_shard_map(images, kernel):
    """Found by use: the carries of the loops over chunks did not vary as the operands do."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    specs = jax.P(images), jax.P(kernel)
    sharded = jax.shard_map(
        convolve_and_its_kernel_gradient, mesh=mesh, in_specs=specs, out_specs=(jax.P("d"), jax.P("d"))
    )
    jax.eval_shape(sharded, jnp.ones((2, 12, 12, 4)), jnp.ones((3, 3, 4, 5)))
