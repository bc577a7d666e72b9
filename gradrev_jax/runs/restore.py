"""Restores the parameters of a run from a checkpoint."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradrev_jax.errors import CheckpointError, WorkdirError
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.prototypes import prototype_shape
from gradrev_jax.runs import model_file, workdir
from gradrev_jax.runs.checkpoints import PARAMS, Checkpoints, DamagedCheckpointError
from gradrev_jax.systems.objective import ENCODER, MEMORY


def chosen_stage(directory: pathlib.Path, stages: Sequence[str], wanted: str | None) -> str:
    """Returns the stage of a run that is asked for, or its last.

    Raises:
      WorkdirError: the run has no such stage.

    Example:
      >>> chosen_stage(pathlib.Path("run"), ("encoder", "memory"), None)
      'memory'
    """
    if wanted is not None and wanted not in stages:
        raise WorkdirError(f"{directory} has no stage {wanted!r}; its stages are {', '.join(stages)}")
    return wanted or stages[-1]


class Restored(NamedTuple):
    """The parameters of a checkpoint.

    Attributes:
      step: the step of the checkpoint.
      params: the parameters of the encoder.
      memory: what stage 2 trained beside it: the memory, [J, P, d], or what a learned edit has; or the
        prototypes of a model that is shared. None after stage 1 of a run, which keeps none.
    """

    step: int
    params: Any
    memory: Any


def restore(
    directory: pathlib.Path,
    stage: str,
    encoder: Encoder,
    input_size: int,
    step: str,
    *,
    beside_encoder: Any = None,
) -> Restored:
    """Restores the parameters of a checkpoint, or of a model that is shared.

    Args:
      directory: the run's folder.
      stage: the stage that the checkpoint belongs to.
      encoder: the model of the run.
      input_size: the height and width of its images, or the width of its vectors.
      step: ``best`` (on the validation part), ``latest``, or the number of a checkpoint.
      beside_encoder: the shapes of what stage 2 trains beside the encoder; None: those of a memory [J, P, d].

    Raises:
      UserError: it is not there, damaged, or of another model.
    """
    if model_file.holds_model(directory):
        return _restore_shared(directory, stage, encoder, input_size, step)
    with Checkpoints(workdir.checkpoint_directory(directory, stage), read_only=True) as checkpoints:
        if checkpoints.latest_step is None:
            raise WorkdirError(f"{directory} has no checkpoint of {stage} yet; let train.py reach its first")
        numbers = {str(number): number for number in checkpoints.steps}
        if checkpoints.best_step is not None:
            numbers["best"] = checkpoints.best_step
        numbers["latest"] = checkpoints.latest_step
        if step not in numbers:
            raise WorkdirError(f"{directory} has no checkpoint {step!r}; there are {', '.join(numbers)}")
        number = numbers[step]
        shapes = parameter_shapes(encoder, input_size)
        if stage == ENCODER:
            return Restored(number, _read(checkpoints, number, shapes), None)
        second = prototype_shape(encoder) if beside_encoder is None else beside_encoder
        params = _read(checkpoints, number, {ENCODER: shapes, MEMORY: second})
        return Restored(number, params[ENCODER], params[MEMORY])


def _read(checkpoints: Checkpoints, number: int, shapes: Any) -> Any:
    """Reads the parameters of a checkpoint; if it is damaged, the error names those that are whole."""
    try:
        return checkpoints.restore(number, {PARAMS: shapes})[PARAMS]
    except DamagedCheckpointError as error:
        whole = [
            step for step in checkpoints.steps if step != number and _is_whole(checkpoints, step, shapes)
        ]
        if not whole:
            raise
        reason = str(error).partition("\n")[0]
        steps = ", ".join(f"--step={step}" for step in whole)
        raise CheckpointError(f"{reason}\nIt is damaged; whole checkpoints of this stage: {steps}") from error


def _is_whole(checkpoints: Checkpoints, step: int, shapes: Any) -> bool:
    try:
        checkpoints.restore(step, {PARAMS: shapes})
    except CheckpointError:
        return False
    return True


def _restore_shared(
    directory: pathlib.Path, stage: str, encoder: Encoder, input_size: int, step: str
) -> Restored:
    """Restores the parameters of a model that is shared, which are those of one checkpoint."""
    held = model_file.read_checkpoint(directory)
    if stage != held.stage or step not in ("best", "latest", str(held.step)):
        raise WorkdirError(
            f"{directory} is a model of step {held.step} of {held.stage} alone; there is no {step!r} of "
            f"{stage}"
        )
    params = model_file.read_tree(directory, model_file.ENCODER, parameter_shapes(encoder, input_size))
    memory = prototype_shape(encoder)
    return Restored(
        held.step,
        jax.tree.map(jnp.asarray, params),
        jnp.asarray(model_file.read_tree(directory, model_file.MEMORY, memory)),
    )
