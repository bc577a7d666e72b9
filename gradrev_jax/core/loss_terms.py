"""Additional terms of the encoder's loss, each switched on by a weight of its own.

To add a term, write a function of ``TermInputs`` and name it in ``TERMS``; docs/extending.md has an example.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.conditional_dependence import ExpectedLabels, conditional_dependence
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
      cosine_scale: the factor between the cosines of unit features and ``logits``; None: they are no cosines.
      expected: what the training labels tell of each other; None: it is not known.
    """

    features: Float[Array, "B N d"]
    logits: Float[Array, "B N J"]
    labels: Int[Array, "B N"]
    schema: AttributeSchema
    triplet_margin: float
    cosine_scale: float | None = None
    expected: ExpectedLabels | None = None


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


def compactness(inputs: TermInputs) -> Float[Array, ""]:
    r"""Computes the distances of unit features from the weights of their own labels, summed over attributes.

    .. math::
        \sum_n \operatorname{mean}_{b: y_{bn} \ne -1} |\hat f_{bn} - \hat w_{y_{bn}}|^2

    Of unit vectors this is 2 - 2 cos, and the cosine is the logit divided by its scale. Summed like L_cls, so
    that its share does not depend on the number of attributes. An attribute without labels in the batch
    counts 0.

    Args:
      inputs: the batch; ``cosine_scale`` is set.

    Raises:
      ValueError: logits that are no cosines.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> logits = 20 * jnp.array([[[1.0, 0.0]], [[0.5, 0.0]], [[0.0, -1.0]]])
      >>> labels = jnp.array([[0], [0], [-1]])
      >>> batch = TermInputs(jnp.zeros((3, 1, 2)), logits, labels, schema, 0.5, cosine_scale=20.0)
      >>> float(compactness(batch))  # the mean of 0 and 1
      0.5
    """
    if inputs.cosine_scale is None:
        raise ValueError("compactness needs cosines: set unit_features of the encoder")
    schema, labels = inputs.schema, jnp.asarray(sanitize_labels(inputs.labels, inputs.schema))
    own = (inputs.logits * schema.one_hot(labels)[:, None] * schema.membership.T).sum(axis=-1)
    labelled = labels != NOT_LABELLED
    squares = jnp.where(labelled, 2 - 2 * own / inputs.cosine_scale, 0.0)
    return (squares.sum(axis=0) / jnp.maximum(labelled.sum(axis=0), 1)).sum()


def dependence(inputs: TermInputs) -> Float[Array, ""]:
    """Computes the dependence of features on other labels, given their own (CIRCE).

    Raises:
      ValueError: what labels tell of each other is not known.
    """
    if inputs.expected is None:
        raise ValueError("conditional_dependence needs what the training labels tell of each other")
    return conditional_dependence(inputs.features, inputs.labels, inputs.expected, inputs.schema)


# A term is weighted by the config field train.NAME_weight and logged as loss_NAME.
TERMS: dict[str, LossTerm] = {
    "attribute_triplet": LossTerm(
        "Weight of the semi-hard triplet loss within each attribute; ADDE-M has 0.2.", attribute_triplets
    ),
    "label_triplet": LossTerm(
        "Weight of the semi-hard triplet loss on the whole feature; ADDE-M has 1.", label_triplets
    ),
    "compactness": LossTerm(
        "Weight of the squared distances between unit features and their labels' classifiers.", compactness
    ),
    "conditional_dependence": LossTerm(
        "Weight of the features' dependence on other attributes' labels, given their own (CIRCE).", dependence
    ),
}


def weighted_terms(inputs: TermInputs, weights: Mapping[str, float]) -> dict[str, Float[Array, ""]]:
    """Computes the terms that have a weight, without their weights.

    Args:
      inputs: the batch.
      weights: the weights, by the terms' names; those of 0 are left out.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> batch = TermInputs(jnp.eye(2)[:, None], jnp.zeros((2, 1, 2)), jnp.array([[0], [1]]), schema, 0.5)
      >>> list(weighted_terms(batch, {"attribute_triplet": 0.2, "label_triplet": 0.0}))
      ['attribute_triplet']
    """
    return {name: TERMS[name].loss(inputs) for name, weight in weights.items() if weight}
