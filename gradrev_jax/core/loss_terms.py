"""Additional terms of the encoder's loss, each switched on by a weight of its own.

To add a term, write a function of ``TermInputs`` and name it in ``TERMS``; docs/extending.md has an example.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.triplet_losses import attribute_triplet_loss, semi_hard_triplet_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient


class TermInputs(NamedTuple):
    """Represents the inputs of a term; all arrays are of the whole batch.

    Attributes:
      features: [B, N, d], the features of all attributes.
      logits: [B, N, J], the logits of every classifier, read from every feature.
      labels: [B, N], -1 = not labelled.
      schema: the attributes.
      triplet_margin: the margin of triplet losses, in squared distance.
    """

    features: Float[Array, "B N d"]
    logits: Float[Array, "B N J"]
    labels: Int[Array, "B N"]
    schema: AttributeSchema
    triplet_margin: float


class LossTerm(NamedTuple):
    """One term.

    Attributes:
      meaning: the sentence that describes its weight, for the reference of the config fields.
      loss: computes the term, a scalar, from a batch.
    """

    meaning: str
    loss: Callable[[TermInputs], Float[Array, ""]]


def attribute_triplets(inputs: TermInputs) -> Float[Array, ""]:
    """Computes the semi-hard triplet loss on the feature of each attribute, by its own labels (ADDE-M)."""
    return attribute_triplet_loss(inputs.features, inputs.labels, margin=inputs.triplet_margin)


def label_triplets(inputs: TermInputs) -> Float[Array, ""]:
    """Computes the semi-hard triplet loss on the whole feature, by all labels together (ADDE-M)."""
    whole = unit_with_safe_gradient(inputs.features.reshape(len(inputs.labels), -1))
    return semi_hard_triplet_loss(whole, inputs.labels, margin=inputs.triplet_margin)


# A term is weighted by the config field train.NAME_weight and logged as loss_NAME.
TERMS: dict[str, LossTerm] = {
    "attribute_triplet": LossTerm(
        "Weight of the semi-hard triplet loss within each attribute; ADDE-M has 0.2.", attribute_triplets
    ),
    "label_triplet": LossTerm(
        "Weight of the semi-hard triplet loss on the whole feature; ADDE-M has 1.", label_triplets
    ),
}
