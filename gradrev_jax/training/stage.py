"""Defines the types that the runner of a stage takes: the stage itself, and how it is run."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import Int

from gradrev_jax.models.inputs import Rows
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.stopping import never
from gradrev_jax.training.update import TrainState, Update
from gradrev_jax.training.validation import Validation


class Batch(NamedTuple):
    """Represents one batch of a stage.

    Attributes:
      rows: [B], rows of the stage's inputs.
      targets: what the update compares them with: labels, or ``MemoryTargets``.
    """

    rows: Int[np.ndarray, " B"]
    targets: Any


@dataclasses.dataclass(frozen=True)
class Stage:
    """Represents one stage of a run.

    Attributes:
      name: its name, in its folder of checkpoints and in its records.
      begin: the function that computes the state before its first step.
      update: the pure update of one step, see ``training.update.make_update``.
      inputs: the inputs of all images that batches are drawn from.
      batch: step -> the batch of this step.
      record: metrics of a step -> what is logged of it.
      validate: params -> their record and score on the held-out part.
      schedule: step -> learning rate.
      batch_size: the number of images per step.
      epoch_steps: the number of steps per epoch.
      last_step: the number of steps in all.
      shapes: the shapes and dtypes of the state, if they are known before it is computed; None: they are not.
      advice: what the user may do if training diverges.
    """

    name: str
    begin: Callable[[], TrainState]
    update: Update
    inputs: Rows
    batch: Callable[[int], Batch]
    record: Callable[[Any], dict[str, Any]]
    validate: Callable[[Any], Validation]
    schedule: optax.Schedule
    batch_size: int
    epoch_steps: int
    last_step: int
    shapes: TrainState | None = None
    advice: str = "lower the learning rate"


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Represents the settings that a stage is run with; none of them changes what a step computes.

    Attributes:
      parallel: the devices that share a batch.
      on_device: whether all inputs are kept on every device, instead of being sent batch by batch.
      steps_per_call: the number of steps compiled into one program; fewer where something is due in between.
      log_every: the number of steps between two records.
      checkpoint_every: the number of steps between two checkpoints besides those at every epoch's end; 0:
        none.
      patient_steps: the number of steps without a better score on the held-out part after which the stage
        ends; None: it runs to its last step.
      progress: whether progress is shown: a bar on a terminal, elsewhere a line per epoch, or minute.
      stop: the function that says whether to save and stop; it is called between steps.
      during_steps: the function that returns a context manager, which is active while there are steps that no
        checkpoint holds yet.
    """

    parallel: Parallel
    on_device: bool = False
    steps_per_call: int = 1
    log_every: int = 20
    checkpoint_every: int = 0
    patient_steps: int | None = None
    progress: bool = True
    stop: Callable[[], bool] = never
    during_steps: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
