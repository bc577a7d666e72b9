"""The training loop: files, clocks and progress around the pure step."""

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict
from tqdm import tqdm

from gradrev_jax import settings, workdir
from gradrev_jax.checkpoints import PARAMS, REST, Checkpoints
from gradrev_jax.data.batches import batch_rows, steps_per_epoch
from gradrev_jax.data.catalogue import TRAIN, VALIDATION, Catalogue
from gradrev_jax.errors import UserError
from gradrev_jax.metrics import AccuracySummary, accuracy_summary
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.training.steps import (
    StepMetrics,
    TrainState,
    TrainStep,
    init_state,
    learning_rate_schedule,
    make_train_step,
)

STAGE = "encoder"
SHOWN = ("loss_cls", "loss_rev", "w_rev", "images_per_second")  # on the progress bar


class DivergedError(UserError):
    """The loss is no longer a number."""


def train(config: ConfigDict, directory: pathlib.Path, *, progress: bool = True) -> TrainState:
    """Train the encoder of a config in a folder, or go on with the run that is there.

    Args:
      config: as ``configs/default.py`` has it.
      directory: the run's folder; what a run leaves there is in docs/design.md.
      progress: whether progress bars are shown.

    Returns:
      The state after the last step.

    Raises:
      UserError: the config, the catalogue or the folder cannot be used, or training diverged.
    """
    settings.check(config)
    catalogue = settings.open_catalogue(config)
    epoch_steps = steps_per_epoch(len(catalogue.parts[TRAIN]), config.train.batch_size)
    workdir.claim(directory, config.to_dict())
    workdir.claim_schema(directory, catalogue.schema)
    images = {part: settings.open_images(catalogue, part, config) for part in (TRAIN, VALIDATION)}

    encoder = settings.build_encoder(config, catalogue.schema)
    schedule, optimizer, step = _optimization(config, encoder, epoch_steps)
    state = init_state(encoder, optimizer, image_size=config.data.image_size, seed=config.seed)
    labels = catalogue.part_labels(TRAIN)
    validate = _validator(encoder, images[VALIDATION], catalogue, config.protocol.batch_size, progress)
    last_step = min(config.train.epochs * epoch_steps, config.train.max_steps or math.inf)
    checkpoint_every = config.train.checkpoint_every or last_step

    with Checkpoints(directory / "checkpoints" / STAGE) as checkpoints:
        if checkpoints.latest_step is not None:
            state = _restore(checkpoints, state)
        first_step = int(state.step)
        with (
            workdir.MetricsLog(directory, first_step) as log,
            tqdm(total=last_step, initial=first_step, desc=STAGE, unit="step", disable=not progress) as bar,
        ):
            meter = _Meter(config.train.batch_size)
            for index in range(first_step, last_step):
                rows = batch_rows(
                    config.seed, index, num_images=len(labels), batch_size=config.train.batch_size
                )
                state, metrics = step(state, images[TRAIN][rows], labels[rows])
                meter.count(metrics)
                done = index + 1
                epoch_ends = done % epoch_steps == 0 or done == last_step
                saves = epoch_ends or done % checkpoint_every == 0
                if saves or done % config.train.log_every == 0:  # so a diverged state is never saved
                    record = meter.record(done, done / epoch_steps, float(schedule(index)))
                    log.write(record)
                    bar.set_postfix({name: f"{record[name]:.3g}" for name in SHOWN})
                if saves:
                    accuracy = validate(state.params) if epoch_ends else None
                    if accuracy:
                        epoch = {"stage": STAGE, "step": done, "epoch": done / epoch_steps}
                        log.write({**epoch, "validation_accuracy": accuracy})
                    macro = accuracy["macro"] if accuracy else None
                    checkpoints.save(done, _items(state), validation_accuracy=macro)
                    meter.restart()  # neither validation nor copying is part of the training speed
                bar.update()
    return state


def _optimization(
    config: ConfigDict, encoder: AttributeEncoder, epoch_steps: int
) -> tuple[optax.Schedule, optax.GradientTransformation, TrainStep]:
    """Learning rate, optimiser and jitted step of a config."""
    schedule = learning_rate_schedule(
        config.train.learning_rate,
        decay_rate=config.train.decay_rate,
        decay_epochs=config.train.decay_epochs,
        steps_per_epoch=epoch_steps,
    )
    optimizer = optax.adam(schedule)
    step = make_train_step(
        encoder,
        optimizer,
        seed=config.seed,
        weighting=config.reversal.weighting,
        beta=config.reversal.beta,
        reversal_scale=config.reversal.scale,
        w_cls=config.train.classification_weight,
    )
    return schedule, optimizer, step


class _Meter:
    """Speed and losses between records."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._metrics: StepMetrics | None = None
        self.restart()

    def restart(self) -> None:
        """Start the clock."""
        self._start, self._steps = time.perf_counter(), 0

    def count(self, metrics: StepMetrics) -> None:
        """Take a step's metrics, having waited for those of the step before.

        So the host prepares the next batch while the device works, and never runs further ahead.
        """
        jax.block_until_ready(self._metrics)
        self._metrics = metrics
        self._steps += 1

    def record(self, step: int, epoch: float, learning_rate: float) -> dict[str, Any]:
        """What is logged of the last step, with the speed since the record before.

        Raises:
          DivergedError: the loss is not finite.
        """
        assert self._metrics is not None, "count comes first"
        loss, loss_cls, loss_rev, w_rev = (float(value) for value in self._metrics)
        if not math.isfinite(loss):
            raise DivergedError(
                f"training diverged: at step {step} loss_cls = {loss_cls:g}, loss_rev = {loss_rev:g} and "
                f"w_rev = {w_rev:g}; lower train.learning_rate or reversal.beta"
            )
        speed = self._steps * self._batch_size / (time.perf_counter() - self._start)
        self.restart()
        return {
            "stage": STAGE,
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "loss_cls": loss_cls,
            "loss_rev": loss_rev,
            "w_rev": w_rev,
            "learning_rate": learning_rate,
            "images_per_second": speed,
        }


def _validator(
    encoder: AttributeEncoder, images: np.ndarray, catalogue: Catalogue, batch_size: int, progress: bool
) -> Callable[[Any], AccuracySummary | None]:
    """Params -> attribute accuracy on the validation part; None where nothing there is labelled."""
    forward = make_forward(encoder)
    labels = catalogue.part_labels(VALIDATION)

    def validate(params: Any) -> AccuracySummary | None:
        encoded = encode(
            forward,
            params,
            images,
            labels,
            encoder,
            batch_size=batch_size,
            description=VALIDATION,
            progress=progress,
        )
        if not encoded.labelled.any():
            return None
        return accuracy_summary(encoded.correct.diagonal(), encoded.labelled, encoder.schema)

    return validate


def _items(state: TrainState) -> dict[str, Any]:
    """A state as a checkpoint holds it; evaluation reads the parameters alone."""
    return {PARAMS: state.params, REST: {"step": state.step, "opt_state": state.opt_state}}


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    assert checkpoints.latest_step is not None, "there is something to restore"
    items = checkpoints.restore(checkpoints.latest_step, _items(state))
    return TrainState(params=items[PARAMS], **items[REST])
