"""Stage 1: the first state and one step of its training; ``systems.encoder_loss`` has its loss."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Int, PRNGKeyArray, UInt8

from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.encoder_loss import EncoderObjective, StepMetrics
from gradrev_jax.training.update import TrainState, make_update

PAPER = EncoderObjective()

TrainStep = Callable[
    [TrainState, UInt8[Array | np.ndarray, "B S S 3"], Int[Array | np.ndarray, "B N"]],
    tuple[TrainState, StepMetrics],
]


# A program that runs once is compiled with few optimisations: on a CPU, in less than half of the time.
RUN_ONCE = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True}


@functools.lru_cache(maxsize=8)  # so that equal encoders are compiled once in a process
def _jitted_init(encoder: Encoder, input_size: int) -> Callable[[PRNGKeyArray], Any]:
    def init(key: PRNGKeyArray) -> Any:
        return encoder.init(key, encoder.inputs.example(input_size))

    return jax.jit(init, compiler_options=RUN_ONCE if jax.default_backend() == "cpu" else None)


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
    params = _jitted_init(encoder, input_size)(jax.random.key(seed))
    return TrainState.begin(params, optimizer)


def state_shapes(encoder: Encoder, optimizer: optax.GradientTransformation, *, input_size: int) -> TrainState:
    """Returns the shapes and dtypes of the initial state; computes no parameter.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      input_size: the height and width of the images, or the width of the vectors.
    """

    def begin(key: PRNGKeyArray) -> TrainState:
        return TrainState.begin(encoder.init(key, encoder.inputs.example(input_size)), optimizer)

    return jax.eval_shape(begin, jax.random.key(0))


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
