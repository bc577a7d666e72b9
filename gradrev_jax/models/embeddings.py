"""Defines a backbone without layers, for vectors that another network has computed."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import STATISTICS

TAPS = ("scaled", "standardized", "raw", "balanced")
LEAST_STD = 1e-6  # lower bound of a divisor, for numbers that are the same in all vectors
# Root mean square of the numbers of scaled vectors. With larger ones, features keep more of a vector besides
# their attribute, and retrieval suffers; docs/results.md has the measurements.
SCALE = 0.1
READ_AT_ONCE = 4096  # vectors


class Embeddings(nn.Module):
    """Stands in for a backbone whose features were computed before: scales them, and applies dropout.

    The mean and the standard deviation of each number are statistics, not parameters. They are 0 and 1 until
    the caller sets them, see ``vector_statistics``.

    Attributes:
      tap: ``scaled``: each number minus its mean, times one factor for all, so that their root mean square is
        0.1; ``standardized``: each number minus its mean, divided by its standard deviation; ``balanced``: a
        tenth of that, which is as large as ``scaled``, for numbers that differ in size; ``raw``: unchanged.
      width: must be 1; there is nothing to widen.
      dropout: the dropout rate of the vectors.
      dtype: the dtype of the computation.

    Raises:
      ValueError: the tap is unknown, or the width is not 1.

    Example:
      >>> import jax
      >>> Embeddings().init_with_output(jax.random.key(0), jnp.ones((4, 8)))[0].shape
      (4, 8)
    """

    tap: str = "scaled"
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
        if self.tap in ("standardized", "balanced"):
            x = (vectors - mean.value) / jnp.maximum(std.value, LEAST_STD)
            x = x * SCALE if self.tap == "balanced" else x
        elif self.tap == "scaled":
            root_mean_square = jnp.sqrt(jnp.square(std.value).mean())
            x = (vectors - mean.value) * (SCALE / jnp.maximum(root_mean_square, LEAST_STD))
        return Dropout(self.dropout if train else 0.0)(x.astype(self.dtype), shard)


def vector_statistics(vectors: Rows) -> dict[str, Float[np.ndarray, " D"]]:
    """Returns the mean and the standard deviation of each number over all vectors, read a few at a time.

    Args:
      vectors: the vectors of the training images, of which the first view counts.

    Example:
      >>> vector_statistics(np.array([[[1.0, 5.0]], [[3.0, 5.0]]], np.float32))
      {'mean': array([2., 5.], dtype=float32), 'std': array([1., 0.], dtype=float32)}
    """
    # Sums of differences from one of the vectors, because those of squares of large numbers would cancel.
    origin = vectors[0:1][0, 0].astype(np.float64)
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for start in range(0, len(vectors), READ_AT_ONCE):
        differences = vectors[start : start + READ_AT_ONCE][:, 0] - origin
        total += differences.sum(axis=0)
        squares += np.square(differences).sum(axis=0)
    mean = total / len(vectors)
    variance = np.maximum(squares / len(vectors) - mean**2, 0)
    return {"mean": (origin + mean).astype(np.float32), "std": np.sqrt(variance).astype(np.float32)}
