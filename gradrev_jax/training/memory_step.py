"""One step of memory fine-tuning (stage 2), as pure functions."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from gradrev_jax.core.losses import classification_loss, pathway_losses, reversal_weight
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.memory_losses import Block, consistency_loss, off_block_loss, only_blocks
from gradrev_jax.core.triplet_losses import semi_hard_triplet_loss, triplet_margin_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images, random_flip
from gradrev_jax.models.shards import BatchShard, whole_batch
from gradrev_jax.training.encoder_step import INPUT_SCOPE, TrainState, Update, descend

ENCODER, MEMORY = "encoder", "memory"  # the two parts of the parameters


@dataclasses.dataclass(frozen=True)
class MemoryWeights:
    """Weights of the terms of the loss, ADDE-M's.

    Attributes:
      classification: of the cross-entropies of the three images' features and the manipulated one.
      semi_hard: of the semi-hard triplet loss on reference, manipulated feature and negative.
      margin: of the triplet loss with the manipulated feature as anchor.
      consistency: of the distances between features and what the memory makes of their labels.
      off_block: of the memory's entries outside its blocks.
    """

    classification: float = 0.2
    semi_hard: float = 1.0
    margin: float = 1.0
    consistency: float = 1.0
    off_block: float = 0.4


class MemoryMetrics(NamedTuple):
    """What a step reports, before its update; the terms are those of the loss, without their weights."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_semi_hard: Float[Array, ""]
    loss_margin: Float[Array, ""]
    loss_consistency: Float[Array, ""]
    loss_off_block: Float[Array, ""]
    loss_rev: Float[Array, ""]
    w_rev: Float[Array, ""]


MemoryStep = Callable[
    [
        TrainState,
        UInt8[Array | np.ndarray, "3 B S S 3"],
        Int[Array | np.ndarray, "3 B N"],
        Int[Array | np.ndarray, "B J"],
    ],
    tuple[TrainState, MemoryMetrics],
]


