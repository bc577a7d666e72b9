"""Runs a function in a background thread while the caller does other work."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

from gradrev_jax.core.workers import NUM_WORKERS

RaiseIfCancelled: TypeAlias = Callable[[], None]
Found = TypeVar("Found")


@contextlib.contextmanager
def run_in_background(function: Callable[[RaiseIfCancelled], Found]) -> Iterator[Callable[[], Found]]:
    """Runs a function in a background thread while the ``with`` block is executed.

    If the block raises, as on Ctrl-C, the function is cancelled at its next call of ``raise_if_cancelled``.
    The error of the block is propagated then, without waiting for the function's result.

    During the block, BLAS uses at most half of the cores: its threads spin for a while after each product,
    and would take the cores from the other work.

    Args:
      function: the function to run. Its argument is ``raise_if_cancelled``, which it calls between the parts
        of its work; this raises CancelledError once the block has failed.

    Yields:
      The function that waits for the result and returns it.

    Example:
      >>> with run_in_background(lambda raise_if_cancelled: 6 * 7) as wait:
      ...     print("other work", wait())
      other work 42
    """
    has_failed = threading.Event()

    def raise_if_cancelled() -> None:
        if has_failed.is_set():
            raise CancelledError

    # threadpool_limits sets the number of threads, and could raise it: an earlier, lower limit stays.
    threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    limit = min([max(1, NUM_WORKERS // 2), *threads])
    with threadpool_limits(limit, user_api="blas"), ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(function, raise_if_cancelled).result
        except BaseException:
            has_failed.set()
            raise
