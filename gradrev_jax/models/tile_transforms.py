"""Computes the transforms of Winograd's convolution: its matrices, and tiles of images, kernels and outputs.

``gradrev_jax.models.winograd`` has the equation, and combines the transforms into a convolution.

A transform multiplies each of several shifted arrays by a column of a matrix and sums the products; the rows
of the matrix become a new axis. XLA compiles this to one or two kernels on a CPU. When each of the t * t
pixels of a tile had a kernel of its own, compiling them took most of the time until the first step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradrev_jax.core.fusion import compute_apart
from gradrev_jax.core.workers import NUM_WORKERS

# The numbers of rows, and of columns, of outputs that a tile may have. With 4 there would be fewer
# multiplications, but rounding errors so large that max pooling chooses other pixels than torch does.
OUTPUTS = (2, 3)
# The points, besides infinity, at which the polynomials are evaluated; small sizes take the first of them. Of
# several choices that were tried, these have small rounding errors.
POINTS = (0.0, 1.0, -1.0, 2.0, -0.5, -2.0)
KERNELS = (3, 5)  # rows, and columns


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
def make_algorithm(size: int, outputs: int) -> Algorithm:
    """Returns the matrices for a size of kernels and of tiles.

    The convolution of a tile with a kernel is a product of polynomials, computed by their values at some
    points: A and G hold the powers of the points, and B' is the transpose of the interpolation from the
    values. Each row of B' is scaled so that its smallest entry is 1, which saves multiplications, and the
    row of G is scaled by the inverse.

    Args:
      size: the number of rows, and of columns, of the kernel.
      outputs: the number of rows, and of columns, of a tile's outputs.

    Example:
      >>> make_algorithm(3, 2).outputs
      array([[ 1.,  1.,  1.,  0.],
             [ 0.,  1., -1.,  1.]])
    """
    points = np.asarray(POINTS[: size + outputs - 2])

    def powers(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([points[:, None] ** np.arange(count), at_infinity])

    inputs = np.linalg.inv(powers(len(points) + 1)).T
    inputs[np.abs(inputs) < 1e-12] = 0
    scale = np.array([np.abs(row[row != 0]).min() for row in inputs])[:, None]
    return Algorithm(inputs / scale, powers(size) * scale, powers(outputs).T)


def kernel_tiles(kernel: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms a kernel [k, k, C, F] into matrices [p, C, F], in groups of the t * t pixels of a tile."""
    groups = []
    for rows in _row_groups(algorithm):
        by_row = _combine(algorithm.kernel[rows], list(kernel), axis=0)
        groups.append(_combine(algorithm.kernel, _unstack(by_row, 1), axis=1).reshape(-1, *kernel.shape[2:]))
    # The barrier keeps XLA from repeating the transform for each chunk.
    return list(lax.optimization_barrier(groups))


def input_tiles(images: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms images [b, H, W, C] into matrices [p, tiles, C], grouped as those of ``kernel_tiles``."""
    return _transform_tiles(images, algorithm.inputs, algorithm)


def gradient_tiles(gradient: jax.Array, algorithm: Algorithm) -> list[jax.Array]:
    """Transforms the outputs' gradient [b, h, w, F] into matrices [p, tiles, F], in the same groups."""
    rows, columns = ((0, -n % len(algorithm.outputs), 0) for n in gradient.shape[1:3])
    padded = lax.pad(gradient, np.zeros((), gradient.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))
    return _transform_tiles(padded, algorithm.outputs.T, algorithm)


def _transform_tiles(images: jax.Array, matrix: np.ndarray, algorithm: Algorithm) -> list[jax.Array]:
    """Computes ``matrix`` X ``matrix``' for all tiles X; tiles overlap so that their outputs are adjacent."""
    size, step = matrix.shape[1], len(algorithm.outputs)

    def shifted(x: jax.Array, axis: int) -> list[jax.Array]:
        stop = x.shape[axis] - size + 1
        return [lax.slice_in_dim(x, i, i + stop, step, axis) for i in range(size)]

    # [b, tiles down, t, W, C]: the new axis is inside, so that the shifted rows are read from the cache.
    by_row = compute_apart(lambda images: _combine(matrix, shifted(images, 1), axis=2), images)
    return [
        _combine(matrix, shifted(jnp.moveaxis(by_row[:, :, rows], 2, 0), 3), axis=1).reshape(
            len(rows) * len(matrix), -1, images.shape[3]
        )
        for rows in _row_groups(algorithm)
    ]


def merge_output_tiles(
    products: list[jax.Array], algorithm: Algorithm, batch: int, shape: Sequence[int]
) -> jax.Array:
    """Transforms products [p, tiles, F], in their groups, into outputs [b, h, w, F]."""
    outputs = len(algorithm.outputs)
    rows, columns = (-(-n // outputs) for n in shape)
    # [t, tiles, m, F]
    by_row = compute_apart(
        lambda *products: _combine(algorithm.outputs, _rows_of_groups(products, algorithm), axis=2), *products
    )
    pixels = _combine(algorithm.outputs, _unstack(by_row, 0), axis=2)
    merged = pixels.reshape(batch, rows, columns, outputs, outputs, -1).swapaxes(2, 3)
    return merged.reshape(batch, rows * outputs, columns * outputs, -1)[:, : shape[0], : shape[1]]


def merge_kernel_tiles(products: Sequence[jax.Array], algorithm: Algorithm) -> jax.Array:
    """Transforms sums of products [p, C, F], in their groups, into the gradient of a kernel [k, k, C, F]."""
    matrix = algorithm.kernel.T
    # [t, C, k, F]
    by_row = compute_apart(
        lambda *products: _combine(matrix, _rows_of_groups(products, algorithm), axis=2), *products
    )
    return jnp.moveaxis(_combine(matrix, _unstack(by_row, 0), axis=0), 2, 0)


def _row_groups(algorithm: Algorithm) -> list[np.ndarray]:
    """Returns the rows of a tile that each group of products holds.

    XLA computes a batch of small products on one core, but several batches at the same time.
    """
    size = len(algorithm.inputs)
    return np.array_split(np.arange(size), min(size, max(2, NUM_WORKERS)))


def _rows_of_groups(groups: Sequence[jax.Array], algorithm: Algorithm) -> list[jax.Array]:
    """Returns the t products [t, n, F] of all rows of a tile."""
    size = len(algorithm.inputs)
    return [row for group in groups for row in group.reshape(-1, size, *group.shape[1:])]


def _unstack(x: jax.Array, axis: int) -> list[jax.Array]:
    return [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


def _combine(matrix: np.ndarray, terms: Sequence[jax.Array], axis: int) -> jax.Array:
    """Returns the sum of the terms, each times its column of the matrix; the rows become an axis of it."""
    before, after = terms[0].shape[:axis], terms[0].shape[axis:]
    shape = (*before, len(matrix), *after)
    kept = [other for other in range(len(shape)) if other != axis]
    total: jax.Array | None = None
    # Operators of jax.numpy would make tracing a step take a sixth longer.
    for column, term in zip(matrix.T, terms, strict=True):
        factor = lax.broadcast_in_dim(np.asarray(column, term.dtype), shape, (axis,))
        scaled = lax.mul(lax.broadcast_in_dim(term, shape, kept), factor)
        total = scaled if total is None else lax.add(total, scaled)
    assert total is not None
    return total
