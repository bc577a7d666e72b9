"""The convolutions of a backbone: on a CPU by tiles if that is faster, otherwise XLA's.

On a CPU, XLA's convolution gathers patches of the input for each product. With few filters, as in AlexNet's
first two layers and in their gradients, that costs as much as the products. docs/design.md has measurements.
Other devices, other dtypes and small sizes use XLA's convolution.
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

from gradrev_jax.models.tile_transforms import KERNELS
from gradrev_jax.models.winograd import (
    Geometry,
    output_length,
    tiled,
    tiled_images_gradient,
    tiled_kernel_gradient,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
FEWEST_CHANNELS = 32  # with fewer, the matrix products are too narrow to be fast
FEWEST_OUTPUTS = 768  # per batch; with fewer, transforming the kernel costs more than the tiles save


def convolve(
    images: Float[Array, "B H W C"],
    kernel: Float[Array, "k l C F"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **settings: Any,
) -> Float[Array, "B h w F"]:
    """Computes a convolution in NHWC; stands in for ``jax.lax.conv_general_dilated`` in ``flax.linen.Conv``.

    It can be differentiated in reverse mode any number of times, but not in forward mode (``jax.jvp``,
    ``jax.hessian``).

    Args:
      images: the input, [B, H, W, C].
      kernel: the kernel, [k, l, C, F].
      strides: the strides of rows and columns.
      padding: the numbers of zeros before and after, for rows and columns.
      **settings: the other arguments of ``jax.lax.conv_general_dilated``. Any that is not at its default
        selects XLA's convolution.

    Raises:
      TypeError: forward-mode differentiation, on any platform, if the sizes are worth tiles.

    Example:
      >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
      >>> convolve(images, kernel, (1, 1), [(1, 1), (1, 1)])[0, :, :, 0].tolist()[0]
      [4.0, 6.0, 6.0, 4.0]
    """
    paddings = {side for sides in padding for side in sides}
    if len(set(strides)) == len(paddings) == 1 and not _has_other_settings(settings):
        geometry = Geometry(strides[0], paddings.pop())
        if is_worthwhile(images, kernel, geometry):
            return _convolve(images, kernel, geometry)
    return lax.conv_general_dilated(
        images, kernel, strides, padding, **{"dimension_numbers": LAYOUT, **settings}
    )


def is_worthwhile(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Returns whether tiles are faster than XLA's convolution on a CPU, judging by dtypes and sizes."""
    rows, columns, channels, filters = kernel.shape
    size = -(-rows // geometry.stride)
    outputs = [output_length(length, rows, geometry) for length in images.shape[1:3]]
    return (
        images.dtype == kernel.dtype == jnp.float32
        and rows == columns
        and size in KERNELS
        and min(outputs) > 0
        and min(channels * geometry.stride**2, filters) >= FEWEST_CHANNELS
        and len(images) * math.prod(outputs) >= FEWEST_OUTPUTS
    )


def _has_other_settings(settings: dict[str, Any]) -> bool:
    """Returns whether an argument of ``conv_general_dilated`` asks for more than strides and padding."""
    layout = settings.get("dimension_numbers")
    dilations = [settings.get("lhs_dilation"), settings.get("rhs_dilation")]
    factors = {1, *np.ravel([dilation for dilation in dilations if dilation is not None]).tolist()}
    return (
        (layout is not None and layout != lax.conv_dimension_numbers((4,) * 4, (4,) * 4, LAYOUT))
        or factors != {1}
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
    """Computes both gradients; each is chosen by platform alone, so that XLA can drop one that is unused."""
    images, kernel = saved

    def xla_images_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda images: plain(images, kernel, geometry), images)[1](gradient)[0]

    def xla_kernel_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: plain(images, kernel, geometry), kernel)[1](gradient)[0]

    def cpu_images_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        if geometry.stride != 1:
            return xla_images_gradient(images, kernel, gradient)
        return tiled_images_gradient(kernel, gradient, geometry)

    def cpu_kernel_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return tiled_kernel_gradient(images, gradient, geometry, len(kernel))

    arguments = (images, kernel, gradient)
    return (
        lax.platform_dependent(*arguments, cpu=cpu_images_gradient, default=xla_images_gradient),
        lax.platform_dependent(*arguments, cpu=cpu_kernel_gradient, default=xla_kernel_gradient),
    )


_convolve.defvjp(_forward, _backward)


def plain(images: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes a convolution with XLA."""
    stride, padding = geometry
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT
    )
