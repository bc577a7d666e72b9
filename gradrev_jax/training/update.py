"""One step of gradient descent on an objective, as a pure function."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images, random_flip
from gradrev_jax.models.shards import BatchShard

# Names under which a profile of a step has these parts; see benchmarks/step_profile.py.
INPUT_SCOPE, OPTIMIZER_SCOPE = "input", "optimizer"


class TrainState(NamedTuple):
    """All that a step changes; everything random is derived from the seed and ``step``."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


class Objective(abc.ABC):
    """Represents the loss that a stage minimises, with its settings."""

    @abc.abstractmethod
    def loss(
        self,
        encoder: AttributeEncoder,
        params: Any,
        images: Float[Array, "_ S S 3"],
        targets: Any,
        *,
        dropout_key: PRNGKeyArray,
        progress: Float[Array, ""],
        shard: BatchShard | None,
    ) -> tuple[Float[Array, ""], Any]:
        """Computes the total loss of a batch, and the metrics that a step reports.

        Args:
          encoder: the model.
          params: its parameters, with those of a memory where the stage has one.
          images: [B, S, S, 3], normalised; those of a shard, if there is one.
          targets: what the images are compared with, of the whole batch: labels, or ``MemoryTargets``.
          dropout_key: the random key of the dropout.
          progress: the fraction of the training that is done, for schedules.
          shard: the part of the batch that the images are; None: all of it.
        """


# An update: (state, uint8 images of a shard, targets of the whole batch, shard) -> (state, metrics).
Update = Callable[[TrainState, UInt8[Array, "b S S 3"], Any, BatchShard | None], tuple[TrainState, Any]]


def make_update(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    seed: int,
    total_steps: int = 1,
    mirror: bool = True,
) -> Update:
    """Returns a pure update: flip and normalise images, compute the loss and its gradient, descend.

    Flips and dropout are pure functions of (seed, step).

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      objective: the loss to minimise.
      seed: the seed of flips and dropout.
      total_steps: the number of steps of the whole training, which schedules of the objective count towards.
      mirror: whether images are mirrored at random.
    """

    def update(
        state: TrainState, images: Array, targets: Any, shard: BatchShard | None = None
    ) -> tuple[TrainState, Any]:
        flip_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        with jax.named_scope(INPUT_SCOPE):
            inputs = normalize_images(random_flip(flip_key, images, shard) if mirror else images)
        progress = state.step / total_steps

        def loss(params: Any) -> tuple[Array, Any]:
            return objective.loss(
                encoder, params, inputs, targets, dropout_key=dropout_key, progress=progress, shard=shard
            )

        return descend(state, loss, optimizer, shard)

    return update


def descend(
    state: TrainState,
    loss: Callable[[Any], tuple[Array, Any]],
    optimizer: optax.GradientTransformation,
    shard: BatchShard | None,
) -> tuple[TrainState, Any]:
    """Takes one step down the gradient of a loss of the whole batch; returns the loss's metrics too."""
    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    if shard is not None and shard.axis:
        gradients = jax.lax.pmean(gradients, shard.axis)  # see whole_batch
    with jax.named_scope(OPTIMIZER_SCOPE):
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics
