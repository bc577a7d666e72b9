"""Turns pixels, or stored vectors, into the network's inputs, on the device and inside the jitted step."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from gradrev_jax.models.shards import BatchShard, own_part

# Mean and standard deviation of ImageNet's RGB channels, as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class Rows(Protocol):
    """The inputs of M items, of which batches are read by row: an array, or a file that stays on the disk.

    Pixels are uint8 [M, S, S, 3]. Vectors are float32 [M, V, D], with V views of each item, such as an image
    and its mirror image.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of items, and the shape of each."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the batches."""
        ...

    def __len__(self) -> int:
        """Returns the number of items."""
        ...

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns the inputs of some items, given by a slice or an array of integers."""
        ...


@dataclasses.dataclass(frozen=True)
class PixelInputs:
    """Represents the inputs of a network that sees images.

    Attributes:
      smallest: the smallest number of rows, and of columns, of an image.
      mean: the mean of each channel that is subtracted from pixels in [0, 1].
      std: the standard deviation of each channel that they are divided by.

    Example:
      >>> PixelInputs(smallest=63).normalize(np.zeros((1, 64, 64, 3), np.uint8)).shape
      (1, 64, 64, 3)
    """

    smallest: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def normalize(self, batch: UInt8[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B S S 3"]:
        """Returns the inputs that the network is called with, see ``normalize_images``."""
        return normalize_images(batch, self.mean, self.std)

    def augment(
        self, key: PRNGKeyArray, batch: UInt8[Array, "B S S 3"], shard: BatchShard | None
    ) -> UInt8[Array, "B S S 3"]:
        """Mirrors images at random, see ``random_flip``."""
        return random_flip(key, batch, shard)

    def example(self, size: int) -> Float[Array, "1 S S 3"]:
        """Returns an input of one image of ``size`` x ``size`` pixels, for initialisers."""
        return jnp.zeros((1, size, size, 3))

    def size_of(self, items: Rows) -> int:
        """Returns the height and width of items, see ``example``."""
        return items.shape[1]

    def check(self, inputs: Array) -> None:
        """Raises a ValueError unless an array can be the network's input, see ``check_images``."""
        check_images(inputs, smallest=self.smallest)


@dataclasses.dataclass(frozen=True)
class VectorInputs:
    """Represents the inputs of a network that reads vectors which another network has computed.

    Example:
      >>> VectorInputs().normalize(np.zeros((2, 1, 8), np.float32)).shape
      (2, 8)
    """

    def normalize(self, batch: Float[Array | np.ndarray, "B V D"]) -> Float[Array, "B D"]:
        """Returns the first view of each item, which is that of the image as it is."""
        return jnp.asarray(batch)[:, 0]

    def augment(
        self, key: PRNGKeyArray, batch: Float[Array, "B V D"], shard: BatchShard | None
    ) -> Float[Array, "B 1 D"]:
        """Returns one view of each item, drawn at random as ``random_flip`` draws images.

        Args:
          key: the random key of the whole batch.
          batch: one or two views of each item, [B, V, D].
          shard: the part of the batch that the items are; None: the whole batch.
        """
        if batch.shape[1] == 1:
            return batch
        return jnp.where(_is_mirrored(key, len(batch), shard)[:, None, None], batch[:, 1:2], batch[:, :1])

    def example(self, size: int) -> Float[Array, "1 D"]:
        """Returns an input of one vector of ``size`` numbers, for initialisers."""
        return jnp.zeros((1, size))

    def size_of(self, items: Rows) -> int:
        """Returns how many numbers the vectors of items have, see ``example``."""
        return items.shape[-1]

    def check(self, inputs: Array) -> None:
        """Raises a ValueError unless an array is a batch of vectors, [B, D], of floating-point numbers."""
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(f"vectors must be floating-point [B, D], got {inputs.dtype} {inputs.shape}")


def normalize_images(
    images: UInt8[Array | np.ndarray, "B S S 3"],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Float[Array, "B S S 3"]:
    """Scales pixels to [0, 1], subtracts a mean and divides by a standard deviation, ImageNet's by default.

    Args:
      images: uint8 pixels, [B, S, S, 3].
      mean: the mean of each channel.
      std: the standard deviation of each channel.

    Raises:
      ValueError: the images are not uint8, for example because they are normalised already, or not RGB.

    Example:
      >>> white = normalize_images(np.full((1, 1, 1, 3), 255, np.uint8))
      >>> print(np.asarray(white).round(2))
      [[[[2.25 2.43 2.64]]]]
    """
    if images.dtype != np.uint8 or images.shape[-1:] != (3,):
        raise ValueError(f"images must be uint8 [B, S, S, 3], got {images.dtype} {images.shape}")
    scaled = jnp.asarray(images).astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean)) / jnp.asarray(std)


def random_flip(
    key: PRNGKeyArray, images: UInt8[Array, "B S S 3"], shard: BatchShard | None = None
) -> UInt8[Array, "B S S 3"]:
    """Mirrors each image left to right with probability one half.

    Args:
      key: the random key of the whole batch.
      images: uint8 pixels, [B, S, S, 3].
      shard: the part of the batch that the images are; None: the whole batch.

    Example:
      >>> random_flip(jax.random.key(0), jnp.zeros((2, 4, 4, 3), jnp.uint8)).shape
      (2, 4, 4, 3)
    """
    mirrored = _is_mirrored(key, len(images), shard)[:, None, None, None]
    return jnp.where(mirrored, images[:, :, ::-1], images)


def _is_mirrored(key: PRNGKeyArray, count: int, shard: BatchShard | None) -> Bool[Array, " B"]:
    """Draws whether each item of a batch, or of a shard of it, is mirrored."""
    size = count if shard is None else shard.size
    return own_part(jax.random.bernoulli(key, 0.5, (size,)), shard)


def check_images(images: Array, *, smallest: int) -> None:
    """Checks that an array is a batch of normalised RGB images that are large enough for a backbone.

    Args:
      images: the array, [B, S, S, 3].
      smallest: the smallest number of rows, and of columns.

    Raises:
      ValueError: it is not.

    Example:
      >>> check_images(jnp.zeros((1, 32, 32, 3)), smallest=63)
      Traceback (most recent call last):
      ValueError: images must be at least 63 x 63 pixels, got 32 x 32; resize them
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images must be [B, S, S, 3], got {images.shape}; give a single image as images[None]"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be normalised (see normalize_images), got {images.dtype}")
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"images must be at least {smallest} x {smallest} pixels, got {height} x {width}; resize them"
        )
