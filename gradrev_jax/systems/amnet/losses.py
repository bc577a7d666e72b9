"""The losses of the two stages of AMNet."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gradrev_jax.core.losses import classification_loss
from gradrev_jax.core.triplet_losses import triplet_margin_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.amnet.edit import edit_features
from gradrev_jax.systems.objective import (
    ENCODER,
    MEMORY,
    LossParts,
    MemoryTargets,
    ModelInputs,
    Objective,
    StepContext,
    encode_batch,
)


class EntangledMetrics(NamedTuple):
    """Represents the metrics of a step of stage 1, before its update."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    feature_norm: Float[Array, ""]


class EditedMetrics(NamedTuple):
    """Represents the metrics of a step of stage 2, before its update; the terms are without their weights."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_margin: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class EntangledObjective(Objective):
    """The loss of stage 1: the cross-entropies of all attributes, all read from the one feature.

    Attributes:
      weight: the factor of the loss.
    """

    weight: float = 1.0

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: Int[Array, "B N"],
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the loss of a batch; see ``Objective``."""
        output, variables = encode_batch(encoder, params, inputs, context)
        loss = cross_entropies(encoder, output.logits, targets)
        norm = jnp.linalg.norm(output.features[:, 0], axis=1).mean()
        metrics = EntangledMetrics(self.weight * loss, loss, norm)
        return metrics.loss, LossParts(metrics, variables, output.features)


@dataclasses.dataclass(frozen=True)
class EditedObjective(Objective):
    """The loss of stage 2, on references, positives and negatives, and on the references as edited.

    Attributes:
      classification: the weight of the sum of their four cross-entropies; an edited feature has the labels of
        its positive.
      margin_weight: the weight of the triplet loss whose anchors are the edited features.
      margin: its margin, between plain distances of vectors of length 1.
      freeze_encoder: whether the memory and its layers alone are trained.
    """

    classification: float = 0.2
    margin_weight: float = 1.0
    margin: float = 0.5
    freeze_encoder: bool = False

    @property
    def frozen(self) -> tuple[str, ...]:
        """The encoder, if the memory and its layers alone are trained."""
        return (ENCODER,) if self.freeze_encoder else ()

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: MemoryTargets,
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the loss of a batch of triplets; see ``Objective``."""
        output, variables = encode_batch(
            encoder, params[ENCODER], inputs, context, is_frozen=self.freeze_encoder
        )
        memory, labels = params[MEMORY], jnp.asarray(targets.labels)
        reference, positive, negative = output.features.reshape(*labels.shape[:2], 1, -1)
        edited = edit_features(reference, jnp.asarray(targets.indicators), memory, encoder.schema)
        edited_logits: Any = encoder.apply(variables, edited, method="classify")
        logits = output.logits.reshape(*labels.shape[:2], 1, -1)
        read = [*zip(logits, labels, strict=True), (edited_logits, labels[1])]
        loss_cls = jnp.stack([cross_entropies(encoder, *pair) for pair in read]).sum()
        anchor, near, far = (unit_with_safe_gradient(x[:, 0]) for x in (edited, positive, negative))
        loss_margin = triplet_margin_loss(anchor, near, far, margin=self.margin)
        total = self.classification * loss_cls + self.margin_weight * loss_margin
        metrics = EditedMetrics(total, loss_cls, loss_margin)
        return total, LossParts(metrics, {ENCODER: variables, MEMORY: memory})


def cross_entropies(
    encoder: Encoder, logits: Float[Array, "B 1 J"], labels: Int[Array, "B N"]
) -> Float[Array, ""]:
    """Computes the sum over attributes of the mean cross-entropy of the images that are labelled for each.

    Args:
      encoder: the model, which says what a missing label is.
      logits: [B, 1, J].
      labels: [B, N], -1 = not labelled.
    """
    by_attribute = jnp.asarray(encoder.blocks.by_attribute(logits))
    return classification_loss(by_attribute, jnp.asarray(encoder.class_labels(labels)), encoder.classes)
