"""A backbone of no layers, for vectors that another network has computed."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.statistics import STATISTICS

TAPS = ("standardized", "raw")
LEAST_STD = 1e-6  # a number that is the same in all vectors is not divided


class Embeddings(nn.Module):
    """Stands in for a backbone whose features were computed before: standardises them, and applies dropout.

    The mean and the standard deviation of each number are statistics, not parameters. Without a caller who
    sets them (see ``training.stages``), they are 0 and 1.

    Attributes:
      tap: ``standardized``: each number less its mean, divided by its standard deviation; ``raw``: as it is.
      width: has no meaning here, and must be 1.
      dropout: the dropout rate of the vectors.
      dtype: the dtype of the computation.

    Raises:
      ValueError: the tap is unknown, or the width is not 1.

    Example:
      >>> import jax
      >>> Embeddings().init_with_output(jax.random.key(0), jnp.ones((4, 8)))[0].shape
      (4, 8)
    """

    tap: str = "standardized"
    width: float = 1.0
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Float[Array, "B D"], train: bool = False, shard: BatchShard | None = None
    ) -> Float[Array, "B D"]:
        """Computes the features of a batch.

        Args:
          vectors: the vectors, [B, D].
          train: whether dropout is active; it needs the ``dropout`` rng.
          shard: the part of a batch that the vectors are, for dropout; None: the whole batch.
        """
        if self.tap not in TAPS:
            raise ValueError(f"tap must be one of {', '.join(TAPS)}, got {self.tap!r}")
        if self.width != 1:
            raise ValueError(f"embeddings have a width of their own: width must be 1, got {self.width}")
        size = vectors.shape[-1:]
        mean = self.variable(STATISTICS, "mean", jnp.zeros, size)
        std = self.variable(STATISTICS, "std", jnp.ones, size)
        x = vectors
        if self.tap == "standardized":
            x = (vectors - mean.value) / jnp.maximum(std.value, LEAST_STD)
        return Dropout(self.dropout if train else 0.0)(x.astype(self.dtype), shard)