def memory_loss(
    encoder: AttributeEncoder,
    params: Any,
    images: Float[Array, "_ S S 3"],
    labels: Int[Array, "3 B N"],
    indicators: Int[Array, "B J"],
    dropout_key: PRNGKeyArray,
    *,
    weights: MemoryWeights = MemoryWeights(),
    block: Block = "soft",
    freeze_encoder: bool = False,
    reversal: bool = False,
    beta: float = 0.1,
    reversal_scale: float | Float[Array | np.ndarray, "N N"] = 1.0,
    margin: float = 0.5,
    shard: BatchShard | None = None,
) -> tuple[Float[Array, ""], MemoryMetrics]:
    """Total loss of a batch of triplets.

    Args:
      encoder: the model.
      params: ``{"encoder": its parameters, "memory": [J, N, d]}``.
      images: [3 B, S, S, 3], normalised: references, then positives, then negatives; or those of a shard.
      labels: [3, B, N] of all of them, -1 = not labelled.
      indicators: [B, J], from each reference's labels to its positive's.
      dropout_key: rng of the dropout; a frozen encoder has none.
      weights: of the terms.
      block: ``soft``: the memory may leave its blocks, at a price; ``hard``: what lies outside is masked.
      freeze_encoder: whether the memory alone is trained.
      reversal: whether the reversal loss of the three images, with the balanced weight, is kept on.
      beta: share of the reversal.
      reversal_scale: lambda, see ``AttributeEncoder``.
      margin: of both triplet losses.
      shard: which part of the 3 B images these are; None: all.

    Returns:
      The total, and its parts.
    """
    schema = encoder.schema
    variables = jax.lax.stop_gradient(params[ENCODER]) if freeze_encoder else params[ENCODER]
    memory = only_blocks(params[MEMORY], schema) if block == "hard" else params[MEMORY]
    local: Any = encoder.apply(
        variables,
        images,
        train=not freeze_encoder,
        reversal_scale=reversal_scale,
        shard=shard,
        rngs={"dropout": dropout_key},
    )
    output = whole_batch(local, shard)
    features = output.features.reshape(*labels.shape, -1)
    reference, positive, negative = features
    edited = manipulate(reference, indicators, memory)
    edited_logits: Any = encoder.apply(variables, edited, method="classify")

    logits = output.logits.reshape(*labels.shape, -1)
    read = (
        (logits[0], labels[0]),
        (logits[1], labels[1]),
        (logits[2], labels[2]),
        (edited_logits, labels[1]),
    )
    loss_cls = jnp.stack([classification_loss(*pair, schema) for pair in read]).sum()

    def embed(features: Array) -> Array:
        return unit_with_safe_gradient(features.reshape(len(features), -1))

    # The manipulated feature stands for the positive's labels.
    classes = labels.reshape(-1, schema.num_attributes)
    batch = jnp.concatenate([embed(reference), embed(edited), embed(negative)])
    semi_hard = semi_hard_triplet_loss(batch, classes, margin=margin)
    margin_loss = triplet_margin_loss(embed(edited), embed(positive), embed(negative), margin=margin)
    composed = ((edited, labels[1]), (reference, labels[0]), (negative, labels[2]))
    consistency = jnp.stack([consistency_loss(f, y, memory, schema) for f, y in composed]).sum()
    off_block = off_block_loss(memory, schema)

    if reversal:
        pathways = pathway_losses(output.logits, labels.reshape(-1, schema.num_attributes), schema)
        own = jnp.trace(pathways)
        loss_rev = pathways.sum() - own
        w_rev = reversal_weight(own, loss_rev, weighting="balanced", beta=beta, w_cls=weights.classification)
    else:
        loss_rev = w_rev = jnp.zeros(())

    total = (
        weights.classification * loss_cls
        + weights.semi_hard * semi_hard
        + weights.margin * margin_loss
        + weights.consistency * consistency
        + weights.off_block * off_block
        + w_rev * loss_rev
    )
    return total, MemoryMetrics(
        total, loss_cls, semi_hard, margin_loss, consistency, off_block, loss_rev, w_rev
    )


def make_memory_update(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    mirror: bool = True,
    **loss_settings: Any,
) -> Update:
    """(state, uint8 images [3 B, S, S, 3], (labels, indicators), shard=None) -> (state, metrics), pure.

    Flips and dropout are pure functions of (seed, step).

    Args:
      encoder: the model.
      optimizer: an Optax optimiser.
      seed: of flips and dropout.
      mirror: whether images are mirrored at random.
      **loss_settings: keyword arguments of ``memory_loss``.
    """

    def update(
        state: TrainState, images: Array, targets: tuple[Array, Array], shard: BatchShard | None = None
    ) -> tuple[TrainState, MemoryMetrics]:
        flip_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        with jax.named_scope(INPUT_SCOPE):
            inputs = normalize_images(random_flip(flip_key, images, shard) if mirror else images)

        def loss(params: Any) -> tuple[Array, MemoryMetrics]:
            return memory_loss(encoder, params, inputs, *targets, dropout_key, shard=shard, **loss_settings)

        return descend(state, loss, optimizer, shard)

    return update


def make_memory_step(
    encoder: AttributeEncoder, optimizer: optax.GradientTransformation, **settings: Any
) -> MemoryStep:
    """``make_memory_update``, jitted for one device; takes images by triplet, [3, B, S, S, 3].

    The state is donated.

    Args:
      encoder: the model.
      optimizer: an Optax optimiser.
      **settings: keyword arguments of ``make_memory_update``.
    """
    update = make_memory_update(encoder, optimizer, **settings)

    def memory_step(
        state: TrainState, images: Array, labels: Array, indicators: Array
    ) -> tuple[TrainState, MemoryMetrics]:
        return update(state, images.reshape(-1, *images.shape[2:]), (labels, indicators))

    return jax.jit(memory_step, donate_argnums=0)
