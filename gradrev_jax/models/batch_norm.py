"""Batch normalisation whose statistics do not depend on how many devices a batch is sharded over."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import STATISTICS


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, with the statistics of the batch or with running ones.

    In training it uses the mean and the variance of the whole batch, and moves the running ones towards them,
    if the caller makes the collection ``batch_stats`` mutable. A caller freezes the statistics by leaving the
    collection immutable: then training uses the running ones, as inference does.

    As in PyTorch and in TensorFlow's fused layer, the batch is divided by its own deviation (that of N
    numbers), while the running variance moves towards the unbiased estimate (that of N - 1).

    Attributes:
      momentum: the fraction of the running statistics that a step keeps, TensorFlow's convention; PyTorch's
        ``momentum`` is 1 minus this.
      epsilon: the number that is added to a variance.
      dtype: the dtype of the result; statistics are computed in float32, or in a wider ``dtype``.

    Example:
      >>> x = jnp.array([[1.0], [3.0]])
      >>> norm = BatchNorm(momentum=0.9, epsilon=0.0)
      >>> variables = norm.init(jax.random.key(0), x)
      >>> y, changed = norm.apply(variables, x, train=True, mutable=["batch_stats"])
      >>> y.tolist(), jax.tree.map(lambda leaf: round(leaf.item(), 3), changed["batch_stats"])
      ([[-1.0], [1.0]], {'mean': 0.2, 'var': 1.1})
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions C"], train: bool = False, shard: BatchShard | None = None
    ) -> Float[Array, "b *positions C"]:
        """Normalises each channel over the batch and all positions.

        Args:
          x: the inputs, [b, ..., C].
          train: whether the batch's statistics are used, if ``batch_stats`` is mutable.
          shard: the part of a batch that the inputs are; None: the whole batch.
        """
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable(STATISTICS, "mean", jnp.zeros, channels)
        running_var = self.variable(STATISTICS, "var", jnp.ones, channels)
        precise = jnp.promote_types(self.dtype, jnp.float32)
        x = x.astype(precise)
        mean, var = running_mean.value, running_var.value
        if train and self.is_mutable_collection(STATISTICS) and not self.is_initializing():
            mean, var, count = batch_statistics(x, shard)
            unbiased = var * (count / max(count - 1, 1))
            for running, new in ((running_mean, mean), (running_var, unbiased)):
                moved = self.momentum * running.value + (1 - self.momentum) * jax.lax.stop_gradient(new)
                running.value = moved.astype(running.value.dtype)
        # One factor and one offset per channel, so that XLA makes this a part of the operation around it.
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        return (x * factor.astype(precise) + offset.astype(precise)).astype(self.dtype)


def batch_statistics(
    x: Float[Array, "b *positions C"], shard: BatchShard | None = None
) -> tuple[Float[Array, " C"], Float[Array, " C"], int]:
    """Returns the mean and the variance of each channel in the whole batch, and how many numbers they are of.

    It is differentiable; of the gradients of several devices, ``pmean`` gives the full one, as for
    ``whole_batch``. The variance is the mean square of the deviations, and not a difference of squares, which
    would lose its digits where the mean is large.

    Args:
      x: the numbers of a shard's images, [b, ..., C].
      shard: the part of the batch, whose padding is left out; None: the whole batch.

    Example:
      >>> mean, var, count = batch_statistics(jnp.array([[1.0], [3.0], [9.0]]), BatchShard(jnp.arange(3), 2))
      >>> mean.tolist(), var.tolist(), count
      ([2.0], [1.0], 2)
    """
    axes = tuple(range(x.ndim - 1))
    images = len(x) if shard is None else shard.size
    count = images * math.prod(x.shape[1:-1])

    def mean_of(values: Array) -> Array:
        if shard is not None:
            is_image = (shard.rows < shard.size).reshape(-1, *(1,) * (x.ndim - 1))
            values = jnp.where(is_image, values, 0)
        total = values.sum(axis=axes)
        if shard is not None and shard.axis:
            total = jax.lax.psum(total, shard.axis)
        return total / count

    mean = mean_of(x)
    return mean, mean_of(jnp.square(x - mean)), count
