"""Depthwise convolutions: on a CPU as a sum of shifted images, otherwise XLA's.

On a CPU, XLA's grouped convolution is many times slower than the sum of the shifted slices of the padded
images, each times one row of weights.
"""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


def depthwise_convolve(
    images: Float[Array, "B H W C"], kernel: Float[Array, "k k C"], stride: int, padding: Padding
) -> Float[Array, "B h w C"]:
    """Computes a convolution of each channel with a kernel of its own.

    Args:
      images: the input, [B, H, W, C].
      kernel: one kernel for each channel, [k, k, C].
      stride: the stride of rows and columns.
      padding: the numbers of zeros ((above, below), (left, right)).

    Example:
      >>> images, kernel = jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2))
      >>> depthwise_convolve(images, kernel, 1, ((1, 1), (1, 1)))[0, :, :, 0].tolist()
      [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(shifted, stride=stride, padding=padding),
        default=functools.partial(grouped, stride=stride, padding=padding),
    )


def shifted(
    images: Float[Array, "B H W C"], kernel: Float[Array, "k k C"], stride: int, padding: Padding
) -> Float[Array, "B h w C"]:
    """Computes ``depthwise_convolve`` as the sum over the kernel's elements of shifted slices."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    k = len(kernel)
    rows, columns = ((size - k) // stride + 1 for size in padded.shape[1:3])

    def term(i: int, j: int) -> Array:
        below, right = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
        return padded[:, i:below:stride, j:right:stride] * kernel[i, j]

    return functools.reduce(jnp.add, [term(i, j) for i in range(k) for j in range(k)])


def grouped(
    images: Float[Array, "B H W C"], kernel: Float[Array, "k k C"], stride: int, padding: Padding
) -> Float[Array, "B h w C"]:
    """Computes ``depthwise_convolve`` with XLA's grouped convolution."""
    return lax.conv_general_dilated(
        images,
        kernel[:, :, None],
        (stride, stride),
        padding,
        dimension_numbers=LAYOUT,
        feature_group_count=images.shape[-1],
    )
