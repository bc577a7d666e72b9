"""One step of encoder training (Eqs. 1 to 5), as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from gradrev_jax.core.losses import Weighting, pathway_losses, reversal_weight
from gradrev_jax.core.triplet_losses import attribute_triplet_loss, semi_hard_triplet_loss
from gradrev_jax.core.vectors import unit_with_safe_gradient
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images, random_flip
from gradrev_jax.models.shards import BatchShard, whole_batch

# Names under which a profile of a step has these parts; see benchmarks/step_profile.py.
INPUT_SCOPE, OPTIMIZER_SCOPE = "input", "optimizer"


class TrainState(NamedTuple):
    """All that a step changes; everything random is derived from the seed and ``step``."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


class StepMetrics(NamedTuple):
    """What a step reports; the losses are those before its update.

    Attributes:
      loss: the total (Eq. 3).
      loss_cls: L_cls (Eq. 1).
      loss_rev: L_rev (Eq. 2).
      w_rev: weight of L_rev.
      pathways: [N, N], loss of feature j (row) read by classifier n (column); L_cls is the trace, L_rev the
        sum of all others.
      loss_attribute_triplet: of the attributes' features, by their own labels; 0 where its weight is.
      loss_label_triplet: of the whole features, by all labels; 0 where its weight is.
    """

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_rev: Float[Array, ""]
    w_rev: Float[Array, ""]
    pathways: Float[Array, "N N"]
    loss_attribute_triplet: Float[Array, ""]
    loss_label_triplet: Float[Array, ""]


# (state, uint8 images of a shard, what they are compared with: of the whole batch, shard) -> (state, metrics)
Update = Callable[..., tuple[TrainState, Any]]
TrainStep = Callable[
    [TrainState, UInt8[Array | np.ndarray, "B S S 3"], Int[Array | np.ndarray, "B N"]],
    tuple[TrainState, StepMetrics],
]


def init_state(
    encoder: AttributeEncoder, optimizer: optax.GradientTransformation, *, image_size: int, seed: int
) -> TrainState:
    """Seeded initial state."""
    images = jnp.zeros((1, image_size, image_size, 3))
    params = jax.jit(encoder.init)(jax.random.key(seed), images)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def encoder_loss(
    encoder: AttributeEncoder,
    params: Any,
    images: Float[Array, "_ S S 3"],
    labels: Int[Array, "B N"],
    dropout_key: PRNGKeyArray,
    *,
    weighting: Weighting = "balanced",
    beta: float = 0.1,
    reversal_scale: float | Float[Array | np.ndarray, "N N"] = 1.0,
    w_cls: float = 1.0,
    attribute_triplet_weight: float = 0.0,
    label_triplet_weight: float = 0.0,
    triplet_margin: float = 0.5,
    progress: float | Float[Array, ""] = 1.0,
    shard: BatchShard | None = None,
) -> tuple[Float[Array, ""], StepMetrics]:
    r"""Total loss of a batch, ``w_cls L_cls + w_rev L_rev`` (Eq. 3), and ADDE-M's triplet losses.

    Args:
      encoder: the model.
      params: its parameters.
      images: [B, S, S, 3], normalised; or those of a shard.
      labels: [B, N], -1 = not labelled; of the whole batch.
      dropout_key: rng of the dropout.
      weighting: w_rev is ``balanced`` (Eq. 5), ``fixed`` at beta, on a ``schedule`` that rises from 0 to beta
        (Ganin's), or ``off`` (0: each head reads its own feature only, the ablation of Table 7).
      beta: share of the reversal.
      reversal_scale: lambda of the reversal, of all pathways or of each, see ``AttributeEncoder``.
      w_cls: weight of the classification loss.
      attribute_triplet_weight: of the semi-hard triplet loss on each attribute's feature, by its labels;
        the paper has none, ADDE-M 0.2.
      label_triplet_weight: of that on the whole feature, by all labels; the paper has none, ADDE-M 1.
      triplet_margin: of both, in squared distance.
      progress: fraction of the training that is done, for the schedule.
      shard: which part of the batch the images are; None: all of it.

    Raises:
      ValueError: an unknown weighting.

    Returns:
      The total, and its parts.
    """
    local: Any = encoder.apply(
        params, images, train=True, reversal_scale=reversal_scale, shard=shard, rngs={"dropout": dropout_key}
    )
    output = whole_batch(local, shard)
    pathways = pathway_losses(output.logits, labels, encoder.schema)
    loss_cls = jnp.trace(pathways)
    loss_rev = (pathways * (1 - jnp.eye(len(pathways)))).sum()
    w_rev = reversal_weight(
        loss_cls, loss_rev, weighting=weighting, beta=beta, w_cls=w_cls, progress=progress
    )
    total = w_cls * loss_cls + w_rev * loss_rev
    by_attribute = by_label = jnp.zeros(())
    if attribute_triplet_weight:
        by_attribute = attribute_triplet_loss(output.features, labels, margin=triplet_margin)
        total += attribute_triplet_weight * by_attribute
    if label_triplet_weight:
        whole = unit_with_safe_gradient(output.features.reshape(len(labels), -1))
        by_label = semi_hard_triplet_loss(whole, labels, margin=triplet_margin)
        total += label_triplet_weight * by_label
    return total, StepMetrics(total, loss_cls, loss_rev, w_rev, pathways, by_attribute, by_label)


def make_update(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
    **loss_settings: Any,
) -> Update:
    """(state, uint8 images [B, S, S, 3], labels [B, N], shard=None) -> (state, metrics), pure.

    Flips and dropout are pure functions of (seed, step).

    Args:
      encoder: the model.
      optimizer: an Optax optimiser.
      seed: of flips and dropout.
      total_steps: of the whole training, which schedules count towards.
      mirror: whether images are mirrored at random.
      **loss_settings: keyword arguments of ``encoder_loss``.
    """

    def update(
        state: TrainState, images: Array, labels: Array, shard: BatchShard | None = None
    ) -> tuple[TrainState, StepMetrics]:
        flip_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        with jax.named_scope(INPUT_SCOPE):
            inputs = normalize_images(random_flip(flip_key, images, shard) if mirror else images)
        progress = state.step / total_steps

        def loss(params: Any) -> tuple[Array, StepMetrics]:
            return encoder_loss(
                encoder, params, inputs, labels, dropout_key, progress=progress, shard=shard, **loss_settings
            )

        return descend(state, loss, optimizer, shard)

    return update


def make_train_step(
    encoder: AttributeEncoder, optimizer: optax.GradientTransformation, **settings: Any
) -> TrainStep:
    """``make_update``, jitted for one device: (state, uint8 images, labels) -> (state, metrics).

    The state is donated: its buffers are reused, and it cannot be used after the call. For several devices
    see ``training.parallel``.

    Args:
      encoder: the model.
      optimizer: an Optax optimiser.
      **settings: keyword arguments of ``make_update``.
    """
    return jax.jit(make_update(encoder, optimizer, **settings), donate_argnums=0)


def descend(
    state: TrainState,
    loss: Callable[[Any], tuple[Array, Any]],
    optimizer: optax.GradientTransformation,
    shard: BatchShard | None,
) -> tuple[TrainState, Any]:
    """One step down the gradient of params -> (loss of the whole batch, metrics)."""
    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    if shard is not None and shard.axis:
        gradients = jax.lax.pmean(gradients, shard.axis)  # see whole_batch
    with jax.named_scope(OPTIMIZER_SCOPE):
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics
