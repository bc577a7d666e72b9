"""Stops training where its caller asks for it, all processes at the same step."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradrev_jax import distributed
from gradrev_jax.models.inputs import Rows

SECONDS = 0.5  # between two exchanges of several processes, each of which makes the devices wait


class TrainingStopped(Exception):  # noqa: N818 (nothing has gone wrong)
    """Training was stopped because its caller asked for it; all steps done are saved.

    Attributes:
      stage: the stage that was stopped.
      step: the number of its steps that are done.
    """

    def __init__(self, stage: str, step: int) -> None:
        super().__init__(f"stopped after step {step} of stage {stage}, which is saved")
        self.stage, self.step = stage, step


def never() -> bool:
    """Never asks to stop.

    Example:
      >>> never()
      False
    """
    return False


class Stopping:
    """Decides whether to stop before the next call of steps, for all processes alike.

    Several processes exchange what they are asked for about every half second; the first process's speed
    decides before how many calls.

    Args:
      asked: the function that says whether this process is asked to stop.

    Example:
      >>> stops = Stopping(iter([False, True]).__next__)
      >>> stops(), stops()
      (False, True)
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked
        self._calls = self._left = 1
        self._last: float | None = None

    def __call__(self) -> bool:
        """Returns whether to stop now; every process calls it before the same steps."""
        if jax.process_count() == 1:
            return self._asked()
        self._left -= 1
        if self._left:
            return False
        now = time.monotonic()
        wanted = 1
        if self._last is not None:
            each = max(now - self._last, 1e-3) / self._calls
            wanted = max(1, math.floor(SECONDS / each))
        told = np.array([self._asked(), wanted if distributed.is_first() else 0], np.int32)
        stops, self._calls = map(int, distributed.sum_over_processes(told))
        self._left, self._last = self._calls, now
        return stops > 0


class ValidationStopped(Exception):  # noqa: N818
    """Validation was given up because the caller of training asked to stop."""


class StoppableRows:
    """Inputs that raise ``ValidationStopped`` once training is asked to stop, so that no validation need end.

    With several processes they are always read: one that gave up alone would leave the others waiting.

    Args:
      rows: the inputs.
      asked: the function that says whether this process is asked to stop.
    """

    def __init__(self, rows: Rows, asked: Callable[[], bool]) -> None:
        self._rows, self._asked = rows, asked
        self.shape, self.dtype = rows.shape, rows.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns the inputs of some items.

        Raises:
          ValidationStopped: this process is asked to stop.
        """
        if jax.process_count() == 1 and self._asked():
            raise ValidationStopped
        return self._rows[rows]
