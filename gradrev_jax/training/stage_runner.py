"""Runs one stage of training: checkpoints, records and progress around its compiled steps."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from gradrev_jax import distributed
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.loggers.loggers import Loggers
from gradrev_jax.runs.metrics_log import MetricsLog, read_records
from gradrev_jax.training.ahead import can_compile_ahead, compile_ahead
from gradrev_jax.training.feed import Feed, prepare_call, stage_step_ranges
from gradrev_jax.training.parallel import CompiledSteps
from gradrev_jax.training.saved_state import is_over, restore_state
from gradrev_jax.training.stage import RunOptions, Stage
from gradrev_jax.training.stage_observer import SpeedMeter, StageObserver
from gradrev_jax.training.stopping import Stopping
from gradrev_jax.training.update import TrainState


def run_stage(
    stage: Stage,
    directory: pathlib.Path,
    options: RunOptions,
    loggers: Loggers | None = None,
    compiling: Future[CompiledSteps] | None = None,
) -> TrainState:
    """Trains a stage to its last step, going on from its latest checkpoint.

    Args:
      stage: the stage.
      directory: the run's folder.
      options: how it is run.
      loggers: the loggers of the run; None: metrics.jsonl alone.
      compiling: the future of the compiled steps, if a thread compiles them already, see ``start_compiling``.

    Returns:
      The state after the last step.

    Raises:
      UserError: training diverged, or a file cannot be written or read.
      TrainingStopped: `options.stop` asked for it; the steps done are saved.
    """
    distributed.barrier(
        f"stage {stage.name}"
    )  # all processes have seen the checkpoints that were there before it
    should_stop = Stopping(options.stop)
    with (
        contextlib.ExitStack() as during_steps,  # until the last checkpoint is written
        Checkpoints(workdir.checkpoint_directory(directory, stage.name)) as checkpoints,
    ):
        state, compiled = _begin(stage, options, compiling, _next_step(stage, options, checkpoints))
        if checkpoints.latest_step is not None:
            state = restore_state(checkpoints, state)
        first_step = int(state.step)
        _tell_if_beyond(stage, first_step)
        with (
            _records(directory, stage.name, first_step, loggers) as log,
            ProgressBar(
                total=stage.last_step,
                initial=first_step,
                desc=stage.name,
                unit="step",
                progress=options.progress,
            ) as bar,
            _feed(stage, options, first_step) as feed,
        ):
            observer = StageObserver(stage, options, checkpoints, log, bar, SpeedMeter(stage, feed))
            observer.validate_late(state, functools.partial(_is_validated, directory, stage.name))
            for steps, batches, targets in feed:
                if observer.ends_before(steps.start):
                    break
                if should_stop():
                    observer.stop_before(steps.start, state)
                state, taken = compiled(state, batches, targets)
                if steps.start == first_step:  # until now, there was no step to lose
                    during_steps.enter_context(options.during_steps())
                observer.observe(state, taken, steps)
    return state


def _next_step(stage: Stage, options: RunOptions, checkpoints: Checkpoints) -> int | None:
    """Returns the next step, which is the number of steps done; None: the stage is over."""
    done = checkpoints.latest_step or 0
    is_done = done >= stage.last_step or is_over(checkpoints, stage.last_step, options.patient_steps)
    return None if is_done else done


def _tell_if_beyond(stage: Stage, first_step: int) -> None:
    """Tells of a stage that has gone further than its config leads."""
    if first_step > stage.last_step:
        distributed.say(
            f"the {stage.name} has taken {first_step:,} steps already, more than the {stage.last_step:,} of "
            "this config, and stays as it is; its checkpoints of later steps count, too"
        )


def _begin(
    stage: Stage, options: RunOptions, compiling: Future[CompiledSteps] | None, first: int | None
) -> tuple[TrainState, CompiledSteps]:
    """Computes the first state of a stage, and compiles its steps meanwhile if their shapes are known.

    Args:
      stage: the stage.
      options: how it is run.
      compiling: the future of the compiled steps, if a thread compiles them already.
      first: the first step that is taken; None: there is none, so that nothing is compiled.
    """
    parallel = options.parallel
    if first is None or not can_compile_ahead(stage, options):
        resident = parallel.replicate(np.asarray(stage.inputs)) if options.on_device else None
        steps = parallel.compile(stage.update, size=stage.batch_size, resident_inputs=resident)
        return parallel.replicate(stage.begin()), steps
    with ThreadPoolExecutor(1, "begin") as aside:
        begun = aside.submit(stage.begin)
        steps = compile_ahead(stage, options, first) if compiling is None else compiling.result()
        return parallel.replicate(begun.result()), steps


def _is_validated(directory: pathlib.Path, name: str, step: int) -> bool:
    """Returns whether the validation of a stage after a step is recorded; records of steps have a loss."""
    return any(
        (record["stage"], record["step"]) == (name, step) and "loss" not in record
        for record in read_records(directory / workdir.METRICS)
    )


def _feed(stage: Stage, options: RunOptions, first_step: int) -> Feed[range, tuple[range, Any, Any]]:
    """Prepares the batches of the coming calls ahead of them."""
    return Feed(
        functools.partial(prepare_call, stage, options), stage_step_ranges(stage, options, first_step)
    )


@contextlib.contextmanager
def _records(
    directory: pathlib.Path, name: str, first_step: int, loggers: Loggers | None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that writes a record of a stage; only the first of several processes writes."""
    if not distributed.is_first():
        yield lambda record: None
        return
    with MetricsLog(directory, name, first_step, loggers) as log:
        yield log.write
