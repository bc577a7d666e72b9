"""Compiles a stage's steps while its first state is computed."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradrev_jax.runs.freed_memory import return_freed_memory
from gradrev_jax.training.parallel import Parallel, Steps, Taken
from gradrev_jax.training.update import TrainState


def compile_ahead(parallel: Parallel, steps: Steps, shapes: TrainState, batches: Any, targets: Any) -> Steps:
    """Compiles steps for the shapes of their first call, before there is a state to call them with.

    The program is the one that a call would compile. Steps of several devices are returned as they are, and
    compiled by their first call.

    Args:
      parallel: the devices.
      steps: the steps, of ``parallel.compile``.
      shapes: the shapes and dtypes of the state.
      batches: the batches of the first call, from ``parallel.place``.
      targets: the targets of the first call.

    Returns:
      The steps; calls with batches of other shapes are compiled when they come.
    """
    lower: Callable[..., Any] | None = getattr(steps, "lower", None)
    if lower is None or len(parallel.devices) > 1:
        return steps
    everywhere = NamedSharding(parallel.mesh, PartitionSpec())
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), shapes
    )
    compiled, shape = lower(state, batches, targets).compile(), batches.shape
    return_freed_memory()  # the compiler's, before the first step needs as much

    def take_steps(state: TrainState, batches: Any, targets: Any) -> tuple[TrainState, Taken]:
        return (compiled if batches.shape == shape else steps)(state, batches, targets)

    return take_steps
