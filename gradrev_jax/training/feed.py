"""Prepares the inputs of steps while the steps before them run."""

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from gradrev_jax.training.stage import RunOptions, Stage

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")

AHEAD = 2  # one that is ready and one in preparation hide any preparation shorter than a step


def step_ranges(first: int, last: int, *, at_most: int, intervals: Iterable[int]) -> Iterator[range]:
    """Yields the steps from first to last in ranges, none of which passes a multiple of an interval.

    Args:
      first: the first step.
      last: the step to end before.
      at_most: the largest number of steps in a range.
      intervals: the numbers of steps after which something else is due; 0: never.

    Example:
      >>> [list(steps) for steps in step_ranges(1, 8, at_most=3, intervals=(5, 0))]
      [[1, 2, 3], [4], [5, 6, 7]]
    """
    start = first
    while start < last:
        stops = (start - start % interval + interval for interval in intervals if interval)
        stop = min(start + at_most, last, *stops)
        yield range(start, stop)
        start = stop


def stage_step_ranges(stage: Stage, options: RunOptions, first: int) -> Iterator[range]:
    """Yields the steps of a stage from the first on, in the ranges that one call takes each."""
    intervals = (stage.epoch_steps, options.checkpoint_every)
    return step_ranges(first, stage.last_step, at_most=options.steps_per_call, intervals=intervals)


def prepare_call(stage: Stage, options: RunOptions, steps: range) -> tuple[range, Any, Any]:
    """Returns some steps, their batches (of inputs, or of rows) on the devices, and their targets."""
    drawn = [stage.batch(step) for step in steps]
    rows = options.parallel.own_rows(np.stack([batch.rows for batch in drawn]))
    batches = options.parallel.place(rows if options.on_device else stage.inputs[rows])
    targets = jax.tree.map(lambda *leaves: np.stack(leaves), *(batch.targets for batch in drawn))
    return steps, batches, targets


class Feed(Generic[Item, Prepared]):
    """Prepares items in a thread, a few ahead of the consumer, and measures how long the consumer waits.

    Use it as a context manager: leaving ends the thread.

    Args:
      prepare: the function from an item to what is consumed; its errors are raised to the consumer.
      items: the items, in order.

    Example:
      >>> with Feed(lambda number: number**2, range(3)) as feed:
      ...     list(feed)
      [0, 1, 4]
    """

    def __init__(self, prepare: Callable[[Item], Prepared], items: Iterable[Item]) -> None:
        self._prepare, self._items = prepare, iter(items)
        self._pool = ThreadPoolExecutor(1, "feed")
        self._pending: collections.deque[Future[Prepared]] = collections.deque()
        self.waited = 0.0
        self._fill()

    def _fill(self) -> None:
        for item in self._items:
            self._pending.append(self._pool.submit(self._prepare, item))
            if len(self._pending) >= AHEAD:
                return

    def __iter__(self) -> "Feed[Item, Prepared]":
        return self

    def __next__(self) -> Prepared:
        if not self._pending:
            raise StopIteration
        start = time.perf_counter()
        prepared = self._pending.popleft().result()
        self.waited += time.perf_counter() - start
        self._fill()
        return prepared

    def __enter__(self) -> "Feed[Item, Prepared]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
