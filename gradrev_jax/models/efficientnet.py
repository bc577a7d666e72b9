"""EfficientNet-Lite0, with images in NHWC (Tan and Le, 2019: "EfficientNet")."""

import math
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.models.alexnet import scaled
from gradrev_jax.models.batch_norm import BatchNorm
from gradrev_jax.models.depthwise import LAYOUT, Padding, depthwise_convolve, shifted_slices
from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import check_images
from gradrev_jax.models.shards import BatchShard

TAPS = ("pooled", "levels")
UNEVEN_TAPS = ("levels",)
# Pixels per side, of which five layers of stride 2 leave a single position. Smaller images could be computed,
# because they are padded, but the last of these layers would then halve a single position.
SMALLEST_IMAGE = 32
# Normalisation of the published weights, TensorFlow's (pixel - 127) / 128. With ImageNet's mean and standard
# deviation, which the PyTorch package shows, fewer photographs are named right, and less confidently.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
STEM, HEAD = 32, 1280  # filters


class Stage(NamedTuple):
    """Represents blocks of one size that follow each other.

    Attributes:
      repeats: the number of blocks.
      kernel: the size of their depthwise kernels.
      stride: the stride of the first block; that of the others is 1.
      expansion: the factor of the channels inside a block.
      filters: the number of channels that each block returns.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its pooled features.

    A convolution of stride 2, 16 inverted residual blocks with ReLU6 and without squeeze-and-excitation, a
    1 x 1 convolution, and the mean over all positions. Blocks are not dropped at random in training.

    Attributes:
      tap: the features: ``pooled``, the means of the last layer over all positions; or ``levels``, the means
        of the first convolution, of each stage and of the last layer, concatenated. The earlier layers hold
        colours and textures that the last one no longer does.
      width: the factor of all numbers of filters; 1 gives EfficientNet-Lite0.
      dropout: the dropout rate of the features.
      dtype: the dtype of the computation; parameters are float32.
      pixels_at_once: the number of pixels of the images that a CPU processes at once in inference; 0: the
        whole batch.

    Raises:
      ValueError: the tap is unknown, the images are not a batch of normalised RGB images, or they are smaller
        than 32 x 32 pixels.

    Example:
      >>> images = jnp.zeros((1, 32, 32, 3))
      >>> network = EfficientNetLite0(width=0.125)
      >>> jax.eval_shape(network.init_with_output, jax.random.key(0), images)[0].shape
      (1, 160)
    """

    tap: str = "pooled"
    width: float = 1.0
    dropout: float = 0.2
    dtype: DTypeLike = jnp.float32
    pixels_at_once: int = 2 * 224**2

    @nn.compact
    def __call__(
        self, images: Float[Array, "B S S 3"], train: bool = False, shard: BatchShard | None = None
    ) -> Float[Array, "B H"]:
        """Computes the pooled features.

        Args:
          images: normalised images, [B, S, S, 3].
          train: whether dropout is active, which needs the ``dropout`` rng; and whether batch normalisation
            uses the statistics of the batch, see ``BatchNorm``.
          shard: the part of a batch that the images are; None: the whole batch.

        Returns:
          The features, [B, 1280 * width], or of all levels, [B, 2096 * width].
        """
        if self.tap not in TAPS:
            raise ValueError(f"tap must be one of {', '.join(TAPS)}, got {self.tap!r}")
        check_images(images, smallest=SMALLEST_IMAGE)
        if self.pixels_at_once and not train and not self.is_initializing():
            return self._infer(images)
        x = images.astype(self.dtype)
        x = Convolution(scaled(STEM, self.width), dtype=self.dtype, name="stem")(x)
        x = relu6(BatchNorm(dtype=self.dtype, name="stem_norm")(x, train, shard))
        levels = [_pool(x)]
        block = 0
        for stage in STAGES:
            for repeat in range(stage.repeats):
                x = InvertedResidual(
                    stage._replace(filters=scaled(stage.filters, self.width)),
                    is_first=repeat == 0,
                    dtype=self.dtype,
                    name=f"block{block}",
                )(x, train, shard)
                block += 1
            levels.append(_pool(x))
        x = Pointwise(scaled(HEAD, self.width), dtype=self.dtype, name="head")(x)
        x = relu6(BatchNorm(dtype=self.dtype, name="head_norm")(x, train, shard))
        pooled = jnp.concatenate([*levels, _pool(x)], axis=-1) if self.tap == "levels" else _pool(x)
        return Dropout(self.dropout if train else 0.0)(pooled, shard)

    def _infer(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B H"]:
        """Computes the features of images; a CPU processes a few images at once, in a loop.

        For the maps of a whole batch, the system would have to find and to clear memory for every layer.
        """
        network = self.clone(parent=None, pixels_at_once=0)
        size = max(1, self.pixels_at_once // math.prod(images.shape[1:3]))

        def together(variables: Any, images: Array) -> Array:
            return cast(Array, network.apply(variables, images))

        def in_groups(variables: Any, images: Array) -> Array:
            count = -(-len(images) // size)
            padded = jnp.pad(images, ((0, count * size - len(images)), *((0, 0),) * 3))
            groups = padded.reshape(count, size, *images.shape[1:])
            features = lax.map(lambda group: together(variables, group), groups)
            return features.reshape(count * size, -1)[: len(images)]

        if len(images) <= size:
            return together(self.variables, images)
        return lax.platform_dependent(self.variables, images, cpu=in_groups, default=together)


class InvertedResidual(nn.Module):
    """A block that expands the channels, convolves each of them, and projects them onto few.

    Attributes:
      stage: the stage of the block.
      is_first: whether it is the first block of its stage, which has the stride and no skip connection.
      dtype: the dtype of the computation.
    """

    stage: Stage
    is_first: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool, shard: BatchShard | None
    ) -> Float[Array, "B h w F"]:
        """Computes the output of the block."""

        def norm(name: str, x: Array) -> Array:
            return BatchNorm(dtype=self.dtype, name=name)(x, train, shard)

        stage, y = self.stage, x
        if stage.expansion != 1:
            y = Pointwise(stage.expansion * x.shape[-1], self.dtype, name="expand")(y)
            y = relu6(norm("expand_norm", y))
        stride = stage.stride if self.is_first else 1
        y = Depthwise(stage.kernel, stride, self.dtype, name="depthwise")(y)
        y = relu6(norm("depthwise_norm", y))
        y = Pointwise(stage.filters, self.dtype, name="project")(y)
        y = norm("project_norm", y)
        return y if self.is_first else x + y


class Convolution(nn.Module):
    """The first convolution, 3 x 3 with stride 2 and without a bias."""

    filters: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        """Computes the convolution."""
        shape = (3, 3, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape).astype(self.dtype)
        padding = same_padding(x, 3, 2)

        def by_patches(x: Array, kernel: Array) -> Array:
            patches = jnp.concatenate(shifted_slices(x, 3, 2, padding), axis=-1)
            return patches @ kernel.reshape(-1, self.filters)

        def by_xla(x: Array, kernel: Array) -> Array:
            return lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=LAYOUT)

        # On a CPU, XLA's convolution of three channels is slow, and slower still within a loop.
        return lax.platform_dependent(x, kernel, cpu=by_patches, default=by_xla)


class Depthwise(nn.Module):
    """A convolution of each channel with its own kernel, without a bias."""

    size: int
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        """Computes the convolution."""
        shape = (self.size, self.size, x.shape[-1])
        initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=(0, 1), out_axis=())
        kernel = self.param("kernel", initializer, shape).astype(self.dtype)
        return depthwise_convolve(x, kernel, self.stride, same_padding(x, self.size, self.stride))


