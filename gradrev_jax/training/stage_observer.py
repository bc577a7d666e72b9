"""Does what is due after the steps of a stage: records, validation, checkpoints, early stopping."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gradrev_jax import distributed
from gradrev_jax.errors import DivergedError
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoints import PARAMS, REST, Checkpoints
from gradrev_jax.training.feed import Feed
from gradrev_jax.training.parallel import Taken
from gradrev_jax.training.stage import RunOptions, Stage
from gradrev_jax.training.update import TrainState

SHOWN = ("loss_cls", "loss_rev", "w_rev", "images_per_second")  # on the progress bar, where they are logged


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


class SpeedMeter:
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
        """Returns what is logged of a step, counted from 1, with the speed since the record before."""
        assert self._metrics is not None, "count comes first"
        seconds = time.perf_counter() - self._start
        record = {
            "loss": float(self._metrics.loss),
            **self._stage.describe(self._metrics),
            "learning_rate": float(self._stage.schedule(step - 1)),
            "images_per_second": self._steps * self._stage.batch_size / seconds,
            "input_wait": (self._feed.waited - self._waited) / seconds,
        }
        self.restart()
        return record


class StageObserver:
    """Does what is due after the steps of a stage: records, checkpoints, validation, early stopping."""

    def __init__(
        self,
        stage: Stage,
        options: RunOptions,
        checkpoints: Checkpoints,
        log: Callable[[Mapping[str, Any]], None],
        bar: Any,
        meter: SpeedMeter,
    ) -> None:
        self._stage, self._options, self._checkpoints = stage, options, checkpoints
        self._log, self._bar, self._meter = log, bar, meter
        self._taken: tuple[range, Taken] | None = None

    def ends_before(self, step: int) -> bool:
        """Returns whether the stage ends early before a step, no longer better on the held-out part."""
        patient_steps = self._options.patient_steps
        if step % self._stage.epoch_steps or not is_over(
            self._checkpoints, self._stage.last_step, patient_steps
        ):
            return False
        self._bar.write(f"{self._stage.name} ends early, no longer better on the held-out part")
        return True

    def observe(self, state: TrainState, taken: Taken, steps: range) -> None:
        """Records, validates and saves where it is due after some steps.

        Raises:
          DivergedError: these steps are not finite and something is due, or those before are not.
        """
        stage, options, done = self._stage, self._options, steps.stop
        self._meter.count(taken.metrics, len(steps))
        self._check()  # the steps before, which are computed by now: so the host waits for nothing
        self._taken = steps, taken
        epoch = {"stage": stage.name, "step": done, "epoch": done / stage.epoch_steps}
        epoch_ends = done % stage.epoch_steps == 0 or done == stage.last_step
        saves = epoch_ends or (options.checkpoint_every and done % options.checkpoint_every == 0)
        if saves or done // options.log_every > steps.start // options.log_every:
            self._check()  # so that what is not finite is never recorded, validated or saved
            record = self._meter.record(done)
            self._log({**epoch, **record})
            self._bar.set_postfix({name: f"{record[name]:.3g}" for name in SHOWN if name in record})
        if saves:
            validation = stage.validate(distributed.addressable(state.params)) if epoch_ends else None
            if validation and validation.record:
                self._log({**epoch, **validation.record})
            score = validation.score if validation else None
            self._checkpoints.save(done, checkpoint_items(state), score=score)
            self._meter.restart()  # neither validation nor copying is part of the training speed
        self._bar.update(len(steps))

    def _check(self) -> None:
        """Raises unless the steps that were taken last, and the state after them, are finite.

        Raises:
          DivergedError: they are not; the message has the first that is not, its losses and what to try.
        """
        if self._taken is None:
            return
        steps, (metrics, finite) = self._taken
        if int(finite) == len(steps):
            return
        stage, latest = self._stage, self._checkpoints.latest_step
        described = {"loss": float(metrics.loss), **stage.describe(metrics)}
        losses = {name: value for name, value in described.items() if isinstance(value, float)}
        parts = ", ".join(f"{name} = {value:g}" for name, value in losses.items())
        if np.isfinite(list(losses.values())).all():
            parts += ", but the parameters after it, or their moments, are not finite"
        kept = "there is no checkpoint yet" if latest is None else f"the checkpoint of step {latest} is kept"
        raise DivergedError(
            f"training diverged: at step {steps.start + int(finite) + 1} of stage {stage.name} {parts}; "
            f"{kept}. In a new --workdir, {stage.advice}."
        )


def checkpoint_items(state: TrainState) -> dict[str, Any]:
    """Returns a state as a checkpoint holds it; evaluation reads the parameters alone."""
    rest = {name: part for name, part in state._asdict().items() if name != PARAMS and part is not None}
    return {PARAMS: state.params, REST: rest}
