"""Classifiers of the whole image whose weights tell where in the image they look."""

from typing import NamedTuple

import flax.linen as nn
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attention_boxes import activation_maps
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.alexnet import convolution


class Seen(NamedTuple):
    """Represents what the localising classifiers read in a batch.

    Attributes:
      mean: the mean of the last convolution's map, [B, H].
      logits: the logits, [B, J].
      predicted: the value of each attribute with the largest logit, [B, N].
      maps: the activation map of each attribute's predicted value, [B, N, h, w].
    """

    mean: Float[Array, "B H"]
    logits: Float[Array, "B J"]
    predicted: Int[Array, "B N"]
    maps: Float[Array, "B N h w"]


class Localization(nn.Module):
    """Two convolutions, the mean of their map, and classifiers, whose weights tell where they look.

    Attributes:
      schema: the attributes, with their classes as values.
      width: the factor of the numbers of filters.
      dtype: the dtype of the computation.
    """

    schema: AttributeSchema
    width: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, maps: Float[Array, "B h w C"]) -> Seen:
        """Computes the logits, and the activation map of each attribute's value of the largest logit."""
        x = nn.relu(convolution("conv6", 512, self.width, self.dtype)(maps))
        x = nn.relu(convolution("conv7", 1024, self.width, self.dtype)(x))
        mean = x.mean(axis=(1, 2))
        shape = x.shape[-1], self.schema.num_values
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(self.dtype)
        logits = mean @ kernel + self.param("bias", nn.initializers.zeros, shape[1:]).astype(self.dtype)
        predicted = self.schema.likeliest(logits)
        maps = activation_maps(x, kernel, predicted + np.asarray(self.schema.offsets))
        return Seen(mean, logits, predicted, maps)
