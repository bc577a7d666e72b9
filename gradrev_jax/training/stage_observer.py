"""Logs, validates and saves after the steps of a stage, and may end it early."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax

from gradrev_jax import distributed
from gradrev_jax.errors import DivergedError
from gradrev_jax.progress import ProgressBar, tell
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.training.feed import Feed
from gradrev_jax.training.parallel import StepsTaken
from gradrev_jax.training.saved_state import checkpoint_items, is_over
from gradrev_jax.training.stage import RunOptions, Stage
from gradrev_jax.training.stopping import TrainingStopped, ValidationStopped
from gradrev_jax.training.update import TrainState, all_finite
from gradrev_jax.training.validation import Validation

_all_finite = jax.jit(all_finite)
# Quantities that are shown on the progress bar, or in the lines in its place, if they are logged.
SHOWN = ("loss_cls", "loss_rev", "w_rev", "images_per_second")
PATIENCE = 60.0  # seconds within an epoch until the next line, where no bar can be drawn
LEAST_SECONDS = 1e-6  # of an interval that is measured, so that no clock makes a speed infinite


class SpeedMeter:
    """Measures speed, waiting and losses between two records."""

    def __init__(self, stage: Stage, feed: Feed[Any, Any]) -> None:
        self._stage, self._feed = stage, feed
        self._learning_rate = jax.jit(stage.schedule)  # one program in place of one per operation
        self._metrics: Any = None
        self.restart()

    def restart(self) -> None:
        """Starts the clocks."""
        self._start, self._waited, self._steps = time.perf_counter(), self._feed.waited, 0

    def count(self, metrics: Any, steps: int) -> None:
        """Waits for the metrics of the previous call, and keeps those of this one.

        So the host prepares the next batch while the device works, but is never more than one call ahead.
        """
        jax.block_until_ready(self._metrics)
        self._metrics = metrics
        self._steps += steps

    def record(self, step: int) -> Mapping[str, Any]:
        """Returns the record of a step, counted from 1, with the speed since the record before."""
        assert self._metrics is not None, "count comes first"
        seconds = max(time.perf_counter() - self._start, LEAST_SECONDS)
        metrics = jax.device_get(self._metrics)  # all in one transfer
        record = {
            "loss": float(metrics.loss),
            **self._stage.record(metrics),
            "learning_rate": float(self._learning_rate(step - 1)),
            "images_per_second": self._steps * self._stage.batch_size / seconds,
            "input_wait": (self._feed.waited - self._waited) / seconds,
        }
        self.restart()
        return record


class StageObserver:
    """Logs, validates and saves after steps; ends a stage early."""

    def __init__(
        self,
        stage: Stage,
        options: RunOptions,
        checkpoints: Checkpoints,
        log: Callable[[Mapping[str, Any]], None],
        bar: ProgressBar,
        meter: SpeedMeter,
    ) -> None:
        self._stage, self._options, self._checkpoints = stage, options, checkpoints
        self._log, self._bar, self._meter = log, bar, meter
        self._taken: tuple[range, StepsTaken] | None = None
        self._has_lines = options.progress and bar.disable
        self._told = time.perf_counter()

    def ends_before(self, step: int) -> bool:
        """Returns whether the stage ends before a step, because its held-out score no longer improves."""
        patient_steps = self._options.patient_steps
        # Scores are only known once the last checkpoint is written, so this waits for it only after an epoch.
        if patient_steps is None or step % self._stage.epoch_steps:
            return False
        if not is_over(self._checkpoints, self._stage.last_step, patient_steps):
            return False
        self._bar.write(f"{self._stage.name} ends early, no longer better on the held-out part")
        return True

    def observe(self, state: TrainState, taken: StepsTaken, steps: range) -> None:
        """Records, validates and saves where it is due after some steps.

        Raises:
          DivergedError: the metrics of the previous call are not finite, or this call's if something is due.
        """
        options, done = self._options, steps.stop
        self._meter.count(taken.metrics, len(steps))
        self._check_steps()  # those of the previous call, which are computed by now, so nothing is waited for
        self._taken = steps, taken
        epoch_ends = self._epoch_ends(done)
        saves = epoch_ends or (options.checkpoint_every and done % options.checkpoint_every == 0)
        if saves or done // options.log_every > steps.start // options.log_every:
            self._check_steps()  # so that what is not finite is never recorded, validated or saved
            record = self._meter.record(done)
            self._log({**self._record_keys(done), **record})
            shown = {name: f"{record[name]:.3g}" for name in SHOWN if name in record}
            self._bar.set_postfix(shown)
            if not epoch_ends and time.perf_counter() - self._told >= PATIENCE:
                self._tell(done, shown)
        if saves:
            self._check_state(state, done)
            validation = self._validate(state, done) if epoch_ends else Validation({}, None)
            self._record(validation, done)
            if epoch_ends:
                self._tell(done, shown, validation.score)
            self._checkpoints.save(done, checkpoint_items(state), score=validation.score)
            self._meter.restart()  # neither validation nor copying is part of the training speed
        self._bar.update(len(steps))

    def stop_before(self, step: int, state: TrainState) -> NoReturn:
        """Saves a state, unless it is saved or has diverged, and stops the stage before a step.

        Raises:
          TrainingStopped: always.
          DivergedError: the loss is not finite.
        """
        if self._taken is not None:
            self._check_steps()
            self._check_state(state, step)
            self._checkpoints.save(step, checkpoint_items(state))
        raise TrainingStopped(self._stage.name, step)

    def validate_late(self, state: TrainState, is_recorded: Callable[[int], bool]) -> None:
        """Validates the state that a stage goes on from, if it was stopped before that state was validated.

        The record is written after the score, so a validation that is recorded has its score in the
        checkpoint.

        Args:
          state: the state.
          is_recorded: the function that says whether the validation after a step is recorded.
        """
        done = int(state.step)
        if not self._epoch_ends(done) or self._checkpoints.latest_step != done or is_recorded(done):
            return
        validation = self._validate(state, done)
        if validation.score is not None and not self._checkpoints.has_score(done):
            self._checkpoints.add_score(done, validation.score)
        self._record(validation, done)

    def _validate(self, state: TrainState, done: int) -> Validation:
        """Validates a state on the held-out part.

        Raises:
          TrainingStopped: validation was given up; the state is saved without a score.
        """
        try:
            return self._stage.validate(distributed.addressable(state.params))
        except ValidationStopped as error:
            self._checkpoints.save(done, checkpoint_items(state))
            raise TrainingStopped(self._stage.name, done) from error

    def _record(self, validation: Validation, done: int) -> None:
        if validation.record:
            self._log({**self._record_keys(done), **validation.record})

    def _tell(self, done: int, shown: Mapping[str, str], score: float | None = None) -> None:
        """Prints how far training is, where no bar can be drawn."""
        if not self._has_lines:
            return
        epoch = done / self._stage.epoch_steps
        parts = [f"{self._stage.name}: step {done:,} of {self._stage.last_step:,}, epoch {epoch:.4g}"]
        parts.append(", ".join(f"{name} {value}" for name, value in shown.items()))
        if score is not None:
            parts.append(f"{score:.4g} on the held-out part")
        tell("; ".join(parts))
        self._told = time.perf_counter()

    def _epoch_ends(self, done: int) -> bool:
        return done > 0 and (done % self._stage.epoch_steps == 0 or done == self._stage.last_step)

    def _record_keys(self, done: int) -> dict[str, Any]:
        return {"stage": self._stage.name, "step": done, "epoch": done / self._stage.epoch_steps}

    def _check_steps(self) -> None:
        """Raises unless the metrics of the steps that were taken last are finite.

        Raises:
          DivergedError: they are not; the message has the first step whose are not, and its losses.
        """
        if self._taken is None:
            return
        steps, (metrics, num_finite) = self._taken
        if int(num_finite) < len(steps):
            described = {"loss": float(metrics.loss), **self._stage.record(metrics)}
            losses = {name: value for name, value in described.items() if isinstance(value, float)}
            parts = ", ".join(f"{name} = {value:g}" for name, value in losses.items())
            raise self._diverged(
                f"at step {steps.start + int(num_finite) + 1} of stage {self._stage.name} {parts}"
            )

    def _check_state(self, state: TrainState, done: int) -> None:
        """Raises unless a state that is about to be saved is finite.

        Not after every step: that would read all parameters and moments once more.

        Raises:
          DivergedError: it is not.
        """
        if not _all_finite(distributed.addressable(state)):
            place = f"after step {done} of stage {self._stage.name}"
            raise self._diverged(f"{place} the parameters, or their moments, are not finite")

    def _diverged(self, where: str) -> DivergedError:
        """Returns the error of a training that diverged, with what is left of it and what to try."""
        latest = self._checkpoints.latest_step
        kept = "there is no checkpoint yet" if latest is None else f"the checkpoint of step {latest} is kept"
        return DivergedError(f"training diverged: {where}; {kept}. In a new --workdir, {self._stage.advice}.")
