"""Stage 1: the loss of the encoder (Eqs. 1 to 5) and one step of its training, as pure functions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from gradrev_jax.core.conditional_dependence import ExpectedLabels
from gradrev_jax.core.decorrelation import Decorrelation, decorrelating_weights
from gradrev_jax.core.loss_terms import TERMS, TermInputs
from gradrev_jax.core.losses import check_weighting, pathway_losses, reversal_weight
from gradrev_jax.models.encoder import AttributeEncoder, EncoderOutput, apply_in_training
from gradrev_jax.models.shards import BatchShard, whole_batch
from gradrev_jax.training.update import LossParts, Objective, TrainState, make_update

TrainStep = Callable[
    [TrainState, UInt8[Array | np.ndarray, "B S S 3"], Int[Array | np.ndarray, "B N"]],
    tuple[TrainState, "StepMetrics"],
]


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
        encoder: AttributeEncoder,
        params: Any,
        images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
        targets: Int[Array, "B N"],
        *,
        dropout_key: PRNGKeyArray,
        progress: float | Float[Array, ""] = 1.0,
        shard: BatchShard | None = None,
    ) -> tuple[Float[Array, ""], LossParts]:
        """Computes ``encoder_loss``."""
        return encoder_loss(
            encoder, params, images, targets, dropout_key, self, progress=progress, shard=shard
        )


def encoder_loss(
    encoder: AttributeEncoder,
    params: Any,
    images: Float[Array, "_ S S 3"] | Float[Array, "_ D"],
    labels: Int[Array, "B N"],
    dropout_key: PRNGKeyArray,
    objective: EncoderObjective = EncoderObjective(),
    *,
    progress: float | Float[Array, ""] = 1.0,
    shard: BatchShard | None = None,
) -> tuple[Float[Array, ""], LossParts]:
    """Computes the total loss of a batch; its parts, as ``StepMetrics``; and the statistics after the step.

    Args:
      encoder: the model.
      params: its parameters and statistics.
      images: the inputs of ``AttributeEncoder``; those of a shard, if there is one.
      labels: [B, N], -1 = not labelled; of the whole batch.
      dropout_key: the random key of the dropout.
      objective: the weights, the weighting and the margins.
      progress: the fraction of the training that is done, for the weighting ``schedule``.
      shard: the part of the batch that the images are; None: all of it.
    """
    local, variables = apply_in_training(
        encoder,
        params,
        images,
        dropout_key=dropout_key,
        reversal_scale=objective.reversal_scale,
        shard=shard,
    )
    output = whole_batch(local, shard)
    classes, labels = encoder.classes, jnp.asarray(encoder.class_labels(labels))
    tables = objective.decorrelation
    weights = None if tables is None else decorrelating_weights(labels, tables, classes)
    pathways = pathway_losses(output.logits, labels, classes, weights)
    loss_cls = jnp.trace(pathways)
    loss_rev = (pathways * (1 - jnp.eye(len(pathways)))).sum()
    w_rev = reversal_weight(
        loss_cls,
        loss_rev,
        weighting=objective.weighting,
        beta=objective.beta,
        w_cls=objective.w_cls,
        progress=progress,
    )
    total = objective.w_cls * loss_cls + w_rev * loss_rev
    terms = _term_losses(output, labels, encoder, objective)
    for name, term in terms.items():
        total += objective.term_weights[name] * term
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


def _term_losses(
    output: EncoderOutput, labels: Int[Array, "B N"], encoder: AttributeEncoder, objective: EncoderObjective
) -> dict[str, Float[Array, ""]]:
    """Computes the additional terms that have a weight."""
    inputs = TermInputs(
        output.features,
        output.logits,
        labels,
        encoder.classes,
        objective.triplet_margin,
        cosine_scale=encoder.cosine_scale,
        expected=objective.expected,
    )
    return {name: TERMS[name].loss(inputs) for name, weight in objective.term_weights.items() if weight}


@functools.lru_cache(maxsize=8)  # so that equal encoders are compiled once in a process
def _jitted_init(encoder: AttributeEncoder) -> Callable[..., Any]:
    return jax.jit(encoder.init)


def init_state(
    encoder: AttributeEncoder, optimizer: optax.GradientTransformation, *, input_size: int, seed: int
) -> TrainState:
    """Creates the initial state, a pure function of the seed.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      input_size: the height and width of the images, or the width of the vectors.
      seed: the seed of the parameters.
    """
    params = _jitted_init(encoder)(jax.random.key(seed), encoder.inputs.example(input_size))
    return TrainState.begin(params, optimizer)


def make_train_step(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    objective: EncoderObjective = EncoderObjective(),
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
) -> TrainStep:
    """Returns ``make_update``, jitted for one device: (state, uint8 images, labels) -> (state, metrics).

    The state is donated: its buffers are reused, and it cannot be used after the call. For several devices
    see ``training.parallel``.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      objective: the loss to minimise.
      seed: the seed of flips and dropout.
      total_steps: the number of steps of the whole training, which schedules count towards.
      mirror: whether images are mirrored at random.
    """
    update = make_update(encoder, optimizer, objective, seed=seed, total_steps=total_steps, mirror=mirror)
    return jax.jit(lambda state, images, labels: update(state, images, labels, None), donate_argnums=0)
