"""Convolutions as products of tiles: Winograd's algorithm, and Toom's and Cook's for other sizes.

The input is cut into overlapping tiles of t x t pixels, each of which gives m x m outputs (t = m + k - 1 for
a kernel of k x k), and

    Y = A' [(G K G') * (B' X B)] A      (Lavin and Gray, 2016, "Fast Algorithms for Convolutional Networks")

for a tile X, a kernel K, and small matrices A, B and G: over all tiles and channels the product is t * t
plain matrix products, of t * t multiplications a tile where there were m * m * k * k. It works on a few
images at a time, as many as leave the tiles in the processor's cache: with all at once, writing and reading
the tiles costs more than is won.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

CACHED_BYTES = 16 * 2**20  # of the tiles that are worked on at a time
OUTPUTS = 2  # m
# Of the polynomials, besides infinity, by the kernel's size; for 5, those with the least error of some tried.
POINTS = {3: (0.0, 1.0, -1.0), 5: (0.0, 1.0, -1.0, 2.0, -0.5)}


class Geometry(NamedTuple):
    """How a window moves; the same in both directions.

    Attributes:
      stride: pixels from window to window.
      padding: zeros on each side.
    """

    stride: int
    padding: int


class Algorithm(NamedTuple):
    """The matrices for kernels of k x k and tiles of t x t with m x m outputs.

    Attributes:
      inputs: B', [t, t].
      kernel: G, [t, k].
      outputs: A', [m, t].
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray


def output_length(length: int, kernel: int, geometry: Geometry) -> int:
    """Pixels a side that a convolution gives.

    Example:
      >>> output_length(224, 11, Geometry(4, 2))
      55
    """
    return (length + 2 * geometry.padding - kernel) // geometry.stride + 1


