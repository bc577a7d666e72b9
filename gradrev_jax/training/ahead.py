"""Compiles the steps of a stage ahead of time, from the shapes of their arguments alone."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradrev_jax.runs.freed_memory import return_freed_memory
from gradrev_jax.training.feed import prepare_call, stage_step_ranges
from gradrev_jax.training.parallel import CompiledSteps, StepsTaken
from gradrev_jax.training.stage import RunOptions, Stage
from gradrev_jax.training.update import TrainState


def can_compile_ahead(stage: Stage, options: RunOptions) -> bool:
    """Returns whether a stage can be compiled ahead: on one device, and with shapes that are known.

    Args:
      stage: the stage.
      options: how it is run.
    """
    is_alone = len(options.parallel.devices) == 1 and not options.on_device
    return stage.shapes is not None and is_alone


def compile_ahead(stage: Stage, options: RunOptions, first: int) -> CompiledSteps:
    """Compiles a stage's steps for the shapes of their first call.

    The program is the one that this call would compile. Only the shape and the dtype of the stage's inputs
    matter, not their values.

    Args:
      stage: the stage, for which ``can_compile_ahead`` is true.
      options: how it is run.
      first: the first step that is taken; at least one is left.

    Returns:
      The compiled steps. A call with batches of another shape is compiled when it comes, and so is every call
      if the steps are not a jitted function.
    """
    parallel = options.parallel
    everywhere = NamedSharding(parallel.mesh, PartitionSpec())
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), stage.shapes
    )
    _, batches, targets = prepare_call(stage, options, next(stage_step_ranges(stage, options, first)))
    steps = parallel.compile(stage.update, size=stage.batch_size)
    lower: Callable[..., Any] | None = getattr(steps, "lower", None)
    if lower is None:
        return steps
    compiled, shape = lower(state, batches, targets).compile(), batches.shape
    return_freed_memory()  # what the compiler has freed, before the first step needs as much

    def take_steps(state: TrainState, batches: Any, targets: Any) -> tuple[TrainState, StepsTaken]:
        return (compiled if batches.shape == shape else steps)(state, batches, targets)

    return take_steps


def start_compiling(stage: Stage, options: RunOptions) -> Future[CompiledSteps] | None:
    """Starts ``compile_ahead`` for a run's first step in a thread, so that images are decoded meanwhile.

    If decoding fails, its error is raised without waiting for the thread; only the process waits, at its end.

    Args:
      stage: the first stage, with inputs of the right shape.
      options: how it is run.

    Returns:
      The future of the compiled steps; None: they cannot be compiled ahead.
    """
    if not can_compile_ahead(stage, options) or not stage.last_step:
        return None
    thread = ThreadPoolExecutor(1, "compile")
    compiled = thread.submit(compile_ahead, stage, options, 0)
    thread.shutdown(wait=False)
    return compiled
