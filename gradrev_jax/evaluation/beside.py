"""Computes something in a thread, beside other work."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

from gradrev_jax.core.workers import NUM_WORKERS

GoOn: TypeAlias = Callable[[], None]
Found = TypeVar("Found")


@contextlib.contextmanager
def computing_beside(function: Callable[[GoOn], Found]) -> Iterator[Callable[[], Found]]:
    """Computes something in a thread during a block.

    If the block raises, as on Ctrl-C, the function ends at its next call of ``go_on``; the error waits for
    this, and not for the result.

    During the block, BLAS has half of the cores at most: its threads spin for a while after each product,
    which takes the cores from the other work.

    Args:
      function: the function to call; between the parts of its work it calls ``go_on``, its argument, which
        raises CancelledError once the block has ended in an error.

    Yields:
      The function that waits for the result and returns it.

    Example:
      >>> with computing_beside(lambda go_on: 6 * 7) as wait:
      ...     print("other work", wait())
      other work 42
    """
    has_failed = threading.Event()

    def go_on() -> None:
        if has_failed.is_set():
            raise CancelledError

    # The number that is set is no bound: more than there were must not be.
    threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    limit = min([max(1, NUM_WORKERS // 2), *threads])
    with threadpool_limits(limit, user_api="blas"), ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(function, go_on).result
        except BaseException:
            has_failed.set()
            raise
