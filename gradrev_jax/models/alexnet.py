"""AlexNet as in torchvision, with images in NHWC (Krizhevsky, 2014: "One weird trick")."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.core.fusion import compute_apart
from gradrev_jax.models.convolution import convolve
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import check_images
from gradrev_jax.models.shards import BatchShard

TAPS = ("fc6_relu", "fc6", "fc7", "fc7_relu")
SMALLEST_IMAGE = 63  # pixels per side; the last pooling of a smaller image would have no outputs
SMALLEST_IMAGE_OF_MAPS = 31  # the same, without the last pooling
POOLED = 6  # rows, and columns, after the adaptive average pooling, as in torchvision

he_normal = nn.initializers.he_normal()


class AlexNet(nn.Module):
    """AlexNet up to a tap in its fully connected part.

    It has no local response normalisation and no groups; dropout comes **before** each fully connected layer.

    Attributes:
      tap: the layer whose output is the feature. ``fc6_relu`` is the paper's "Conv1 to Conv5 + Linear 1";
        ``fc7`` is the tap of ADDE-M, without the last ReLU.
      width: the factor of all numbers of filters and units; 1 gives AlexNet.
      dropout: the dropout rate before each fully connected layer.
      dtype: the dtype of the computation; parameters are float32.

    Raises:
      ValueError: the tap is unknown, the images are not a batch of normalised RGB images, or they are smaller
        than 63 x 63 pixels.

    Example:
      >>> images = jnp.zeros((1, 64, 64, 3))
      >>> features = AlexNet(width=0.125).init_with_output(jax.random.key(0), images)[0]
      >>> features.shape
      (1, 512)
    """

    tap: str = "fc6_relu"
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B S S 3"], train: bool = False, shard: BatchShard | None = None
    ) -> Float[Array, "B H"]:
        """Computes the features at the tap.

        Args:
          images: normalised images, [B, S, S, 3].
          train: whether dropout is active; it needs the ``dropout`` rng.
          shard: the part of a batch that the images are, for dropout; None: the whole batch.

        Returns:
          The features, [B, 4096 * width].
        """
        if self.tap not in TAPS:
            raise ValueError(f"tap must be one of {', '.join(TAPS)}, got {self.tap!r}")
        check_images(images, smallest=SMALLEST_IMAGE)
        x = nn.relu(max_pool(_convolutions(images, self.width, self.dtype)))
        x = adaptive_average_pool(x, POOLED)
        x = x.reshape(len(x), math.prod(x.shape[1:]))  # -1 has no size in an empty batch
        x = self._linear("fc6", x, train, shard)
        if self.tap == "fc6":
            return x
        x = nn.relu(x)
        if self.tap == "fc6_relu":
            return x
        x = self._linear("fc7", x, train, shard)
        return x if self.tap == "fc7" else nn.relu(x)

    def _linear(self, name: str, x: jax.Array, train: bool, shard: BatchShard | None) -> jax.Array:
        x = Dropout(self.dropout if train else 0.0)(x, shard)
        return nn.Dense(scaled(4096, self.width), kernel_init=he_normal, dtype=self.dtype, name=name)(x)


class AlexNetMaps(nn.Module):
    """AlexNet's five convolutions, without the pooling after the last.

    Their parameters have the names that they have in ``AlexNet``.

    Attributes:
      width: the factor of all numbers of filters; 1 gives AlexNet.
      dtype: the dtype of the computation; parameters are float32.

    Raises:
      ValueError: the images are not a batch of normalised RGB images, or they are smaller than 31 x 31
        pixels.

    Example:
      >>> maps = AlexNetMaps(width=0.125).init_with_output(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))[0]
      >>> maps.shape
      (1, 3, 3, 32)
    """

    width: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B h w C"]:
        """Computes the map after the last convolution's ReLU; it has 13 x 13 cells for 224 x 224 pixels."""
        check_images(images, smallest=SMALLEST_IMAGE_OF_MAPS)
        return nn.relu(_convolutions(images, self.width, self.dtype))


def _convolutions(images: Float[Array, "B S S 3"], width: float, dtype: DTypeLike) -> Float[Array, "B h w C"]:
    """Computes the last convolution, before its ReLU, with layers of the module that calls it."""
    x = images.astype(dtype)
    # ReLU after the pooling gives the same values, and a much faster backward pass on CPU.
    x = nn.relu(max_pool(convolution("conv1", 64, width, dtype, kernel=11, stride=4, padding=2)(x)))
    x = nn.relu(max_pool(convolution("conv2", 192, width, dtype, kernel=5, padding=2)(x)))
    x = nn.relu(convolution("conv3", 384, width, dtype)(x))
    x = nn.relu(convolution("conv4", 256, width, dtype)(x))
    return convolution("conv5", 256, width, dtype)(x)


