"""Finds checkpoints whose score cannot be read, and moves damaged ones aside."""

import contextlib
import json
import pathlib
import shutil

from gradrev_jax.errors import CheckpointError, first_line
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.runs.checkpoint_layout import SCORE_ITEM, STEP_PREFIX, read_score, step_of

DAMAGED = "damaged"  # the folder, among those of a stage's steps


def set_unscored_aside(directory: pathlib.Path) -> list[str]:
    """Moves the checkpoints of a stage aside whose score is damaged, without which none of them can be used.

    Args:
      directory: the folder of the stage's checkpoints.

    Returns:
      What was found, and where it lies now, a sentence each.

    Raises:
      CheckpointError: there is no other checkpoint; nothing is moved.
    """
    folders = [each for each in directory.glob(f"{STEP_PREFIX}_*") if step_of(each) is not None]
    folders.sort(key=lambda each: step_of(each) or 0, reverse=True)
    found = {folder: reason for folder in folders if (reason := _score_fault(folder))}
    if found and len(found) == len(folders):
        folder, reason = next(iter(found.items()))
        raise CheckpointError(
            f"cannot go on from {folder}: {reason}\nIt is damaged, and there is no other checkpoint; restore "
            "it from a copy, or remove it to start afresh."
        )
    return [set_aside(folder, reason) for folder, reason in reversed(found.items())]


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error, without the kilobytes that TensorStore appends to it.

    Args:
      error: the error that reading a checkpoint raised.

    Example:
      >>> reason_of(ValueError("NOT_FOUND: no such file [tensorstore_spec='{}']"))
      'NOT_FOUND: no such file'
    """
    return first_line(error).partition(" [tensorstore_spec=")[0]


def set_aside(folder: pathlib.Path, reason: str) -> str:
    """Moves a checkpoint into the folder of the damaged ones, which keeps only the last one moved there.

    Args:
      folder: the folder of the checkpoint.
      reason: what is wrong with it.

    Returns:
      What was done, in a sentence.

    Raises:
      CheckpointError: it cannot be moved.
    """
    kept = folder.parent / DAMAGED
    try:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(exist_ok=True)
        folder.rename(kept / folder.name)
    except OSError as error:
        raise CheckpointError(f"{folder} is damaged and cannot be moved: {first_line(error)}") from error
    return f"the checkpoint {folder} is damaged ({reason}) and lies in {kept / folder.name} now"


def unusable_file(folder: pathlib.Path) -> str | None:
    """Returns the first file that is empty or a Git LFS pointer, with a word on it; Orbax writes neither.

    Example:
      >>> unusable_file(pathlib.Path("/no/such/folder"))
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(OSError), path.open("rb") as file:
            start = file.read(HEAD)
            if not start:
                return f"{path} is empty"
            if is_lfs_pointer(start):
                return f"{path} {LFS_ADVICE}"
    return None


def _score_fault(folder: pathlib.Path) -> str | None:
    """Describes the damage of a checkpoint's score; None: it is whole, or there is none."""
    path = folder / SCORE_ITEM / SCORE_ITEM
    try:
        read_score(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return f"{path} is missing" if path.parent.is_dir() else None
    except ValueError as error:
        return first_line(error)
    return None
