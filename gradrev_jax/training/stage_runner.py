"""Runs one stage of training: files, clocks and progress around a pure step."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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
from gradrev_jax.training.feed import Feed, calls
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.update import TrainState, Update
from gradrev_jax.training.validation import Validation

SHOWN = ("loss_cls", "loss_rev", "w_rev", "images_per_second")  # on the progress bar, where they are logged


class DivergedError(UserError):
    """The loss is no longer a number."""


class Batch(NamedTuple):
    """One batch of a stage.

    Attributes:
      rows: [B], the rows of the stage's images.
      targets: what the update compares the images with: labels, or ``MemoryTargets``.
    """

    rows: Int[np.ndarray, " B"]
    targets: Any


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      name: its name, in its folder of checkpoints and in its records.
      section: the section of the config that has its learning rate.
      state: the state before its first step.
      update: the pure update of one step, see ``training.update.make_update``.
      images: uint8 [M, S, S, 3], the images that batches are drawn from.
      batch: step -> the batch of this step.
      describe: metrics of a step -> what is logged of it.
      validate: params -> their record and score on the held-out part.
      schedule: step -> learning rate.
      batch_size: the number of images per step.
      epoch_steps: the number of steps per epoch.
      last_step: the number of steps in all.
    """

    name: str
    section: str
    state: TrainState
    update: Update
    images: UInt8[np.ndarray, "M S S 3"]
    batch: Callable[[int], Batch]
    describe: Callable[[Any], dict[str, Any]]
    validate: Callable[[Any], Validation]
    schedule: optax.Schedule
    batch_size: int
    epoch_steps: int
    last_step: int


def has_checkpoint(directory: pathlib.Path, stage: str) -> bool:
    """Returns whether a stage has been trained, if only in part."""
    path = workdir.checkpoint_directory(directory, stage)
    if not path.is_dir():
        return False
    with Checkpoints(path, read_only=True) as checkpoints:
        return checkpoints.latest_step is not None


