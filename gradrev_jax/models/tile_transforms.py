"""The transforms of Winograd's convolution: its matrices, and tiles of images, kernels and outputs.

``gradrev_jax.models.winograd`` has the equation, and combines them into a convolution.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

OUTPUTS = 2  # m
# Kernel size -> the points, besides infinity, at which the polynomials are evaluated. Those for size 5 have
# the smallest error of several that were tried.
POINTS = {3: (0.0, 1.0, -1.0), 5: (0.0, 1.0, -1.0, 2.0, -0.5)}


class Algorithm(NamedTuple):
    """The matrices for kernels of k x k pixels and tiles of t x t pixels with m x m outputs.

    Attributes:
      inputs: the transform of the input tiles, B', [t, t].
      kernel: the transform of the kernel, G, [t, k].
      outputs: the transform of the products, A', [m, t].
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray


@functools.cache
def make_algorithm(size: int) -> Algorithm:
    """Returns the matrices for a kernel size.

    The convolution of a tile with a kernel is a product of polynomials, computed by their values at some
    points: A and G hold the powers of the points, and B' is the transpose of the interpolation from the
    values. Each row of B' is scaled so that its smallest entry is 1, which saves multiplications, and the
    row of G is scaled by the inverse.

    Args:
      size: the number of rows, and of columns, of the kernel.

    Example:
      >>> make_algorithm(3).outputs
      array([[ 1.,  1.,  1.,  0.],
             [ 0.,  1., -1.,  1.]])
    """
    points = np.asarray(POINTS[size])

    def powers(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([points[:, None] ** np.arange(count), at_infinity])

    inputs = np.linalg.inv(powers(len(points) + 1)).T
    inputs[np.abs(inputs) < 1e-12] = 0
    scale = np.array([np.abs(row[row != 0]).min() for row in inputs])[:, None]
    return Algorithm(inputs / scale, powers(size) * scale, powers(OUTPUTS).T)


def kernel_tiles(kernel: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms a kernel [k, k, C, F] into t * t matrices [C, F]."""
    size = len(kernel)
    rows = transform_both_axes(algorithm.kernel, [kernel[i, j] for i in range(size) for j in range(size)])
    # The barrier keeps XLA from repeating the transform for each chunk.
    return list(lax.optimization_barrier([matrix for row in rows for matrix in row]))


def input_tiles(images: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms images [b, H, W, C] into t * t matrices [tiles, C]."""
    return _transform_tiles(images, algorithm.inputs)


def gradient_tiles(gradient: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms the outputs' gradient [b, h, w, F] into t * t matrices [tiles, F]."""
    rows, columns = ((0, -n % OUTPUTS, 0) for n in gradient.shape[1:3])
    padded = lax.pad(gradient, np.zeros((), gradient.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))
    return _transform_tiles(padded, algorithm.outputs.T)


def _transform_tiles(images: jax.Array, matrix: np.ndarray) -> list[jax.Array]:
    """Computes ``matrix`` X ``matrix``' for all tiles X; neighbouring tiles begin OUTPUTS pixels apart."""
    size = matrix.shape[1]

    def shifted(x: jax.Array, axis: int) -> list[jax.Array]:
        stop = x.shape[axis] - size + 1
        return [lax.slice_in_dim(x, i, i + stop, OUTPUTS, axis) for i in range(size)]

    rows = [_linear_combination(row, shifted(images, 1)) for row in matrix]
    return [
        _linear_combination(column, shifted(row, 2)).reshape(-1, images.shape[3])
        for row in rows
        for column in matrix
    ]


def merge_output_tiles(
    products: list[jax.Array], algorithm: Algorithm, batch: int, shape: Sequence[int]
) -> jax.Array:
    """Transforms t * t products [tiles, F] into outputs [b, h, w, F]."""
    rows, columns = (-(-n // OUTPUTS) for n in shape)
    tiles = [product.reshape(batch, rows, columns, -1) for product in products]
    pixels = transform_both_axes(algorithm.outputs, tiles)
    merged = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)
    return merged.reshape(batch, rows * OUTPUTS, columns * OUTPUTS, -1)[:, : shape[0], : shape[1]]


def transform_both_axes(matrix: np.ndarray, square: Sequence[jax.Array]) -> list[list[jax.Array]]:
    """Computes ``matrix`` S ``matrix``' for a square S of arrays, given row by row."""
    size = matrix.shape[1]
    rows = [[_linear_combination(row, square[j::size]) for j in range(size)] for row in matrix]
    return [[_linear_combination(column, row) for column in matrix] for row in rows]


def _linear_combination(coefficients: Iterable[float], terms: Iterable[jax.Array]) -> jax.Array:
    """Returns the sum of coefficient times term, leaving out coefficients of 0."""
    total: jax.Array | None = None
    for coefficient, term in zip(coefficients, terms, strict=True):
        if coefficient:
            scaled = term if coefficient == 1 else term * np.asarray(coefficient, term.dtype)
            total = scaled if total is None else total + scaled
    assert total is not None
    return total
