"""A backbone that compiles in no time, for tests of what is around a network."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gradrev_jax.models.batch_norm import BatchNorm
from gradrev_jax.models.dropout import Dropout


class LeftColour(nn.Module):
    """Two dense layers over the mean colours of an image's quarters on the left, which a flip changes."""

    tap: str
    width: float
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, images, train=False, shard=None):
        height, width = (size // 2 for size in images.shape[1:3])
        quarters = [
            rows.mean(axis=(1, 2)) for rows in (images[:, :height, :width], images[:, height:, :width])
        ]
        x = nn.Dense(16, dtype=self.dtype)(jnp.concatenate(quarters, axis=1).astype(self.dtype))
        x = Dropout(self.dropout if train else 0.0)(nn.relu(x), shard)
        return nn.relu(nn.Dense(16, dtype=self.dtype)(x)) if self.tap.endswith("relu") else x


class NormedColour(nn.Module):
    """A convolution, batch normalisation over images and positions, and the mean over these."""

    tap: str
    width: float
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, images, train=False, shard=None):
        x = nn.Conv(8, (8, 8), strides=8, dtype=self.dtype, name="convolution")(images.astype(self.dtype))
        x = BatchNorm(momentum=0.5, dtype=self.dtype, name="norm")(x, train, shard)
        return Dropout(self.dropout if train else 0.0)(nn.relu(x).mean(axis=(1, 2)), shard)
