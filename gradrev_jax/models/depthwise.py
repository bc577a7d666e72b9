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
    slices = shifted_slices(images, len(kernel), stride, padding)
    weights = kernel.reshape(-1, kernel.shape[-1])
    return functools.reduce(jnp.add, [part * weights[n] for n, part in enumerate(slices)])


def shifted_slices(
    images: Float[Array, "B H W C"], size: int, stride: int, padding: Padding
) -> list[Float[Array, "B h w C"]]:
    """Returns, for each element of a kernel, row by row, the inputs that it is multiplied with.

    Args:
      images: the input, [B, H, W, C].
      size: the number of rows, and of columns, of the kernel.
      stride: the stride of rows and columns.
      padding: the numbers of zeros ((above, below), (left, right)).

    Example:
      >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> [part.ravel().tolist() for part in shifted_slices(images, 2, 2, ((0, 1), (0, 1)))]
      [[0.0, 2.0, 6.0, 8.0], [1.0, 0.0, 7.0, 0.0], [3.0, 5.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]]
    """
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows, columns = (stride * ((length - size) // stride) + 1 for length in padded.shape[1:3])
    return [
        padded[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)
    ]


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