def tiled(
    images: Float[Array, "B H W C"], kernel: Float[Array, "k k C F"], geometry: Geometry
) -> Float[Array, "B h w F"]:
    """The convolution by tiles.

    Example:
      >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
      >>> tiled(images, kernel, Geometry(1, 1))[0, :, :, 0].round(4).tolist()[0]
      [4.0, 6.0, 6.0, 4.0]
    """
    kernel_size = len(kernel)
    folded = _fold_kernel(kernel, geometry.stride)
    algorithm = _algorithm(len(folded))
    matrices = _kernel_tiles(folded, algorithm)
    shape = [output_length(length, kernel_size, geometry) for length in images.shape[1:3]]

    def some(images: jax.Array) -> jax.Array:
        tiles = _input_tiles(_fold_images(images, kernel_size, geometry, algorithm), algorithm)
        products = [tile @ matrix for tile, matrix in zip(tiles, matrices, strict=True)]
        return _outputs_of_tiles(products, algorithm, len(images), shape)

    channels, filters = folded.shape[2:]
    parts, join = _parts(images, _chunk(images, shape, algorithm, channels + filters))
    empty = jnp.zeros((*parts.shape[:2], *shape, filters), images.dtype)

    def body(step: jax.Array, outputs: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(outputs, some(_part(parts, step)), step, 1)

    return join(lax.fori_loop(0, parts.shape[1], body, empty))


def tiled_images_gradient(
    kernel: Float[Array, "k k C F"], gradient: Float[Array, "B h w F"], geometry: Geometry
) -> Float[Array, "B H W C"]:
    """The images' gradient of ``tiled`` at stride 1: a convolution with the kernel turned around."""
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return tiled(gradient, turned, Geometry(1, len(kernel) - 1 - geometry.padding))


def tiled_kernel_gradient(
    images: Float[Array, "B H W C"], gradient: Float[Array, "B h w F"], geometry: Geometry, size: int
) -> Float[Array, "k k C F"]:
    """The kernel's gradient of ``tiled``: G' [sum over tiles of (B' X B) (A dY A')] G."""
    stride, channels, filters = geometry.stride, images.shape[3], gradient.shape[3]
    fold = functools.partial(_fold_kernel, stride=stride)
    algorithm = _algorithm(-(-size // stride))
    shape = gradient.shape[1:3]

    def some(images: jax.Array, gradient: jax.Array) -> list[jax.Array]:
        tiles = _input_tiles(_fold_images(images, size, geometry, algorithm), algorithm)
        gradients = _gradient_tiles(gradient, algorithm)
        return [tile.T @ other for tile, other in zip(tiles, gradients, strict=True)]

    chunk = _chunk(images, shape, algorithm, channels * stride**2 + filters)
    parts, _ = _parts(images, chunk)
    gradients, _ = _parts(gradient, chunk)

    def body(step: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
        products = some(_part(parts, step), _part(gradients, step))
        return [total + product for total, product in zip(sums, products, strict=True)]

    start = [jnp.zeros((channels * stride**2, filters), images.dtype)] * algorithm.inputs.size
    products = lax.fori_loop(0, parts.shape[1], body, start)
    folded = _both_ways(algorithm.kernel.T, products)
    like = jax.ShapeDtypeStruct((size, size, channels, filters), images.dtype)
    stacked = jnp.stack([jnp.stack(row) for row in folded])
    return jax.linear_transpose(fold, like)(stacked)[0]


def _chunk(images: jax.Array, shape: Sequence[int], algorithm: Algorithm, width: int) -> int:
    """Images at a time: as many as keep their tiles within the cache, or fewer that divide the batch.

    ``width`` is the channels of tiles and of products together.
    """
    tiles = math.prod(-(-n // OUTPUTS) for n in shape)
    per_image = tiles * algorithm.inputs.size * width * images.dtype.itemsize
    most = max(1, min(len(images), CACHED_BYTES // per_image))
    # Padding would compute more, and copy all images and outputs.
    return next((few for few in range(most, most // 2, -1) if len(images) % few == 0), most)


def _parts(x: jax.Array, chunk: int) -> tuple[jax.Array, Any]:
    """[B, ...] -> [chunk, steps, ...], zeros at the end where they do not divide B; and the way back.

    The loop goes along the second axis, so that a batch that is spread over devices remains so.
    """
    batch = len(x)
    steps = -(-batch // chunk)
    chunk = -(-batch // steps)
    padded = lax.pad(x, np.zeros((), x.dtype), ((0, chunk * steps - batch, 0), *((0, 0, 0),) * (x.ndim - 1)))
    return padded.reshape(chunk, steps, *x.shape[1:]), lambda y: y.reshape(-1, *y.shape[2:])[:batch]


def _part(parts: jax.Array, step: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(parts, step, 1, keepdims=False)


def _fold_kernel(kernel: jax.Array, stride: int) -> jax.Array:
    """[k, k, C, F] -> [k/s, k/s, s s C, F], zeros where s does not divide k; see ``_fold_images``."""
    if stride == 1:
        return kernel
    size, _, channels, filters = kernel.shape
    blocks = -(-size // stride)
    missing = blocks * stride - size
    padded = jnp.pad(kernel, ((0, missing), (0, missing), (0, 0), (0, 0)))
    split = padded.reshape(blocks, stride, blocks, stride, channels, filters).swapaxes(1, 2)
    return split.reshape(blocks, blocks, stride * stride * channels, filters)


def _fold_images(images: jax.Array, kernel: int, geometry: Geometry, algorithm: Algorithm) -> jax.Array:
    """Pad, for whole tiles; with a stride s, blocks of s x s pixels become channels, and the stride 1."""
    stride, padding = geometry
    batch, *lengths, channels = images.shape
    overlap = len(algorithm.inputs) - OUTPUTS
    blocks = [
        -(-output_length(length, kernel, geometry) // OUTPUTS) * OUTPUTS + overlap for length in lengths
    ]
    sides = [(padding, n * stride - length - padding, 0) for n, length in zip(blocks, lengths, strict=True)]
    padded = lax.pad(images, np.zeros((), images.dtype), ((0, 0, 0), *sides, (0, 0, 0)))
    if stride == 1:
        return padded
    split = padded.reshape(batch, blocks[0], stride, blocks[1], stride, channels).swapaxes(2, 3)
    return split.reshape(batch, *blocks, stride * stride * channels)


@functools.cache
def _algorithm(size: int) -> Algorithm:
    """A tile's product with a kernel as that of polynomials, by their values at some points.

    A and G are the powers of the points, and B' the interpolation from the values, transposed. Each row of B'
    is scaled so that its least entry is 1, which saves multiplications, and G's row by the inverse.
    """
    points = np.asarray(POINTS[size])

    def powers(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([points[:, None] ** np.arange(count), at_infinity])

    inputs = np.linalg.inv(powers(len(points) + 1)).T
    inputs[np.abs(inputs) < 1e-12] = 0
    scale = np.array([np.abs(row[row != 0]).min() for row in inputs])[:, None]
    return Algorithm(inputs / scale, powers(size) * scale, powers(OUTPUTS).T)


def _kernel_tiles(kernel: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """[k, k, C, F] -> t * t of [C, F]."""
    size = len(kernel)
    rows = _both_ways(algorithm.kernel, [kernel[i, j] for i in range(size) for j in range(size)])
    # Once, not again for every few images.
    return list(lax.optimization_barrier([matrix for row in rows for matrix in row]))


def _input_tiles(images: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """[b, H, W, C] -> t * t of [tiles, C]."""
    return _tiles(images, algorithm.inputs)


def _gradient_tiles(gradient: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """[b, h, w, F] -> t * t of [tiles, F]."""
    rows, columns = ((0, -n % OUTPUTS, 0) for n in gradient.shape[1:3])
    padded = lax.pad(gradient, np.zeros((), gradient.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))
    return _tiles(padded, algorithm.outputs.T)


def _tiles(images: jax.Array, matrix: np.ndarray) -> list[jax.Array]:
    """``matrix`` X ``matrix``' of all tiles X, that begin OUTPUTS pixels apart."""
    size = matrix.shape[1]

    def shifted(x: jax.Array, axis: int) -> list[jax.Array]:
        stop = x.shape[axis] - size + 1
        return [lax.slice_in_dim(x, i, i + stop, OUTPUTS, axis) for i in range(size)]

    rows = [_combination(row, shifted(images, 1)) for row in matrix]
    return [
        _combination(column, shifted(row, 2)).reshape(-1, images.shape[3])
        for row in rows
        for column in matrix
    ]


def _outputs_of_tiles(
    products: list[jax.Array], algorithm: Algorithm, batch: int, shape: Sequence[int]
) -> jax.Array:
    """T * t of [tiles, F] -> [b, h, w, F]."""
    rows, columns = (-(-n // OUTPUTS) for n in shape)
    tiles = [product.reshape(batch, rows, columns, -1) for product in products]
    pixels = _both_ways(algorithm.outputs, tiles)
    merged = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)
    return merged.reshape(batch, rows * OUTPUTS, columns * OUTPUTS, -1)[:, : shape[0], : shape[1]]


def _both_ways(matrix: np.ndarray, square: Sequence[jax.Array]) -> list[list[jax.Array]]:
    """``matrix`` S ``matrix``' of a square S of arrays, given row by row."""
    size = matrix.shape[1]
    rows = [[_combination(row, square[j::size]) for j in range(size)] for row in matrix]
    return [[_combination(column, row) for column in matrix] for row in rows]


def _combination(coefficients: Iterable[float], terms: Iterable[jax.Array]) -> jax.Array:
    """Sum of coefficient times term, without those that are 0."""
    total: jax.Array | None = None
    for coefficient, term in zip(coefficients, terms, strict=True):
        if coefficient:
            scaled = term if coefficient == 1 else term * np.asarray(coefficient, term.dtype)
            total = scaled if total is None else total + scaled
    assert total is not None
    return total
