"""Running one stage of training: files, clocks and progress around a pure step."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from tqdm import tqdm

from gradrev_jax import workdir
from gradrev_jax.checkpoints import PARAMS, REST, Checkpoints
from gradrev_jax.errors import UserError
from gradrev_jax.training.steps import TrainState
from gradrev_jax.training.validation import Validation

SHOWN = ("loss_cls", "loss_rev", "w_rev", "images_per_second")  # on the progress bar, where they are logged


class DivergedError(UserError):
    """The loss is no longer a number."""


@runtime_checkable  # so that the tests' type checker can test it
class Metrics(Protocol):
    """What a step reports; ``loss`` is its total."""

    @property
    def loss(self) -> Any:
        """The total."""
        ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      name: of its folder of checkpoints and in its records.
      section: of the config that has its learning rate.
      state: before its first step.
      step: (state, index) -> (state, metrics); a pure function of both, but for the images it reads.
      describe: metrics of a step -> what is logged of it.
      validate: params -> what they are worth on the held-out part.
      schedule: learning rate by step.
      batch_size: images that a step takes.
      epoch_steps: steps an epoch.
      last_step: steps in all.
    """

    name: str
    section: str
    state: TrainState
    step: Callable[[TrainState, int], tuple[TrainState, Metrics]]
    describe: Callable[[Any], dict[str, Any]]
    validate: Callable[[Any], Validation]
    schedule: optax.Schedule
    batch_size: int
    epoch_steps: int
    last_step: int


def has_checkpoint(directory: pathlib.Path, stage: str) -> bool:
    """Whether a stage has been trained, if only in part."""
    path = workdir.checkpoint_directory(directory, stage)
    if not path.is_dir():
        return False
    with Checkpoints(path, read_only=True) as checkpoints:
        return checkpoints.latest_step is not None


def is_over(checkpoints: Checkpoints, last_step: int, patient_steps: int | None) -> bool:
    """Whether a stage has come to its last step, or has not done better for too many on the held-out part."""
    latest, best = checkpoints.latest_step, checkpoints.best_step
    if latest is None or best is None:
        return False
    return latest >= last_step or (patient_steps is not None and latest - best >= patient_steps)


def run_stage(
    stage: Stage,
    directory: pathlib.Path,
    *,
    log_every: int,
    checkpoint_every: int,
    patient_steps: int | None = None,
    progress: bool = True,
) -> TrainState:
    """Train a stage to its last step, going on from its latest checkpoint.

    Args:
      stage: what to run.
      directory: the run's folder.
      log_every: steps between records.
      checkpoint_every: steps between checkpoints besides those at every epoch's end; 0: none.
      patient_steps: steps without a better score on the held-out part after which the stage ends; None: it
        runs to its last step.
      progress: whether progress bars are shown.

    Returns:
      The state after the last step.

    Raises:
      UserError: training diverged, or a file cannot be written or read.
    """
    state = stage.state
    with Checkpoints(workdir.checkpoint_directory(directory, stage.name)) as checkpoints:
        if checkpoints.latest_step is not None:
            state = _restore(checkpoints, state)
        first_step = int(state.step)
        with (
            workdir.MetricsLog(directory, stage.name, first_step) as log,
            tqdm(
                total=stage.last_step,
                initial=first_step,
                desc=stage.name,
                unit="step",
                disable=not progress,
            ) as bar,
        ):
            meter = _Meter(stage)
            for index in range(first_step, stage.last_step):
                if index % stage.epoch_steps == 0 and is_over(checkpoints, stage.last_step, patient_steps):
                    bar.write(f"{stage.name} ends early, no longer better on the held-out part")
                    break
                state, metrics = stage.step(state, index)
                meter.count(metrics)
                done = index + 1
                epoch = {"stage": stage.name, "step": done, "epoch": done / stage.epoch_steps}
                epoch_ends = done % stage.epoch_steps == 0 or done == stage.last_step
                saves = epoch_ends or (checkpoint_every and done % checkpoint_every == 0)
                if saves or done % log_every == 0:  # so a diverged state is never saved
                    record = meter.record(index)
                    log.write({**epoch, **record})
                    bar.set_postfix({name: f"{record[name]:.3g}" for name in SHOWN if name in record})
                if saves:
                    validation = stage.validate(state.params) if epoch_ends else None
                    if validation and validation.record:
                        log.write({**epoch, **validation.record})
                    score = validation.score if validation else None
                    checkpoints.save(done, checkpoint_items(state), score=score)
                    meter.restart()  # neither validation nor copying is part of the training speed
                bar.update()
    return state


class _Meter:
    """Speed and losses between records."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._metrics: Metrics | None = None
        self.restart()

    def restart(self) -> None:
        """Start the clock."""
        self._start, self._steps = time.perf_counter(), 0

    def count(self, metrics: Metrics) -> None:
        """Take a step's metrics, having waited for those of the step before.

        So the host prepares the next batch while the device works, and never runs further ahead.
        """
        jax.block_until_ready(self._metrics)
        self._metrics = metrics
        self._steps += 1

    def record(self, index: int) -> Mapping[str, Any]:
        """What is logged of the last step, with the speed since the record before.

        Raises:
          DivergedError: the loss is not finite.
        """
        assert self._metrics is not None, "count comes first"
        described = self._stage.describe(self._metrics)
        loss = float(self._metrics.loss)
        if not math.isfinite(loss):
            parts = ", ".join(
                f"{name} = {value:g}" for name, value in described.items() if isinstance(value, float)
            )
            raise DivergedError(
                f"training diverged: at step {index + 1} of stage {self._stage.name} {parts}; lower "
                f"{self._stage.section}.learning_rate or reversal.beta"
            )
        speed = self._steps * self._stage.batch_size / (time.perf_counter() - self._start)
        self.restart()
        rate = float(self._stage.schedule(index))
        return {"loss": loss, **described, "learning_rate": rate, "images_per_second": speed}


def checkpoint_items(state: TrainState) -> dict[str, Any]:
    """A state as a checkpoint holds it; evaluation reads the parameters alone."""
    return {PARAMS: state.params, REST: {"step": state.step, "opt_state": state.opt_state}}


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    assert checkpoints.latest_step is not None, "there is something to restore"
    items = checkpoints.restore(checkpoints.latest_step, checkpoint_items(state))
    return TrainState(params=items[PARAMS], **items[REST])
