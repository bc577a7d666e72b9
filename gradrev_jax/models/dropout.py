"""Dropout that does not depend on how many devices a batch is spread over."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gradrev_jax.models.shards import BatchShard, own_part


class Dropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, as ``flax.linen.Dropout`` draws it on one device.

    Attributes:
      rate: share of the inputs that become 0, in [0, 1); the others grow by 1 / (1 - rate).

    Example:
      >>> x = jnp.ones((2, 3))
      >>> float(Dropout(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)}).max())
      2.0
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b H"], shard: BatchShard | None = None) -> Float[Array, "b H"]:
        """Drop out.

        Args:
          x: [b, H]; needs the ``dropout`` rng where the rate is not 0.
          shard: which part of the batch these are; None: all of it.
        """
        if not self.rate:
            return x
        keep = 1.0 - self.rate
        size = len(x) if shard is None else shard.size
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (size, x.shape[1]))
        return jnp.where(own_part(kept, shard), x / keep, 0)
