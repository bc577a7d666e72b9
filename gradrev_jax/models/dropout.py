"""Dropout whose mask does not depend on the number of devices that a batch is sharded over."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gradrev_jax.models.shards import BatchShard, own_part


class Dropout(nn.Module):
    """Dropout with a mask for the whole batch, the one that ``flax.linen.Dropout`` draws on one device.

    Attributes:
      rate: the fraction of the inputs to set to zero, in [0, 1); the others are divided by 1 - rate.

    Example:
      >>> x = jnp.ones((2, 3))
      >>> float(Dropout(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)}).max())
      2.0
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b H"], shard: BatchShard | None = None) -> Float[Array, "b H"]:
        """Applies dropout; it needs the ``dropout`` rng unless the rate is 0.

        Args:
          x: the inputs, [b, H].
          shard: the part of the batch that the inputs are; None: the whole batch.
        """
        if not self.rate:
            return x
        keep = 1.0 - self.rate
        size = len(x) if shard is None else shard.size
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (size, x.shape[1]))
        return jnp.where(own_part(kept, shard), x / keep, 0)
