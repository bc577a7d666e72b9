"""Compiles a stage's steps before there is a state, or an image, to call them with."""

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
    """Returns whether the shapes of a stage's first call are known before it, and one device takes it.

    Args:
      stage: the stage.
      options: how it is run.
    """
    is_alone = len(options.parallel.devices) == 1 and not options.on_device
    return stage.shapes is not None and is_alone


def compile_ahead(stage: Stage, options: RunOptions, first: int) -> CompiledSteps:
    """Compiles a stage's steps for the shapes of their first call.

    The program is the one that the call would compile. Of the stage's inputs, only the shape and the dtype
    matter.

    Args:
      stage: the stage, of which ``can_compile_ahead``.
      options: how it is run.
      first: the first step that is taken, before the last one.

    Returns:
      The steps; calls with batches of other shapes are compiled when they come, and so are all of steps that
      are no jitted function.
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
    return_freed_memory()  # the compiler's, before the first step needs as much

    def take_steps(state: TrainState, batches: Any, targets: Any) -> tuple[TrainState, StepsTaken]:
        return (compiled if batches.shape == shape else steps)(state, batches, targets)

    return take_steps


def start_compiling(stage: Stage, options: RunOptions) -> Future[CompiledSteps] | None:
    """Starts ``compile_ahead`` for the first step of a run, in a thread, for images that are still decoded.

    An error of the images does not wait for the thread; the end of the process does.

    Args:
      stage: the first stage, with inputs of the right shape.
      options: how it is run.

    Returns:
      The steps to come; None: they cannot be compiled ahead.
    """
    if not can_compile_ahead(stage, options) or not stage.last_step:
        return None
    thread = ThreadPoolExecutor(1, "compile")
    compiled = thread.submit(compile_ahead, stage, options, 0)
    thread.shutdown(wait=False)
    return compiled
