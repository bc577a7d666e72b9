"""One step of encoder training (Eqs. 1 to 5), as pure functions."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from gradrev_jax.losses import balanced_reversal_weight, classification_loss, reversal_loss
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images, random_flip

Weighting = Literal["balanced", "fixed", "off"]


class TrainState(NamedTuple):
    """All that a step changes; everything random is derived from the seed and ``step``."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


class StepMetrics(NamedTuple):
    """What a step reports; the losses are those before its update."""

    loss: Float[Array, ""]
    loss_cls: Float[Array, ""]
    loss_rev: Float[Array, ""]
    w_rev: Float[Array, ""]


TrainStep = Callable[
    [TrainState, UInt8[Array | np.ndarray, "B S S 3"], Int[Array | np.ndarray, "B N"]],
    tuple[TrainState, StepMetrics],
]


def learning_rate_schedule(
    initial: float, *, decay_rate: float, decay_epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Step -> learning rate: multiplied by ``decay_rate`` every ``decay_epochs`` epochs (Section 4.2).

    Example:
      >>> schedule = learning_rate_schedule(1e-4, decay_rate=0.5, decay_epochs=10, steps_per_epoch=3)
      >>> [round(float(schedule(step)), 6) for step in (0, 29, 30, 60)]
      [0.0001, 0.0001, 5e-05, 2.5e-05]
    """
    return optax.exponential_decay(initial, decay_epochs * steps_per_epoch, decay_rate, staircase=True)


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
    images: Float[Array, "B S S 3"],
    labels: Int[Array, "B N"],
    dropout_key: PRNGKeyArray,
    *,
    weighting: Weighting = "balanced",
    beta: float = 0.1,
    reversal_scale: float = 1.0,
    w_cls: float = 1.0,
) -> tuple[Float[Array, ""], StepMetrics]:
    r"""Total loss of a batch, ``w_cls L_cls + w_rev L_rev`` (Eq. 3).

    Args:
      encoder: the model.
      params: its parameters.
      images: [B, S, S, 3], normalised.
      labels: [B, N], -1 = not labelled.
      dropout_key: rng of the dropout.
      weighting: w_rev is ``balanced`` (Eq. 5), ``fixed`` at beta, or ``off`` (0: each head reads its own
        feature only, the ablation of Table 7).
      beta: share of the reversal.
      reversal_scale: lambda of the reversal.
      w_cls: weight of the classification loss.

    Returns:
      The total, and its parts.
    """
    output: Any = encoder.apply(
        params, images, train=True, reversal_scale=reversal_scale, rngs={"dropout": dropout_key}
    )
    loss_cls = classification_loss(output.logits, labels, encoder.schema)
    loss_rev = reversal_loss(output.logits, labels, encoder.schema)
    w_rev = {
        "balanced": balanced_reversal_weight(loss_cls, loss_rev, w_cls=w_cls, beta=beta),
        "fixed": jnp.asarray(beta, jnp.float32),
        "off": jnp.zeros((), jnp.float32),
    }[weighting]
    total = w_cls * loss_cls + w_rev * loss_rev
    return total, StepMetrics(total, loss_cls, loss_rev, w_rev)


def make_train_step(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    **loss_settings: Any,
) -> TrainStep:
    """Jitted (state, uint8 images [B, S, S, 3], labels [B, N]) -> (state, metrics).

    The state is donated: its buffers are reused, and it cannot be used after the call. Flips and dropout
    are pure functions of (seed, step).

    Args:
      encoder: the model.
      optimizer: an Optax optimiser.
      seed: of flips and dropout.
      **loss_settings: keyword arguments of ``encoder_loss``.
    """

    def train_step(state: TrainState, images: Array, labels: Array) -> tuple[TrainState, StepMetrics]:
        flip_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        inputs = normalize_images(random_flip(flip_key, images))

        def loss(params: Any) -> tuple[Array, StepMetrics]:
            return encoder_loss(encoder, params, inputs, labels, dropout_key, **loss_settings)

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(train_step, donate_argnums=0)
