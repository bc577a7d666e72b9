"""The loss of FashionSearchNet."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.loss_terms import TermInputs, weighted_terms
from gradrev_jax.core.losses import classification_loss
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.shards import whole_batch
from gradrev_jax.systems.fsn.model import LocalizedOutput
from gradrev_jax.systems.objective import LossParts, ModelInputs, Objective, StepContext


class LocalizedMetrics(NamedTuple):
    """Represents the metrics that a step reports; the losses are those before its update.

    Attributes:
      loss: the total.
      loss_cls: the cross-entropies of the branches' classifiers, summed over attributes.
      loss_localization: those of the localising classifiers.
      terms: the triplet losses that have a weight, by name, without their weights.
      attribute_weights: [N], the attributes' weights in the whole feature.
    """

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_localization: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    attribute_weights: Float[Array, " N"]


@dataclasses.dataclass(frozen=True)
class LocalizedObjective(Objective):
    """The loss of FashionSearchNet: cross-entropies of both kinds of classifiers, and triplet losses.

    Attributes:
      w_cls: the weight of the cross-entropies of the branches' classifiers.
      w_localization: the weight of those of the localising classifiers.
      term_weights: the weights of triplet losses, by their names in ``loss_terms.TERMS``.
      triplet_margin: the margin of triplet losses, in squared distance.
      localization_share: the first part of the training in which the localising classifiers alone are
        trained, as a fraction.

    Example:
      >>> LocalizedObjective(term_weights={"attribute_triplet": 1.0}).w_localization
      1.0
    """

    w_cls: float = 1.0
    w_localization: float = 1.0
    term_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    triplet_margin: float = 0.5
    localization_share: float = 0.0

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: Int[Array, "B N"],
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss of a batch, and its parts as ``LocalizedMetrics``; see ``Objective``."""
        local = encoder.apply(
            params,
            inputs,
            train=True,
            shard=context.shard,
            rngs={"dropout": context.dropout_key},
            method="localized",
        )
        output = whole_batch(cast(LocalizedOutput, local), context.shard)
        classes, labels = encoder.classes, jnp.asarray(encoder.class_labels(targets))
        every_pathway = jnp.broadcast_to(output.localization[:, None], output.logits.shape)
        localization = classification_loss(every_pathway, labels, classes)
        loss_cls = classification_loss(output.logits, labels, classes)
        read = TermInputs(output.features, output.logits, labels, classes, self.triplet_margin)
        terms = weighted_terms(read, self.term_weights)
        branches = self.w_cls * loss_cls + sum(self.term_weights[name] * term for name, term in terms.items())
        total = self.w_localization * localization
        total += jnp.where(context.progress < self.localization_share, 0.0, branches)
        weights = encoder.apply(params, method="attribute_weights")
        metrics = LocalizedMetrics(total, loss_cls, localization, terms, cast(Array, weights))
        return total, LossParts(metrics, params, output.features)

    def record(self, metrics: LocalizedMetrics, schema: AttributeSchema) -> dict[str, Any]:
        """Returns the record of a step: its losses, and the attributes' weights."""
        weights = np.asarray(metrics.attribute_weights).tolist()
        return {
            "loss_cls": float(metrics.loss_cls),
            "loss_localization": float(metrics.loss_localization),
            **{f"loss_{name}": float(term) for name, term in metrics.terms.items()},
            "attribute_weights": dict(zip(schema.names, weights, strict=True)),
        }
