"""The loss of the encoder (stage 1, Eqs. 1 to 5)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import ExpectedLabels
from gradrev_jax.core.decorrelation import Decorrelation, decorrelating_weights
from gradrev_jax.core.loss_terms import TERMS, TermInputs, weighted_terms
from gradrev_jax.core.losses import check_weighting, pathway_losses, reversal_weight, split_pathways
from gradrev_jax.models.interface import Encoder, EncoderOutput
from gradrev_jax.systems.objective import LossParts, ModelInputs, Objective, StepContext, encode_batch


class StepMetrics(NamedTuple):
    """Represents the metrics that a step reports; the losses are those before its update.

    Attributes:
      loss: the total (Eq. 3).
      loss_cls: L_cls (Eq. 1).
      loss_rev: L_rev (Eq. 2).
      w_rev: the weight of L_rev.
      pathways: [N, N], the loss of feature j (row) read by classifier n (column); L_cls is the trace, L_rev
        the sum of all others.
      feature_norms: [N], the mean Euclidean norm of each attribute's features; features that only grow can
        fool a classifier without losing what it reads.
      terms: the additional terms that have a weight, by name, without their weights.
    """

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_rev: Float[Array, ""]
    w_rev: Float[Array, ""]
    pathways: Float[Array, "N N"]
    feature_norms: Float[Array, " N"]
    terms: dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class EncoderObjective(Objective):
    """The loss of stage 1, ``w_cls L_cls + w_rev L_rev`` (Eq. 3), and additional terms.

    Attributes:
      weighting: the rule for w_rev, one of ``losses.WEIGHTINGS``.
      beta: the share of the reversal.
      reversal_scale: lambda, of all pathways or [N, N] of each, see ``AttributeEncoder``.
      w_cls: the weight of the classification loss.
      term_weights: the weights of additional terms, by their names in ``loss_terms.TERMS``; the paper has
        none.
      triplet_margin: the margin of triplet terms, in squared distance.
      expected: what the training labels tell of each other, for the term ``conditional_dependence``.
      decorrelation: the tables of the weights that images have in the classifiers' losses; None: all are 1.

    Raises:
      ValueError: an unknown rule or term.

    Example:
      >>> EncoderObjective(weighting="fixed", beta=0.5).w_cls
      1.0
    """

    weighting: str = "balanced"
    beta: float = 0.1
    reversal_scale: float | Float[Array | np.ndarray, "N N"] = 1.0
    w_cls: float = 1.0
    term_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    triplet_margin: float = 0.5
    expected: ExpectedLabels | None = None
    decorrelation: Decorrelation | None = None

    def __post_init__(self) -> None:
        check_weighting(self.weighting)
        if unknown := [name for name in self.term_weights if name not in TERMS]:
            raise ValueError(f"term_weights may have {', '.join(TERMS)}, got {', '.join(unknown)}")

    def loss(
        self,
        encoder: Encoder,
        params: Any,
        inputs: ModelInputs,
        targets: Int[Array, "B N"],
        context: StepContext,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes the total loss of a batch, and its parts as ``StepMetrics``; see ``Objective``."""
        output, variables = encode_batch(encoder, params, inputs, context, reversal_scale=self.reversal_scale)
        classes, labels = encoder.classes, jnp.asarray(encoder.class_labels(targets))
        tables = self.decorrelation
        weights = None if tables is None else decorrelating_weights(labels, tables, classes)
        pathways = pathway_losses(output.logits, labels, classes, weights)
        loss_cls, loss_rev = split_pathways(pathways)
        w_rev = reversal_weight(
            loss_cls,
            loss_rev,
            weighting=self.weighting,
            beta=self.beta,
            w_cls=self.w_cls,
            progress=context.progress,
        )
        total = self.w_cls * loss_cls + w_rev * loss_rev
        terms = self._terms(output, labels, encoder)
        for name, term in terms.items():
            total += self.term_weights[name] * term
        metrics = StepMetrics(
            total,
            loss_cls,
            loss_rev,
            w_rev,
            pathways,
            jnp.linalg.norm(output.features.astype(jnp.float32), axis=2).mean(axis=0),
            terms,
        )
        return total, LossParts(metrics, variables, output.features)

    def _terms(
        self, output: EncoderOutput, labels: Int[Array, "B N"], encoder: Encoder
    ) -> dict[str, Float[Array, ""]]:
        """Computes the additional terms that have a weight."""
        inputs = TermInputs(
            output.features,
            output.logits,
            labels,
            encoder.classes,
            self.triplet_margin,
            cosine_scale=encoder.cosine_scale,
            expected=self.expected,
        )
        return weighted_terms(inputs, self.term_weights)

    def record(self, metrics: StepMetrics, schema: AttributeSchema) -> dict[str, Any]:
        """Returns the record of a step: its losses, those of all pathways, and norms."""
        rows = np.asarray(metrics.pathways).tolist()
        return {
            "loss_cls": float(metrics.loss_cls),
            "loss_rev": float(metrics.loss_rev),
            "w_rev": float(metrics.w_rev),
            **{f"loss_{name}": float(term) for name, term in metrics.terms.items()},
            "pathways": {
                feature: dict(zip(schema.names, row, strict=True))
                for feature, row in zip(schema.names, rows, strict=True)
            },
            "feature_norms": dict(
                zip(schema.names, np.asarray(metrics.feature_norms).tolist(), strict=True),
            ),
        }