class Pointwise(nn.Module):
    """A 1 x 1 convolution without a bias."""

    filters: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W F"]:
        """Computes the convolution, as one product over all positions."""
        kernel = self.param("kernel", nn.initializers.he_normal(), (x.shape[-1], self.filters))
        product = x.reshape(-1, x.shape[-1]) @ kernel.astype(self.dtype)
        return product.reshape(*x.shape[:-1], self.filters)


def _pool(x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    return x.mean(axis=(1, 2))


def relu6(x: jax.Array) -> jax.Array:
    """Clips to [0, 6]. The gradient of ``jnp.clip`` is slower: it handles ties, which do not matter here."""
    return jnp.where(x > 6, 6, nn.relu(x))


def same_padding(x: Float[Array, "B H W C"], size: int, stride: int) -> Padding:
    """Returns TensorFlow's padding "SAME": the output has ceil(length / stride) rows, and columns likewise.

    If the number of zeros is odd, one more is below, or to the right.

    Args:
      x: the input.
      size: the size of the kernel.
      stride: the stride.

    Example:
      >>> same_padding(jnp.zeros((1, 32, 33, 3)), size=3, stride=2)
      ((0, 1), (1, 1))
    """
    totals = (max((-(-length // stride) - 1) * stride + size - length, 0) for length in x.shape[1:3])
    above, left = ((total // 2, total - total // 2) for total in totals)
    return above, left
