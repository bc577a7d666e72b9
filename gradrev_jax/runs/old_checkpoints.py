"""Removes checkpoints that are not kept, so that none is ever there in part."""

import pathlib
import shutil
from collections.abc import Iterable

REMOVED = "removed"  # the folder, among those of a stage's steps, that a checkpoint is moved to first


def remove_old(directory: pathlib.Path, folders: Iterable[pathlib.Path]) -> None:
    """Removes the folders of checkpoints, and what a process that was killed has left of such a removal.

    A folder is moved before it is removed: of a process that is killed meanwhile, no half remains among the
    checkpoints.

    Args:
      directory: the folder of a stage's checkpoints.
      folders: the folders of some of them.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     step = pathlib.Path(parent, "step_3")
      ...     step.mkdir()
      ...     remove_old(pathlib.Path(parent), [step])
      ...     list(pathlib.Path(parent).iterdir())
      []
    """
    removed = directory / REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    for folder in folders:
        removed.mkdir(exist_ok=True)
        folder.rename(removed / folder.name)
    shutil.rmtree(removed, ignore_errors=True)
