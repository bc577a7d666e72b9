"""The convolutions of a backbone: XLA's, and on a CPU those of fewer multiplications where they are faster.

XLA's convolutions on a CPU gather the patches of the input for each product, which costs as much as the
products where there are few filters, as in AlexNet's first two layers and in their gradients. docs/design.md
has what was measured. Other devices, other dtypes and small sizes have XLA's convolution.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from gradrev_jax.models.winograd import (
    OUTPUTS,
    POINTS,
    Geometry,
    output_length,
    tiled,
    tiled_images_gradient,
    tiled_kernel_gradient,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
FEWEST_CHANNELS = 32  # below it the products are too narrow
FEWEST_TILES = 256  # in a batch; below it transforming the kernel costs more than is won


def convolve(
    images: Float[Array, "B H W C"],
    kernel: Float[Array, "k l C F"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **settings: Any,
) -> Float[Array, "B h w F"]:
    """``jax.lax.conv_general_dilated`` in NHWC, for ``flax.linen.Conv``'s argument of that name.

    Reverse mode differentiates it any number of times; forward mode (``jax.jvp``, ``jax.hessian``) not.

    Args:
      images: [B, H, W, C].
      kernel: [k, l, C, F].
      strides: of rows and columns.
      padding: zeros before and after, of rows and columns.
      **settings: its other arguments; those that are not at their defaults lead to XLA's convolution.

    Raises:
      TypeError: forward mode, where tiles are worthwhile by the sizes, on any platform.

    Example:
      >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
      >>> convolve(images, kernel, (1, 1), [(1, 1), (1, 1)])[0, :, :, 0].tolist()[0]
      [4.0, 6.0, 6.0, 4.0]
    """
    paddings = {side for sides in padding for side in sides}
    if len(set(strides)) == len(paddings) == 1 and not _special(settings):
        geometry = Geometry(strides[0], paddings.pop())
        if is_worthwhile(images, kernel, geometry):
            return _convolve(images, kernel, geometry)
    return lax.conv_general_dilated(
        images, kernel, strides, padding, **{"dimension_numbers": LAYOUT, **settings}
    )


def is_worthwhile(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether tiles are faster than XLA's convolution on a CPU, by the sizes alone."""
    rows, columns, channels, filters = kernel.shape
    size = -(-rows // geometry.stride)
    outputs = [output_length(length, rows, geometry) for length in images.shape[1:3]]
    return (
        images.dtype == kernel.dtype == jnp.float32
        and rows == columns
        and size in POINTS
        and min(outputs) > 0
        and min(channels * geometry.stride**2, filters) >= FEWEST_CHANNELS
        and len(images) * math.prod(-(-n // OUTPUTS) for n in outputs) >= FEWEST_TILES
    )


def _special(settings: dict[str, Any]) -> bool:
    """Whether any argument of ``conv_general_dilated`` says more than strides and padding."""
    numbers = settings.get("dimension_numbers")
    given = (settings.get("lhs_dilation"), settings.get("rhs_dilation"))
    dilations = {1, *np.ravel([dilation for dilation in given if dilation is not None]).tolist()}
    return (
        (numbers is not None and numbers != lax.conv_dimension_numbers((4,) * 4, (4,) * 4, LAYOUT))
        or dilations != {1}
        or settings.get("feature_group_count", 1) != 1
        or settings.get("precision") is not None
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(tiled, geometry=geometry),
        default=functools.partial(plain, geometry=geometry),
    )


def _forward(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, Any]:
    return _convolve(images, kernel, geometry), (images, kernel)


def _backward(geometry: Geometry, saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two choices, so that XLA drops the images' gradient where nobody asks for it."""
    images, kernel = saved

    def of_images(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda images: plain(images, kernel, geometry), images)[1](gradient)[0]

    def of_kernel(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: plain(images, kernel, geometry), kernel)[1](gradient)[0]

    def tiled_of_images(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        del images
        return tiled_images_gradient(kernel, gradient, geometry)

    def tiled_of_kernel(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return tiled_kernel_gradient(images, gradient, geometry, len(kernel))

    by_stride = tiled_of_images if geometry.stride == 1 else of_images
    return (
        lax.platform_dependent(images, kernel, gradient, cpu=by_stride, default=of_images),
        lax.platform_dependent(images, kernel, gradient, cpu=tiled_of_kernel, default=of_kernel),
    )


_convolve.defvjp(_forward, _backward)


def plain(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """XLA's convolution."""
    stride, padding = geometry
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT
    )
