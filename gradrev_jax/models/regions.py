"""Regions of an image that a model looks at."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema


class Regions(NamedTuple):
    """Represents where a model looks in a batch of images.

    Attributes:
      logits: the logits of the localising classifiers, which read the whole image, [B, J].
      predicted: the value of each attribute with the largest logit, [B, N].
      maps: the activation map of that value, [B, N, h, w].
      boxes: the box of each map, in its cells, see ``attention_boxes``, [B, N, 4].
    """

    logits: Float[Array, "B J"]
    predicted: Int[Array, "B N"]
    maps: Float[Array, "B N h w"]
    boxes: Int[Array, "B N 4"]


@runtime_checkable
class Localizes(Protocol):
    """Represents an encoder that tells where in an image it looks for each attribute."""

    schema: AttributeSchema

    def regions(self, images: Float[Array, "B S S 3"]) -> Regions:
        """Computes where each attribute is read in a batch of normalised images [B, S, S, 3]."""
        ...