def is_over(checkpoints: Checkpoints, last_step: int, patient_steps: int | None) -> bool:
    """Returns whether a stage is at its last step, or without a better held-out score for too many steps."""
    latest, best = checkpoints.latest_step, checkpoints.best_step
    if latest is None or best is None:
        return False
    return latest >= last_step or (patient_steps is not None and latest - best >= patient_steps)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a stage is run; nothing of it changes what a step computes.

    Attributes:
      parallel: the devices that share a batch.
      on_device: whether all images are kept on every device, instead of being sent batch by batch.
      steps_per_call: the number of steps compiled into one program; fewer where something is due in between.
      log_every: the number of steps between two records.
      checkpoint_every: the number of steps between two checkpoints besides those at every epoch's end; 0:
        none.
      patient_steps: the number of steps without a better score on the held-out part after which the stage
        ends; None: it runs to its last step.
      progress: whether a progress bar is shown.
    """

    parallel: Parallel
    on_device: bool = False
    steps_per_call: int = 1
    log_every: int = 20
    checkpoint_every: int = 0
    patient_steps: int | None = None
    progress: bool = True


def run_stage(stage: Stage, directory: pathlib.Path, options: RunOptions) -> TrainState:
    """Trains a stage to its last step, going on from its latest checkpoint.

    Args:
      stage: the stage.
      directory: the run's folder.
      options: how it is run.

    Returns:
      The state after the last step.

    Raises:
      UserError: training diverged, or a file cannot be written or read.
    """
    distributed.wait(f"stage {stage.name}")  # all have seen what was there before it
    state = options.parallel.replicate(stage.state)
    with Checkpoints(workdir.checkpoint_directory(directory, stage.name)) as checkpoints:
        if checkpoints.latest_step is not None:
            state = _restore(checkpoints, state)
        pixels = options.parallel.replicate(stage.images) if options.on_device else None
        compiled = options.parallel.compile(stage.update, size=stage.batch_size, pixels=pixels)
        first_step = int(state.step)
        with (
            _records(directory, stage.name, first_step) as log,
            tqdm(
                total=stage.last_step,
                initial=first_step,
                desc=stage.name,
                unit="step",
                disable=not options.progress,
            ) as bar,
            _feed(stage, options, first_step) as feed,
        ):
            observer = _Observer(stage, options, checkpoints, log, bar, _Meter(stage, feed))
            for steps, inputs, targets in feed:
                if observer.ends_before(steps.start):
                    break
                state, metrics = compiled(state, inputs, targets)
                observer.observe(state, metrics, steps)
    return state


def _feed(stage: Stage, options: RunOptions, first_step: int) -> Feed[range, tuple[range, Any, Any]]:
    """Prepares the inputs of the coming calls ahead of them."""
    coming = calls(
        first_step,
        stage.last_step,
        at_most=options.steps_per_call,
        ends=(stage.epoch_steps, options.checkpoint_every),
    )
    return Feed(functools.partial(_prepare, stage, options), coming)


def _prepare(stage: Stage, options: RunOptions, steps: range) -> tuple[range, Any, Any]:
    """Returns some steps, their images (or the rows of these) on the devices, and their targets."""
    batches = [stage.batch(step) for step in steps]
    rows = options.parallel.own_rows(np.stack([batch.rows for batch in batches]))
    inputs = options.parallel.place(rows if options.on_device else stage.images[rows])
    targets = jax.tree.map(lambda *leaves: np.stack(leaves), *(batch.targets for batch in batches))
    return steps, inputs, targets


class _Observer:
    """Does what is due after the steps of a stage: records, checkpoints, validation, early stopping."""

    def __init__(
        self,
        stage: Stage,
        options: RunOptions,
        checkpoints: Checkpoints,
        log: Callable[[Mapping[str, Any]], None],
        bar: Any,
        meter: "_Meter",
    ) -> None:
        self._stage, self._options, self._checkpoints = stage, options, checkpoints
        self._log, self._bar, self._meter = log, bar, meter

    def ends_before(self, step: int) -> bool:
        """Returns whether the stage ends early before a step, no longer better on the held-out part."""
        patient_steps = self._options.patient_steps
        if step % self._stage.epoch_steps or not is_over(
            self._checkpoints, self._stage.last_step, patient_steps
        ):
            return False
        self._bar.write(f"{self._stage.name} ends early, no longer better on the held-out part")
        return True

    def observe(self, state: TrainState, metrics: Any, steps: range) -> None:
        """Records, validates and saves where it is due after some steps."""
        stage, options, done = self._stage, self._options, steps.stop
        self._meter.count(metrics, len(steps))
        epoch = {"stage": stage.name, "step": done, "epoch": done / stage.epoch_steps}
        epoch_ends = done % stage.epoch_steps == 0 or done == stage.last_step
        saves = epoch_ends or (options.checkpoint_every and done % options.checkpoint_every == 0)
        # A state is recorded before it is saved, so that a diverged one never is.
        if saves or done // options.log_every > steps.start // options.log_every:
            record = self._meter.record(done)
            self._log({**epoch, **record})
            self._bar.set_postfix({name: f"{record[name]:.3g}" for name in SHOWN if name in record})
        if saves:
            validation = stage.validate(distributed.local(state.params)) if epoch_ends else None
            if validation and validation.record:
                self._log({**epoch, **validation.record})
            score = validation.score if validation else None
            self._checkpoints.save(done, checkpoint_items(state), score=score)
            self._meter.restart()  # neither validation nor copying is part of the training speed
        self._bar.update(len(steps))


@contextlib.contextmanager
def _records(
    directory: pathlib.Path, name: str, first_step: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that writes a record of a stage; only the first of several processes writes."""
    if not distributed.is_first():
        yield lambda record: None
        return
    with MetricsLog(directory, name, first_step) as log:
        yield log.write


class _Meter:
    """Measures speed, waiting and losses between two records."""

    def __init__(self, stage: Stage, feed: Feed[Any, Any]) -> None:
        self._stage, self._feed = stage, feed
        self._metrics: Any = None
        self.restart()

    def restart(self) -> None:
        """Starts the clocks."""
        self._start, self._waited, self._steps = time.perf_counter(), self._feed.waited, 0

    def count(self, metrics: Any, steps: int) -> None:
        """Takes the metrics of some steps, after those before them are computed.

        So the host prepares the next batch while the device works, and never runs further ahead.
        """
        jax.block_until_ready(self._metrics)
        self._metrics = metrics
        self._steps += steps

    def record(self, step: int) -> Mapping[str, Any]:
        """Returns what is logged of a step, counted from 1, with the speed since the record before.

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
    """Returns a state as a checkpoint holds it; evaluation reads the parameters alone."""
    return {PARAMS: state.params, REST: {"step": state.step, "opt_state": state.opt_state}}


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    assert checkpoints.latest_step is not None, "there is something to restore"
    items = checkpoints.restore(checkpoints.latest_step, checkpoint_items(state))
    return TrainState(params=items[PARAMS], **items[REST])
