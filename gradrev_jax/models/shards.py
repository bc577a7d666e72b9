"""Shards of a batch, so that a step computes the same on any number of devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

AXIS = "batch"  # the axis of a device mesh along which a batch is sharded


class BatchShard(NamedTuple):
    """The part of a step's batch that one device holds.

    Losses, flips and dropout are computed for the whole batch. Each device draws the random numbers of all
    images and takes those of its own. Outputs are gathered before the loss, so the loss is the same function
    on one device and on many, even if it compares images with each other (the ratio of averages in Eq. 5, or
    triplets mined in the batch).

    Attributes:
      rows: the row of each image in the batch, [b]; rows from ``size`` on are padding.
      size: the number of images in the batch.
      axis: the axis of ``jax.pmap`` or ``jax.shard_map`` over which the batch is sharded; None: this device
        holds the whole batch.

    Example:
      >>> padded = BatchShard(jnp.arange(4), size=3)
      >>> own_part(jnp.array([1, 0, 1]), padded).shape, whole_batch(jnp.zeros((4, 2)), padded).shape
      ((4,), (3, 2))
    """

    rows: Int[Array, " b"]
    size: int
    axis: str | None = None


def own_part(values: Array, shard: BatchShard | None) -> Array:
    """Returns the rows of a shard's images in values for the whole batch; those of padding are arbitrary.

    Args:
      values: the values for the whole batch, [B, ...].
      shard: the part of the batch; None: the whole batch.
    """
    return values if shard is None else values[jnp.minimum(shard.rows, shard.size - 1)]


def whole_batch(outputs: Any, shard: BatchShard | None) -> Any:
    """Gathers the outputs of all shards, without padding.

    It is differentiable. If every device computes the loss of the whole batch, each device's gradient is its
    share times the number of devices, so that ``pmean`` gives the full gradient.

    Args:
      outputs: a tree of the outputs for a shard's images, [b, ...].
      shard: the part of the batch; None: the whole batch.

    Returns:
      A tree of the outputs for the batch, [B, ...].
    """
    if shard is None:
        return outputs

    def gather(leaf: Array) -> Array:
        if shard.axis:
            leaf = jax.lax.all_gather(leaf, shard.axis, tiled=True)
        return leaf[: shard.size]

    return jax.tree.map(gather, outputs)
