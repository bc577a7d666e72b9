"""Stops training if its caller asks for it: all processes at the same step."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradrev_jax import distributed
from gradrev_jax.models.inputs import Rows

EXCHANGE_SECONDS = 0.5  # between two exchanges of several processes, each of which makes the devices wait
LEAST_SECONDS = 1e-3  # of an interval that is measured, so that no clock makes a rate infinite


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

    Several processes exchange about every half second whether any of them is asked to stop. They count calls
    rather than time, so that all exchange before the same call; the first process measures how many calls
    take half a second, and tells the others.

    Args:
      asked: the function that says whether this process is asked to stop.

    Example:
      >>> should_stop = Stopping(iter([False, True]).__next__)
      >>> should_stop(), should_stop()
      (False, True)
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked
        self._interval = self._calls_left = 1  # in calls: between two exchanges, and until the next
        self._last_exchange: float | None = None

    def __call__(self) -> bool:
        """Returns whether to stop now; every process calls it before the same steps."""
        if jax.process_count() == 1:
            return self._asked()
        self._calls_left -= 1
        if self._calls_left:
            return False
        now = time.monotonic()
        interval = 1
        if self._last_exchange is not None:
            seconds_per_call = max(now - self._last_exchange, LEAST_SECONDS) / self._interval
            interval = max(1, math.floor(EXCHANGE_SECONDS / seconds_per_call))
        own = np.array([self._asked(), interval if distributed.is_first() else 0], np.int32)
        num_asked, self._interval = map(int, distributed.sum_over_processes(own))
        self._calls_left, self._last_exchange = self._interval, now
        return num_asked > 0


class ValidationStopped(Exception):  # noqa: N818
    """Validation was given up because the caller of training asked to stop."""


class StoppableRows:
    """Inputs that raise ``ValidationStopped`` once training is asked to stop, so that validation ends early.

    With several processes they never raise: a process that gave up alone would leave the others waiting.

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
