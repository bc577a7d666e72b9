"""Running one stage of training: files, clocks and progress around a pure step."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import Int, UInt8
from tqdm import tqdm

from gradrev_jax import distributed
from gradrev_jax.errors import UserError
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoints import PARAMS, REST, Checkpoints
from gradrev_jax.runs.metrics_log import MetricsLog
from gradrev_jax.training.encoder_step import TrainState, Update
from gradrev_jax.training.feed import Feed, calls
from gradrev_jax.training.parallel import Parallel
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
      update: one step, pure; see ``training.steps.make_update``.
      images: uint8 [M, S, S, 3], that batches are drawn from.
      batch: step -> rows of the images, and what the update compares them with.
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
    update: Update
    images: UInt8[np.ndarray, "M S S 3"]
    batch: Callable[[int], tuple[Int[np.ndarray, " B"], Any]]
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
    parallel: Parallel,
    on_device: bool = False,
    steps_per_call: int = 1,
    log_every: int,
    checkpoint_every: int,
    patient_steps: int | None = None,
    progress: bool = True,
) -> TrainState:
    """Train a stage to its last step, going on from its latest checkpoint.

    Args:
      stage: what to run.
      directory: the run's folder.
      parallel: the devices.
      on_device: whether all images are kept there, instead of being sent batch by batch.
      steps_per_call: steps compiled into one program; fewer where something is to be done between.
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
    distributed.wait(f"stage {stage.name}")  # all have seen what was there before it
    state = parallel.replicate(stage.state)
    with Checkpoints(workdir.checkpoint_directory(directory, stage.name)) as checkpoints:
        if checkpoints.latest_step is not None:
            state = _restore(checkpoints, state)
        first_step = int(state.step)
        pixels = parallel.replicate(stage.images) if on_device else None
        compiled = parallel.compile(stage.update, size=stage.batch_size, pixels=pixels)
        coming = calls(
            first_step, stage.last_step, at_most=steps_per_call, ends=(stage.epoch_steps, checkpoint_every)
        )
        with (
            _records(directory, stage.name, first_step) as log,
            tqdm(
                total=stage.last_step, initial=first_step, desc=stage.name, unit="step", disable=not progress
            ) as bar,
            Feed(functools.partial(_prepare, stage, parallel, on_device), coming) as feed,
        ):
            meter = _Meter(stage, feed)
            for steps, inputs, targets in feed:
                if steps.start % stage.epoch_steps == 0 and is_over(
                    checkpoints, stage.last_step, patient_steps
                ):
                    bar.write(f"{stage.name} ends early, no longer better on the held-out part")
                    break
                state, metrics = compiled(state, inputs, targets)
                meter.count(metrics, len(steps))
                done = steps.stop
                epoch = {"stage": stage.name, "step": done, "epoch": done / stage.epoch_steps}
                epoch_ends = done % stage.epoch_steps == 0 or done == stage.last_step
                saves = epoch_ends or (checkpoint_every and done % checkpoint_every == 0)
                if saves or done // log_every > steps.start // log_every:  # a diverged state is never saved
                    record = meter.record(done)
                    log({**epoch, **record})
                    bar.set_postfix({name: f"{record[name]:.3g}" for name in SHOWN if name in record})
                if saves:
                    validation = stage.validate(distributed.local(state.params)) if epoch_ends else None
                    if validation and validation.record:
                        log({**epoch, **validation.record})
                    score = validation.score if validation else None
                    checkpoints.save(done, checkpoint_items(state), score=score)
                    meter.restart()  # neither validation nor copying is part of the training speed
                bar.update(len(steps))
    return state


def _prepare(stage: Stage, parallel: Parallel, on_device: bool, steps: range) -> tuple[range, Any, Any]:
    """Some steps, their images (or the rows of these) on the devices, and their targets."""
    batches = [stage.batch(step) for step in steps]
    own = parallel.own_rows(np.stack([rows for rows, _ in batches]))
    inputs = parallel.place(own if on_device else stage.images[own])
    targets = jax.tree.map(lambda *leaves: np.stack(leaves), *(targets for _, targets in batches))
    return steps, inputs, targets


@contextlib.contextmanager
def _records(
    directory: pathlib.Path, name: str, first_step: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What writes a record of a stage: of several processes, the first one's."""
    if not distributed.is_first():
        yield lambda record: None
        return
    with MetricsLog(directory, name, first_step) as log:
        yield log.write


class _Meter:
    """Speed, waiting and losses between records."""

    def __init__(self, stage: Stage, feed: Feed[Any, Any]) -> None:
        self._stage, self._feed = stage, feed
        self._metrics: Metrics | None = None
        self.restart()

    def restart(self) -> None:
        """Start the clocks."""
        self._start, self._waited, self._steps = time.perf_counter(), self._feed.waited, 0

    def count(self, metrics: Metrics, steps: int) -> None:
        """Take the metrics of some steps, having waited for those before.

        So the host prepares the next batch while the device works, and never runs further ahead.
        """
        jax.block_until_ready(self._metrics)
        self._metrics = metrics
        self._steps += steps

    def record(self, step: int) -> Mapping[str, Any]:
        """What is logged of a step, counted from 1, with the speed since the record before.

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
                f"training diverged: at step {step} of stage {self._stage.name} {parts}; lower "
                f"{self._stage.section}.learning_rate or reversal.beta"
            )
        seconds = time.perf_counter() - self._start
        record = {
            "loss": loss,
            **described,
            "learning_rate": float(self._stage.schedule(step - 1)),
            "images_per_second": self._steps * self._stage.batch_size / seconds,
            "input_wait": (self._feed.waited - self._waited) / seconds,
        }
        self.restart()
        return record


def checkpoint_items(state: TrainState) -> dict[str, Any]:
    """A state as a checkpoint holds it; evaluation reads the parameters alone."""
    return {PARAMS: state.params, REST: {"step": state.step, "opt_state": state.opt_state}}


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    assert checkpoints.latest_step is not None, "there is something to restore"
    items = checkpoints.restore(checkpoints.latest_step, checkpoint_items(state))
    return TrainState(params=items[PARAMS], **items[REST])
