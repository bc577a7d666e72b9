"""What part of a batch an array of images is, so that a step computes the same on any number of devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

AXIS = "batch"  # of a mesh, along which a batch is split over devices


class BatchShard(NamedTuple):
    """Where a device's images stand in the batch that a step is about.

    Losses, flips and dropout are those of the whole batch. Random numbers are drawn for all its images, of
    which each device takes its own; outputs are brought together before the loss, which is then one and the
    same function on one device and on many, whatever it compares with what (Eq. 5's ratio of averages, or
    triplets mined across the batch).

    Attributes:
      rows: [b], which image of the batch each is; from ``size`` on they are padding.
      size: images in the batch.
      axis: of ``jax.pmap`` or ``jax.shard_map``, over which the other images lie; None: all are here.

    Example:
      >>> padded = BatchShard(jnp.arange(4), size=3)
      >>> own_part(jnp.array([1, 0, 1]), padded).shape, whole_batch(jnp.zeros((4, 2)), padded).shape
      ((4,), (3, 2))
    """

    rows: Int[Array, " b"]
    size: int
    axis: str | None = None


def own_part(values: Array, shard: BatchShard | None) -> Array:
    """Of values for the whole batch [B, ...], those of a shard's images; any for padding."""
    return values if shard is None else values[jnp.minimum(shard.rows, shard.size - 1)]


def whole_batch(outputs: Any, shard: BatchShard | None) -> Any:
    """From outputs for a shard's images [b, ...] to those of the batch [B, ...], without padding.

    Differentiable: over an axis, each device's gradient of a loss of the whole batch comes to as many times
    its share as there are devices, and their mean is the gradient.
    """
    if shard is None:
        return outputs

    def gather(leaf: Array) -> Array:
        if shard.axis:
            leaf = jax.lax.all_gather(leaf, shard.axis, tiled=True)
        return leaf[: shard.size]

    return jax.tree.map(gather, outputs)
