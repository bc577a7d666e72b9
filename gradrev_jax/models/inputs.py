"""Turns uint8 pixels into the network's inputs, on the device and inside the jitted step."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from gradrev_jax.models.shards import BatchShard, own_part

# Mean and standard deviation of ImageNet's RGB channels, as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: UInt8[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B S S 3"]:
    """Scales pixels to [0, 1], subtracts ImageNet's mean and divides by its standard deviation.

    Args:
      images: uint8 pixels, [B, S, S, 3].

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
    return (scaled - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)


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
    size = len(images) if shard is None else shard.size
    mirrored = own_part(jax.random.bernoulli(key, 0.5, (size, 1, 1, 1)), shard)
    return jnp.where(mirrored, images[:, :, ::-1], images)


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
