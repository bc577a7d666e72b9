"""From uint8 pixels to what the network reads; runs on the device, inside the jitted step."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from gradrev_jax.models.shards import BatchShard, own_part

# Mean and standard deviation of ImageNet's RGB channels, as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: UInt8[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B S S 3"]:
    """Scale to [0, 1], subtract ImageNet's mean and divide by its standard deviation.

    Raises:
      ValueError: images that are not uint8, as those that are normalised already, or not RGB.

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
    """Mirror each image left to right with probability one half.

    Args:
      key: of the whole batch.
      images: uint8 [B, S, S, 3].
      shard: which part of the batch they are; None: all of it.

    Example:
      >>> random_flip(jax.random.key(0), jnp.zeros((2, 4, 4, 3), jnp.uint8)).shape
      (2, 4, 4, 3)
    """
    size = len(images) if shard is None else shard.size
    mirrored = own_part(jax.random.bernoulli(key, 0.5, (size, 1, 1, 1)), shard)
    return jnp.where(mirrored, images[:, :, ::-1], images)
