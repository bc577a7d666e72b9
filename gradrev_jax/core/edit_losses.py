"""Losses of an edit (stage 2, as in ADDE-M), on triplets of a reference, a positive and a negative.

A positive has exactly the labels that the edit of its reference asks for; a negative has others.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.losses import classification_loss
from gradrev_jax.core.memory_losses import consistency_loss, off_block_loss
from gradrev_jax.core.missing_labels import Missing, class_labels, classes_of
from gradrev_jax.core.triplet_losses import semi_hard_triplet_loss, triplet_margin_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient


class EditLosses(NamedTuple):
    """Represents the terms of the loss of an edit, without their weights.

    Attributes:
      classification: the cross-entropy of the edited features, with the labels of the positives.
      semi_hard: the semi-hard triplet loss of references, edited features and negatives.
      margin: the triplet loss with the edited features as anchors.
      consistency: the distances between features and what the memory composes of their labels.
      off_block: the sum of the memory's absolute entries outside its blocks.
    """

    classification: Float[Array, ""]
    semi_hard: Float[Array, ""]
    margin: Float[Array, ""]
    consistency: Float[Array, ""]
    off_block: Float[Array, ""]


def edit_losses(
    features: Float[Array, "3 B N d"],
    edited: Float[Array, "B N d"],
    labels: Int[Array | np.ndarray, "3 B N"],
    memory: Float[Array, "J N d"],
    schema: AttributeSchema,
    classify: Callable[[Float[Array, "B N d"]], Float[Array, "B N C"]],
    *,
    missing: Missing = "ignore",
    margin: float = 0.5,
) -> EditLosses:
    """Computes all terms of the loss of an edit, for an encoder that is not trained.

    The cross-entropies of the features that are not edited are no part of it: they are constant.

    Args:
      features: those of the references, the positives and the negatives, [3, B, N, d].
      edited: the references' features after the edit, [B, N, d].
      labels: [3, B, N], -1 = not labelled.
      memory: the prototypes, [J, N, d].
      schema: the attributes.
      classify: the function from features to logits, [B, N, C], of the C classes (``classes_of``).
      missing: whether missing labels are ignored, or the ``value`` of a class of their own.
      margin: the margin of both triplet losses.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
      >>> blue, red = memory[:1], memory[1:]
      >>> labels = jnp.array([[[0]], [[1]], [[0]]])
      >>> losses = edit_losses(jnp.stack([blue, red, blue]), red, labels, memory, schema, classify=jnp.array)
      >>> round(float(losses.classification), 4), float(losses.margin)
      (0.3133, 0.0)
    """
    semi_hard, margin_loss = edit_triplet_losses(features, edited, labels, margin)
    wanted = class_labels(labels[1], schema, missing)
    return EditLosses(
        classification_loss(classify(edited), wanted, classes_of(schema, missing)),
        semi_hard,
        margin_loss,
        edit_consistency_loss(features, edited, labels, memory, schema),
        off_block_loss(memory, schema),
    )


def edit_triplet_losses(
    features: Float[Array, "3 B N d"],
    edited: Float[Array, "B N d"],
    labels: Int[Array | np.ndarray, "3 B N"],
    margin: float = 0.5,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Computes the two triplet losses of an edit: with semi-hard negatives, and on the given triplets.

    The first is mined among references, edited features and negatives. Rows with equal labels form a class;
    an edited feature has the labels of its positive. In the second an edited feature is the anchor.

    Args:
      features: those of the references, the positives and the negatives, [3, B, N, d].
      edited: the references' features after the edit, [B, N, d].
      labels: [3, B, N], -1 = not labelled.
      margin: the margin of both losses.

    Example:
      >>> features, edited = jnp.eye(3).reshape(3, 1, 1, 3), jnp.eye(3)[1].reshape(1, 1, 3)
      >>> semi_hard, margin = edit_triplet_losses(features, edited, jnp.array([[[0]], [[1]], [[2]]]))
      >>> float(semi_hard), float(margin)
      (0.0, 0.0)
    """

    def embed(features: Array) -> Array:
        return unit_with_safe_gradient(features.reshape(len(features), -1))

    reference, positive, negative = features
    # The edited feature stands for the positive's labels.
    classes = jnp.asarray(labels).reshape(-1, labels.shape[-1])
    batch = jnp.concatenate([embed(reference), embed(edited), embed(negative)])
    semi_hard = semi_hard_triplet_loss(batch, classes, margin=margin)
    return semi_hard, triplet_margin_loss(embed(edited), embed(positive), embed(negative), margin=margin)


def edit_consistency_loss(
    features: Float[Array, "3 B N d"],
    edited: Float[Array, "B N d"],
    labels: Int[Array | np.ndarray, "3 B N"],
    memory: Float[Array, "J N d"],
    schema: AttributeSchema,
) -> Float[Array, ""]:
    """Sums the distances between features and what the memory composes of their labels.

    The features are those of the references, those of the negatives, and the edited ones, which are compared
    with the positives' labels.

    Args:
      features: those of the references, the positives and the negatives, [3, B, N, d].
      edited: the references' features after the edit, [B, N, d].
      labels: [3, B, N], -1 = not labelled.
      memory: the prototypes, [J, N, d].
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = jnp.array([[[1.0]], [[3.0]]])
      >>> features, edited = jnp.array([1.0, 3.0, 1.5]).reshape(3, 1, 1, 1), jnp.array([[[2.0]]])
      >>> float(edit_consistency_loss(features, edited, jnp.array([[[0]], [[1]], [[0]]]), memory, schema))
      1.5
    """
    composed = ((edited, labels[1]), (features[0], labels[0]), (features[2], labels[2]))
    return jnp.stack([consistency_loss(f, y, memory, schema) for f, y in composed]).sum()
