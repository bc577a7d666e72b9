"""Convolutions by tiles: Winograd's algorithm, and its generalisation by Toom and Cook to other kernel sizes.

The input is cut into overlapping tiles of t x t pixels. Each tile gives m x m outputs, with t = m + k - 1
for a kernel of k x k pixels:

    Y = A' [(G K G') * (B' X B)] A      (Lavin and Gray, 2016, "Fast Algorithms for Convolutional Networks")

for a tile X, a kernel K, and small matrices A, B and G. Summed over the channels, the elementwise product is
t * t matrix products over all tiles. It takes t * t multiplications per tile, channel and filter; a direct
convolution takes m * m * k * k. m is 2 or 3, whichever takes the fewest multiplications for the outputs of a
layer.

The batch is processed in chunks of images whose tiles fit into the processor's cache. With the whole batch at
once, writing and reading the tiles costs more time than the algorithm saves.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from gradrev_jax.models.tile_transforms import (
    OUTPUTS,
    Algorithm,
    gradient_tiles,
    input_tiles,
    kernel_tiles,
    make_algorithm,
    merge_kernel_tiles,
    merge_output_tiles,
)

CACHED_BYTES = 16 * 2**20  # the largest size of a chunk's tiles


class Geometry(NamedTuple):
    """The stride and the padding of a convolution, the same for rows and columns.

    Attributes:
      stride: the distance between neighbouring windows, in pixels.
      padding: the number of zeros added on each side.
    """

    stride: int
    padding: int


def output_length(length: int, kernel: int, geometry: Geometry) -> int:
    """Returns the number of rows, or columns, in the output of a convolution.

    Args:
      length: the number of rows, or columns, of the input.
      kernel: the number of rows, or columns, of the kernel.
      geometry: the stride and the padding.

    Example:
      >>> output_length(224, 11, Geometry(4, 2))
      55
    """
    return (length + 2 * geometry.padding - kernel) // geometry.stride + 1


def tiled(
    images: Float[Array, "B H W C"], kernel: Float[Array, "k k C F"], geometry: Geometry
) -> Float[Array, "B h w F"]:
    """Computes a convolution by tiles.

    Args:
      images: the input, [B, H, W, C].
      kernel: the kernel, [k, k, C, F].
      geometry: the stride and the padding.

    Example:
      >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
      >>> tiled(images, kernel, Geometry(1, 1))[0, :, :, 0].round(4).tolist()[0]
      [4.0, 6.0, 6.0, 4.0]
    """
    kernel_size = len(kernel)
    folded = _fold_kernel(kernel, geometry.stride)
    shape = [output_length(length, kernel_size, geometry) for length in images.shape[1:3]]
    algorithm = _choose_algorithm(len(folded), shape)
    matrices = kernel_tiles(folded, algorithm)

    def convolve_chunk(images: jax.Array) -> jax.Array:
        tiles = input_tiles(_fold_images(images, kernel_size, geometry, algorithm), algorithm)
        products = [tile @ matrix for tile, matrix in zip(tiles, matrices, strict=True)]  # batches of p
        return merge_output_tiles(products, algorithm, len(images), shape)

    channels, filters = folded.shape[2:]
    chunks = _split_into_chunks(images, _chunk_size(images, shape, algorithm, channels + filters))

    def store_chunk(step: jax.Array, outputs: jax.Array) -> jax.Array:
        chunk = convolve_chunk(_take_chunk(chunks, step))
        return lax.dynamic_update_index_in_dim(outputs, chunk, step, 1)

    empty = _zeros((*chunks.shape[:2], *shape, filters), images, kernel)
    return _merge_chunks(lax.fori_loop(0, chunks.shape[1], store_chunk, empty), len(images))


def tiled_images_gradient(
    kernel: Float[Array, "k k C F"], gradient: Float[Array, "B h w F"], geometry: Geometry
) -> Float[Array, "B H W C"]:
    """Computes the gradient of ``tiled`` with respect to its images, at stride 1.

    It is a convolution of the outputs' gradient with the kernel turned by 180 degrees.

    Args:
      kernel: the kernel, [k, k, C, F].
      gradient: the gradient with respect to the outputs, [B, h, w, F].
      geometry: the padding, and a stride of 1.
    """
    # The layout makes XLA copy the turned kernel. It would otherwise leave the kernel in memory as it is, and
    # read it with strides for each of t * t matrices.
    turned = with_layout_constraint(kernel[::-1, ::-1].swapaxes(2, 3), Layout(major_to_minor=(0, 1, 2, 3)))
    return tiled(gradient, turned, Geometry(1, len(kernel) - 1 - geometry.padding))


def tiled_kernel_gradient(
    images: Float[Array, "B H W C"], gradient: Float[Array, "B h w F"], geometry: Geometry, size: int
) -> Float[Array, "k k C F"]:
    """Computes the gradient of ``tiled`` with respect to its kernel.

    It is G' [sum over tiles of (B' X B) (A dY A')] G.

    Args:
      images: the input, [B, H, W, C].
      gradient: the gradient with respect to the outputs, [B, h, w, F].
      geometry: the stride and the padding.
      size: the number of rows, and of columns, of the kernel.
    """
    stride, channels, filters = geometry.stride, images.shape[3], gradient.shape[3]
    shape = gradient.shape[1:3]
    algorithm = _choose_algorithm(-(-size // stride), shape)

    def multiply_chunk(images: jax.Array, gradient: jax.Array) -> list[jax.Array]:
        tiles = input_tiles(_fold_images(images, size, geometry, algorithm), algorithm)
        others = gradient_tiles(gradient, algorithm)
        return [tile.mT @ other for tile, other in zip(tiles, others, strict=True)]

    chunk_size = _chunk_size(images, shape, algorithm, channels * stride**2 + filters)
    image_chunks = _split_into_chunks(images, chunk_size)
    gradient_chunks = _split_into_chunks(gradient, chunk_size)

    def add_chunk(step: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
        products = multiply_chunk(_take_chunk(image_chunks, step), _take_chunk(gradient_chunks, step))
        return [total + product for total, product in zip(sums, products, strict=True)]

    sums = jax.eval_shape(multiply_chunk, image_chunks[:, 0], gradient_chunks[:, 0])
    zeros = [_zeros(total.shape, images, gradient).astype(total.dtype) for total in sums]
    products = lax.fori_loop(0, image_chunks.shape[1], add_chunk, zeros)
    folded_gradient = merge_kernel_tiles(products, algorithm)
    fold = functools.partial(_fold_kernel, stride=stride)
    kernel = _zeros((size, size, channels, filters), images, gradient)  # only its type matters
    return jax.linear_transpose(fold, kernel)(folded_gradient)[0]


def _zeros(shape: Sequence[int], *operands: jax.Array) -> jax.Array:
    """Returns the start of a loop: zeros that under ``shard_map`` vary over devices as operands do."""
    return functools.reduce(jnp.add, (jnp.zeros_like(operand, shape=shape) for operand in operands))


def _choose_algorithm(size: int, shape: Sequence[int]) -> Algorithm:
    """Returns the algorithm with the fewest multiplications.

    Args:
      size: the number of rows, and of columns, of the kernel, after folding.
      shape: the number of rows and columns of the outputs.
    """

    def multiplications(outputs: int) -> int:
        return (outputs + size - 1) ** 2 * math.prod(-(-n // outputs) for n in shape)

    return make_algorithm(size, min(OUTPUTS, key=multiplications))


def _chunk_size(images: jax.Array, shape: Sequence[int], algorithm: Algorithm, width: int) -> int:
    """Returns the number of images in a chunk: as many as keep their tiles within the cache.

    A smaller number that divides the batch is preferred, down to half of that.

    Args:
      images: the input of the convolution, [B, H, W, C].
      shape: the number of rows and columns of the outputs.
      algorithm: the matrices of the transforms.
      width: the number of channels of a tile plus that of its products.
    """
    tiles = math.prod(-(-n // len(algorithm.outputs)) for n in shape)
    per_image = tiles * algorithm.inputs.size * width * images.dtype.itemsize
    largest = max(1, min(len(images), CACHED_BYTES // per_image))
    # Padding the batch would cost computation, and a copy of all images and outputs.
    return next((size for size in range(largest, largest // 2, -1) if len(images) % size == 0), largest)


def _split_into_chunks(x: jax.Array, size: int) -> jax.Array:
    """Reshapes a batch [B, ...] into chunks [size, steps, ...], with zeros at the end if needed.

    The loop runs along the second axis, so that a batch that is sharded over devices remains sharded.
    """
    batch = len(x)
    steps = -(-batch // size)
    size = -(-batch // steps)
    padded = lax.pad(x, np.zeros((), x.dtype), ((0, size * steps - batch, 0), *((0, 0, 0),) * (x.ndim - 1)))
    return padded.reshape(size, steps, *x.shape[1:])


def _take_chunk(chunks: jax.Array, step: jax.Array) -> jax.Array:
    """Returns one chunk [size, ...] of [size, steps, ...]."""
    return lax.dynamic_index_in_dim(chunks, step, 1, keepdims=False)


def _merge_chunks(chunks: jax.Array, batch: int) -> jax.Array:
    """Reshapes chunks [size, steps, ...] into the batch [B, ...]; the inverse of ``_split_into_chunks``."""
    return chunks.reshape(-1, *chunks.shape[2:])[:batch]


def _fold_kernel(kernel: jax.Array, stride: int) -> jax.Array:
    """Folds a kernel [k, k, C, F] into [k/s, k/s, s s C, F], for images folded by ``_fold_images``.

    The kernel is padded with zeros if the stride s does not divide k.
    """
    if stride == 1:
        return kernel
    size, _, channels, filters = kernel.shape
    blocks = -(-size // stride)
    missing = blocks * stride - size
    padded = jnp.pad(kernel, ((0, missing), (0, missing), (0, 0), (0, 0)))
    split = padded.reshape(blocks, stride, blocks, stride, channels, filters).swapaxes(1, 2)
    return split.reshape(blocks, blocks, stride * stride * channels, filters)


def _fold_images(images: jax.Array, kernel: int, geometry: Geometry, algorithm: Algorithm) -> jax.Array:
    """Pads images to whole tiles; turns a convolution of stride s into one of stride 1.

    Blocks of s x s pixels become channels, [b, H/s, W/s, s s C].
    """
    stride, padding = geometry
    batch, *lengths, channels = images.shape
    outputs = len(algorithm.outputs)
    overlap = len(algorithm.inputs) - outputs
    blocks = [
        -(-output_length(length, kernel, geometry) // outputs) * outputs + overlap for length in lengths
    ]
    sides = [(padding, n * stride - length - padding, 0) for n, length in zip(blocks, lengths, strict=True)]
    padded = lax.pad(images, np.zeros((), images.dtype), ((0, 0, 0), *sides, (0, 0, 0)))
    if stride == 1:
        return padded
    split = padded.reshape(batch, blocks[0], stride, blocks[1], stride, channels).swapaxes(2, 3)
    return split.reshape(batch, *blocks, stride * stride * channels)
