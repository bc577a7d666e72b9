"""Stage 1: the first state and one step of its training; ``systems.encoder_loss`` has its loss."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from jaxtyping import Array, Int, UInt8

from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.initialization import parameter_shapes, random_parameters
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.encoder_loss import EncoderObjective, StepMetrics
from gradrev_jax.training.update import TrainState, make_update

PAPER = EncoderObjective()

TrainStep = Callable[
    [TrainState, UInt8[Array | np.ndarray, "B S S 3"], Int[Array | np.ndarray, "B N"]],
    tuple[TrainState, StepMetrics],
]


def init_state(
    encoder: Encoder, optimizer: optax.GradientTransformation, *, input_size: int, seed: int
) -> TrainState:
    """Creates the initial state, a pure function of the seed.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      input_size: the height and width of the images, or the width of the vectors.
      seed: the seed of the parameters.
    """
    return TrainState.begin(random_parameters(encoder, input_size=input_size, seed=seed), optimizer)


def state_shapes(encoder: Encoder, optimizer: optax.GradientTransformation, *, input_size: int) -> TrainState:
    """Returns the shapes and dtypes of the initial state; computes no parameter.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      input_size: the height and width of the images, or the width of the vectors.
    """
    begin = functools.partial(TrainState.begin, optimizer=optimizer)
    return jax.eval_shape(begin, parameter_shapes(encoder, input_size))


def make_train_step(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    objective: EncoderObjective = PAPER,
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
