"""The loss of memory fine-tuning (stage 2, as in ADDE-M)."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.edit_losses import EditLosses, edit_consistency_loss, edit_triplet_losses
from gradrev_jax.core.losses import classification_loss, pathway_losses, reversal_weight, split_pathways
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.memory_losses import Block, off_block_loss, only_blocks
from gradrev_jax.models.interface import Encoder
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

Weight = float | Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class MemoryWeights:
    """Represents the weights of the terms of the loss; the defaults are ADDE-M's.

    Attributes:
      classification: the weight of the cross-entropies of the three images' features and the manipulated one.
      semi_hard: the weight of the semi-hard triplet loss on reference, manipulated feature and negative.
      margin: the weight of the triplet loss with the manipulated feature as anchor.
      consistency: the weight of the distances between features and what the memory composes of their labels.
      off_block: the weight of the memory's entries outside its blocks.
    """

    classification: Weight = 0.2
    semi_hard: Weight = 1.0
    margin: Weight = 1.0
    consistency: Weight = 1.0
    off_block: Weight = 0.4

    def total(self, terms: EditLosses) -> Float[Array, ""]:
        """Computes the weighted sum of the terms.

        Args:
          terms: the terms, of which each has its weight here.
        """
        return sum(getattr(self, name) * term for name, term in terms._asdict().items())


class MemoryMetrics(NamedTuple):
    """Represents the metrics of a step, before its update; the terms are without their weights."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_semi_hard: Float[Array, ""]
    loss_margin: Float[Array, ""]
    loss_consistency: Float[Array, ""]
    loss_off_block: Float[Array, ""]
    loss_rev: Float[Array, ""]
    w_rev: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class MemoryObjective(Objective):
    """The loss of stage 2 (ADDE-M's), with the reversal of the paper where it is kept on.

    Attributes:
      weights: the weights of the terms.
      block: ``soft``: the memory may leave its blocks, at a price; ``hard``: what lies outside is masked.
      freeze_encoder: whether the memory alone is trained.
      reversal: whether the reversal loss of the three images, with the balanced weight, is kept on.
      beta: the share of the reversal in one mean cross-entropy, of which the loss has the sum of four.
      reversal_scale: lambda, of all pathways or [N, N] of each, see ``AttributeEncoder``.
      margin: the margin of both triplet losses.

    Example:
      >>> MemoryObjective(block="hard").weights.off_block
      0.4
    """

    weights: MemoryWeights = MemoryWeights()
    block: Block = "soft"
    freeze_encoder: bool = False
    reversal: bool = False
    beta: float = 0.1
    reversal_scale: float | Float[Array | np.ndarray, "N N"] = 1.0
    margin: float = 0.5

    @property
    def frozen(self) -> tuple[str, ...]:
        """The encoder, if the memory alone is trained."""
        return (ENCODER,) if self.freeze_encoder else ()

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: MemoryTargets,
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss of a batch of triplets, and its parts as ``MemoryMetrics``.

        See ``Objective``; nothing depends on the progress.

        Args:
          encoder: the model.
          params: ``{"encoder": its parameters and statistics, "memory": [J, N, d]}``.
          inputs: 3 B of them: references, then positives, then negatives; those of a shard, if there is one.
          targets: the labels and the indicators, of the whole batch.
          context: the key of the dropout, which a frozen encoder does not use, and the shard.
        """
        schema, labels = encoder.schema, jnp.asarray(targets.labels)
        memory = only_blocks(params[MEMORY], schema) if self.block == "hard" else params[MEMORY]
        output, variables = encode_batch(
            encoder,
            params[ENCODER],
            inputs,
            context,
            is_frozen=self.freeze_encoder,
            reversal_scale=self.reversal_scale,
        )
        features = output.features.reshape(*labels.shape, -1)
        edited = manipulate(features[0], targets.indicators, memory)
        edited_logits: Any = encoder.apply(variables, edited, method="classify")

        logits = output.logits.reshape(*labels.shape, -1)
        classes, class_labels = encoder.classes, jnp.asarray(encoder.class_labels(labels))
        terms = EditLosses(
            _classification(logits, edited_logits, class_labels, classes),
            *edit_triplet_losses(features, edited, labels, self.margin),
            edit_consistency_loss(features, edited, labels, memory, schema),
            off_block_loss(memory, schema),
        )
        loss_rev, w_rev = self._reversal(output.logits, class_labels, classes)
        total = self.weights.total(terms) + w_rev * loss_rev
        metrics = MemoryMetrics(total, *terms, loss_rev, w_rev)
        return total, LossParts(metrics, {ENCODER: variables, MEMORY: params[MEMORY]})

    def _reversal(
        self, logits: Float[Array, "_ N J"], labels: Int[Array, "3 B N"], schema: AttributeSchema
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Computes the reversal loss of the three images and its balanced weight; 0 where it is off.

        The weight balances against one mean cross-entropy of the images, as in stage 1. The classification
        term of this stage is the sum of four, so the share of the reversal in it is about beta / 4.
        """
        if not self.reversal:
            return jnp.zeros(()), jnp.zeros(())
        pathways = pathway_losses(logits, labels.reshape(-1, schema.num_attributes), schema)
        loss_cls, loss_rev = split_pathways(pathways)
        w_cls = self.weights.classification
        w_rev = reversal_weight(loss_cls, loss_rev, weighting="balanced", beta=self.beta, w_cls=w_cls)
        return loss_rev, w_rev


def _classification(
    logits: Float[Array, "3 B N J"],
    edited_logits: Float[Array, "B N J"],
    labels: Int[Array, "3 B N"],
    schema: AttributeSchema,
) -> Float[Array, ""]:
    """Sums the cross-entropies of the three images and of the edited features, read as the positives."""
    read = (
        (logits[0], labels[0]),
        (logits[1], labels[1]),
        (logits[2], labels[2]),
        (edited_logits, labels[1]),
    )
    return jnp.stack([classification_loss(*pair, schema) for pair in read]).sum()
