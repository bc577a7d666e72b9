"""Removes checkpoints that are no longer kept, without ever leaving a part of one among the others."""

import pathlib
import shutil
from collections.abc import Collection

from gradrev_jax import distributed
from gradrev_jax.errors import CheckpointError, first_line

LATEST = 2  # the newest checkpoints that are kept besides the best: if one is damaged, the other is left
REMOVED = "removed"  # the folder, among those of a stage's steps, that a checkpoint is moved to first


def remove_old(directory: pathlib.Path, folders: Collection[pathlib.Path] = ()) -> None:
    """Removes checkpoints, and the rest of an earlier removal; of several processes, only the first does.

    A checkpoint is moved out of the folder before it is removed, so a process that is killed meanwhile leaves
    no half of it among the others.

    Args:
      directory: the folder of a stage's checkpoints.
      folders: the folders of some of them.

    Raises:
      CheckpointError: they cannot be moved.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     step = pathlib.Path(parent, "step_3")
      ...     step.mkdir()
      ...     remove_old(pathlib.Path(parent), [step])
      ...     list(pathlib.Path(parent).iterdir())
      []
    """
    if not distributed.is_first():
        return
    removed = directory / REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    try:
        for folder in folders:
            removed.mkdir(exist_ok=True)
            folder.rename(removed / folder.name)
    except OSError as error:
        raise CheckpointError(
            f"{directory}: an old checkpoint cannot be removed: {first_line(error)}"
        ) from error
    shutil.rmtree(removed, ignore_errors=True)


def remove_missed(directory: pathlib.Path, folders: Collection[pathlib.Path]) -> None:
    """Removes the checkpoints that an earlier process would have removed, had it not been killed.

    Args:
      directory: the folder of a stage's checkpoints.
      folders: the folders of those that are not kept, which every process has listed.

    Raises:
      CheckpointError: they cannot be moved.
    """
    distributed.barrier(f"listed {directory}")
    remove_old(directory, folders)
    distributed.barrier(f"removed from {directory}")
