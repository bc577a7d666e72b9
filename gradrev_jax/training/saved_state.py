"""Reads the state of a stage from its checkpoints, and whether the stage has begun or is over."""

import pathlib
from typing import Any

from gradrev_jax.errors import CheckpointError
from gradrev_jax.files import naming_unreadable
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoints import PARAMS, REST, Checkpoints
from gradrev_jax.training.update import TrainState


def has_checkpoint(directory: pathlib.Path, stage: str) -> bool:
    """Returns whether a stage has been trained, if only in part."""
    path = workdir.checkpoint_directory(directory, stage)
    with naming_unreadable(path, CheckpointError):
        is_there = path.is_dir()
    if not is_there:
        return False
    with Checkpoints(path, read_only=True) as checkpoints:
        return checkpoints.latest_step is not None


def is_over(checkpoints: Checkpoints, last_step: int, patient_steps: int | None) -> bool:
    """Returns whether a stage is at its last step, or without a better held-out score for too many steps."""
    latest, best = checkpoints.latest_step, checkpoints.first_best_step
    if latest is None or best is None:
        return False
    return latest >= last_step or (patient_steps is not None and latest - best >= patient_steps)


def checkpoint_items(state: TrainState) -> dict[str, Any]:
    """Returns a state as a checkpoint holds it; evaluation reads the parameters alone."""
    rest = {name: part for name, part in state._asdict().items() if name != PARAMS and part is not None}
    return {PARAMS: state.params, REST: rest}


def restore_state(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    """Restores the state of the latest checkpoint.

    Args:
      checkpoints: the checkpoints of the stage.
      state: the state before the first step, which gives the shapes.
    """
    items = checkpoints.restore_latest(checkpoint_items(state))
    return TrainState(params=items[PARAMS], **items[REST])