def convolution(
    name: str,
    filters: int,
    width: float,
    dtype: DTypeLike,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
) -> nn.Conv:
    """Returns a convolution as AlexNet has it.

    Args:
      name: its name in the parameters of the module that calls this.
      filters: the number of filters at full width.
      width: the factor of the number of filters.
      dtype: the dtype of the computation.
      kernel: the number of rows, and of columns, of the kernel.
      stride: the stride of rows and columns.
      padding: the number of zeros on each side.

    Example:
      >>> convolution("conv6", 512, 0.5, jnp.float32).features
      256
    """
    return nn.Conv(
        scaled(filters, width),
        (kernel, kernel),
        (stride, stride),
        padding=padding,
        kernel_init=he_normal,
        dtype=dtype,
        conv_general_dilated=convolve,
        name=name,
    )


def scaled(units: int, width: float) -> int:
    """Returns the number of units of a layer at a width multiplier, at least 1."""
    return max(1, round(units * width))


def adaptive_average_pool(x: Float[Array, "B h w C"], size: int) -> Float[Array, "B s s C"]:
    """Pools to ``size x size`` averages from any size, larger or smaller, like torch's AdaptiveAvgPool2d.

    Output row i is the mean of the input rows from floor(i h / size) to ceil((i + 1) h / size), and columns
    likewise. Inputs of that size, as those of 224 x 224 images, are returned unchanged.

    Args:
      x: the input, [B, h, w, C].
      size: the number of rows, and columns, of the output.

    Example:
      >>> adaptive_average_pool(jnp.arange(4.0).reshape(1, 2, 2, 1), 1).tolist()
      [[[[1.5]]]]
    """
    height, width = x.shape[1:3]
    if height == width == size:
        return x
    rows, columns = (jnp.asarray(_pooling_matrix(n, size), x.dtype) for n in (height, width))
    # A mean needs full precision; its cost is negligible beside that of the convolutions.
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=jax.lax.Precision.HIGHEST)


def _pooling_matrix(length: int, size: int) -> np.ndarray:
    """Returns the matrix [size, length] whose row i averages the inputs of output cell i."""
    matrix = np.zeros((size, length))
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


@jax.custom_vjp
def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Computes 3 x 3 max pooling of stride 2. Equal maxima share the gradient.

    On CPU, the backward pass of XLA's window reduction (select-and-scatter) is slower. It can be
    differentiated in reverse mode alone.

    Args:
      x: the input, [B, H, W, C], of at least 3 x 3.

    Example:
      >>> max_pool(jnp.arange(25.0).reshape(1, 5, 5, 1))[0, :, :, 0].tolist()
      [[12.0, 14.0], [22.0, 24.0]]
    """
    return functools.reduce(jnp.maximum, _window_slices(x))


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    pooled = max_pool(x)
    return pooled, (x, pooled)


def _max_pool_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (compute_apart(_max_pool_gradient, *saved, gradient),)


def _max_pool_gradient(x: jax.Array, pooled: jax.Array, gradient: jax.Array) -> jax.Array:
    """Sums, for each pixel, the gradients of the windows that it is the maximum of.

    Each 2 x 2 cell lies in the window that begins in it; its first row and first column also lie in the
    windows that begin in the cells above and to the left. In this order memory is read in long runs, which it
    is not where the gradients of nine strided slices are added.
    """
    count = sum((values == pooled).astype(gradient.dtype) for values in _window_slices(x))
    share = gradient / jnp.maximum(count, 1)
    batch, height, width, channels = x.shape
    rows, columns = (n + 1 for n in pooled.shape[1:3])
    cells = _pad(x, (0, 2 * rows - height), (0, 2 * columns - width))
    cells = cells.reshape(batch, rows, 2, columns, 2, channels)
    total = jnp.zeros((), x.dtype)
    for above, left in itertools.product((0, 1), repeat=2):
        seen = np.ones((2, 1, 2, 1), x.dtype)
        seen[2 - above :] = seen[:, :, 2 - left :] = 0
        largest, part = (
            _pad(values, (above, 1 - above), (left, 1 - left))[:, :, None, :, None]
            for values in (pooled, share)
        )
        total += jnp.where(cells == largest, part * seen, 0)
    return total.reshape(batch, 2 * rows, 2 * columns, channels)[:, :height, :width]


def _pad(x: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    """Pads images with zeros."""
    return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _window_slices(x: jax.Array) -> list[jax.Array]:
    """Returns the nine slices of an input whose elements are those of the windows."""
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    return [
        x[:, row : row + 2 * height - 1 : 2, column : column + 2 * width - 1 : 2]
        for row, column in itertools.product(range(3), repeat=2)
    ]
