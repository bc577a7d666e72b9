"""Defines where a checkpoint lies on the disk: its folder, named by its step, and the score inside."""

import pathlib
import zlib
from typing import Any

SCORE_ITEM = "metrics"  # Orbax's name of the item with the score, and of its file
SCORE, CHECK = "score", "crc32"
STEP_PREFIX = "step"


def step_folder(directory: pathlib.Path, step: int) -> pathlib.Path:
    """Returns the folder of a checkpoint.

    Example:
      >>> step_folder(pathlib.Path("encoder"), 3).name
      'step_3'
    """
    return directory / f"{STEP_PREFIX}_{step}"


def step_of(folder: pathlib.Path) -> int | None:
    """Returns the step of a checkpoint by its folder's name; None: it is no whole one among the others.

    Example:
      >>> [step_of(pathlib.Path(name)) for name in ("step_3", "removed", "step_4.orbax-checkpoint-tmp")]
      [3, None, None]
    """
    prefix, _, number = folder.name.partition("_")
    return int(number) if prefix == STEP_PREFIX and number.isdecimal() else None


def scored(score: float) -> dict[str, float]:
    """Returns the record of a score that a checkpoint keeps, with its checksum.

    Example:
      >>> scored(0.5)
      {'score': 0.5, 'crc32': 2258563469}
    """
    return {SCORE: score, CHECK: zlib.crc32(repr(float(score)).encode())}


def read_score(metrics: Any) -> float:
    """Returns the score of a checkpoint; those of earlier versions have no check.

    Raises:
      ValueError: it is damaged.

    Example:
      >>> read_score(scored(0.5))
      0.5
    """
    score = metrics.get(SCORE) if isinstance(metrics, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError("its score is no number")
    if CHECK in metrics and metrics != scored(score):
        raise ValueError("its score is not the one that was written")
    return float(score)
