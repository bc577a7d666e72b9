"""Stage 2: one step of memory fine-tuning, as a pure function; ``systems.memory_loss`` has its loss."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from jaxtyping import Array, Int, UInt8

from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.systems.memory_loss import MemoryMetrics, MemoryObjective
from gradrev_jax.systems.objective import MemoryTargets
from gradrev_jax.training.update import TrainState, make_update

ADDE_M = MemoryObjective()

MemoryStep = Callable[
    [
        TrainState,
        UInt8[Array | np.ndarray, "3 B S S 3"],
        Int[Array | np.ndarray, "3 B N"],
        Int[Array | np.ndarray, "B J"],
    ],
    tuple[TrainState, MemoryMetrics],
]


def make_memory_step(
    encoder: AttributeEncoder,
    optimizer: optax.GradientTransformation,
    objective: MemoryObjective = ADDE_M,
    *,
    seed: int,
    total_steps: int,
    mirror: bool = True,
) -> MemoryStep:
    """Returns ``make_update``, jitted for one device; it takes images by triplet, [3, B, S, S, 3].

    The state is donated.

    Args:
      encoder: the model.
      optimizer: the Optax optimizer.
      objective: the loss to minimise.
      seed: the seed of flips and dropout.
      total_steps: the number of steps of the whole stage, which schedules count towards.
      mirror: whether images are mirrored at random.
    """
    update = make_update(encoder, optimizer, objective, seed=seed, total_steps=total_steps, mirror=mirror)

    def memory_step(
        state: TrainState, images: Array, labels: Array, indicators: Array
    ) -> tuple[TrainState, MemoryMetrics]:
        return update(state, images.reshape(-1, *images.shape[2:]), MemoryTargets(labels, indicators), None)

    return jax.jit(memory_step, donate_argnums=0)
