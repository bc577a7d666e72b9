"""AlexNet as torchvision has it, in NHWC (Krizhevsky, 2014: "One weird trick")."""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.models.convolution import convolve
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.shards import BatchShard

Tap = Literal["fc6", "fc6_relu", "fc7", "fc7_relu"]
TAPS: tuple[Tap, ...] = get_args(Tap)
SMALLEST_IMAGE = 63  # pixels a side; below it the last pooling has nothing left
POOLED = 6  # torchvision's adaptive average pool gives 6 x 6, whatever the image's size

he_normal = nn.initializers.he_normal()


class AlexNet(nn.Module):
    """AlexNet up to a tap in its fully connected part.

    No local response normalisation, no groups; dropout stands **before** each fully connected layer.

    Attributes:
      tap: where the features are taken. ``fc6_relu`` is the paper's "Conv1 to Conv5 + Linear 1", ``fc7``
        is ADDE-M's (no last ReLU).
      width: multiplies every number of filters and units; 1 is AlexNet.
      dropout: rate before each fully connected layer.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: an unknown tap, images that are no batch of normalised RGB, or below 63 pixels a side.

    Example:
      >>> images = jnp.zeros((1, 64, 64, 3))
      >>> features = AlexNet(width=0.125).init_with_output(jax.random.key(0), images)[0]
      >>> features.shape
      (1, 512)
    """

    tap: Tap = "fc6_relu"
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B S S 3"], train: bool = False, shard: BatchShard | None = None
    ) -> Float[Array, "B H"]:
        """Features at the tap.

        Args:
          images: [B, S, S, 3], normalised.
          train: whether dropout is active (needs the ``dropout`` rng).
          shard: which part of a batch they are, for dropout; None: all of it.

        Returns:
          [B, 4096 * width].
        """
        if self.tap not in TAPS:
            raise ValueError(f"model.tap must be one of {', '.join(TAPS)}, got {self.tap!r}")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must be [B, S, S, 3], got {images.shape}; a single one is images[None]")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be normalised (see normalize_images), got {images.dtype}")
        if (side := min(images.shape[1:3])) < SMALLEST_IMAGE:
            raise ValueError(
                f"AlexNet needs images of at least {SMALLEST_IMAGE} pixels a side, got {side}; "
                "set data.image_size"
            )
        x = images.astype(self.dtype)
        # The ReLU comes after the pooling, which gives the same and a much faster backward pass on CPU.
        x = nn.relu(_max_pool(self._convolution("conv1", 64, kernel=11, stride=4, padding=2)(x)))
        x = nn.relu(_max_pool(self._convolution("conv2", 192, kernel=5, padding=2)(x)))
        x = nn.relu(self._convolution("conv3", 384)(x))
        x = nn.relu(self._convolution("conv4", 256)(x))
        x = nn.relu(_max_pool(self._convolution("conv5", 256)(x)))
        x = adaptive_average_pool(x, POOLED)
        x = x.reshape(len(x), -1)
        x = self._linear("fc6", x, train, shard)
        if self.tap == "fc6":
            return x
        x = nn.relu(x)
        if self.tap == "fc6_relu":
            return x
        x = self._linear("fc7", x, train, shard)
        return x if self.tap == "fc7" else nn.relu(x)

    def _convolution(
        self, name: str, filters: int, kernel: int = 3, stride: int = 1, padding: int = 1
    ) -> nn.Conv:
        return nn.Conv(
            scaled(filters, self.width),
            (kernel, kernel),
            (stride, stride),
            padding=padding,
            kernel_init=he_normal,
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name=name,
        )

    def _linear(self, name: str, x: jax.Array, train: bool, shard: BatchShard | None) -> jax.Array:
        x = Dropout(self.dropout if train else 0.0)(x, shard)
        return nn.Dense(scaled(4096, self.width), kernel_init=he_normal, dtype=self.dtype, name=name)(x)


def scaled(units: int, width: float) -> int:
    """Units of a layer at a width multiplier, at least 1."""
    return max(1, round(units * width))


def adaptive_average_pool(x: Float[Array, "B h w C"], size: int) -> Float[Array, "B s s C"]:
    """Average pooling to ``size x size`` from any size, larger or smaller, as torch's AdaptiveAvgPool2d.

    Output cell i is the mean of rows floor(i h / size) to ceil((i + 1) h / size); nothing to do where the
    input is of that size already (at 224 pixels).

    Example:
      >>> adaptive_average_pool(jnp.arange(4.0).reshape(1, 2, 2, 1), 1).tolist()
      [[[[1.5]]]]
    """
    height, width = x.shape[1:3]
    if height == width == size:
        return x
    rows, columns = (jnp.asarray(_pooling_matrix(n, size), x.dtype) for n in (height, width))
    # Highest precision: it is a mean, and costs nothing beside the convolutions.
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=jax.lax.Precision.HIGHEST)


def _pooling_matrix(length: int, size: int) -> np.ndarray:
    """Row i averages the inputs of output cell i, [size, length]."""
    matrix = np.zeros((size, length))
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _max_pool(x: jax.Array) -> jax.Array:
    """3 x 3 maximum, stride 2, as an elementwise maximum of nine strided slices.

    On CPU the backward pass of XLA's window reduction (select-and-scatter) is slower than that of these
    slices. Where maxima tie they share the gradient.
    """
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    slices = (
        x[:, row : row + 2 * height - 1 : 2, column : column + 2 * width - 1 : 2]
        for row in range(3)
        for column in range(3)
    )
    pooled = next(slices)
    for other in slices:
        pooled = jnp.maximum(pooled, other)
    return pooled
