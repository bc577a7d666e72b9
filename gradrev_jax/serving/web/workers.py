"""Threads with a queue that is bounded, so that the event loop never waits and a crowd is told so."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gradrev_jax.serving.web.refusals import Refused

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]
CLIENT_IS_GONE = 499  # a status that nobody receives


class Workers:
    """Runs work in a few threads; refuses it when too much waits, drops it when its client has gone.

    Args:
      name: the kind of work, for messages and the names of threads: ``searches``.
      threads: the number of threads.
      waiting: the number of works that may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name, self.threads, self.most = name, threads, threads + waiting
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._taken = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T], receive: Receive | None = None) -> T:
        """Calls a function in one of the threads, and returns its result.

        Args:
          work: the function.
          receive: ASGI's function that tells of a client who has gone; the work is dropped if it waits.

        Raises:
          Refused: the queue is full (503), or the client has gone.
        """
        with self._lock:
            if self._taken >= self.most:
                raise overloaded(self.name)
            self._taken += 1
            waits = self._taken > self.threads
        try:
            submitted = self._pool.submit(work)
        except RuntimeError:  # the server is ending
            self._leave(None)
            raise Refused("the server is ending", 503) from None
        submitted.add_done_callback(self._leave)
        if receive is None or not waits:
            return await asyncio.wrap_future(submitted)
        return await _unless_gone(submitted, receive)

    def _leave(self, _: Any) -> None:
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Ends the threads after the work they are at; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def overloaded(what: str) -> Refused:
    """Returns the refusal of a server that has too much to do.

    Args:
      what: the kind of work that there is too much of, in the plural.

    Example:
      >>> overloaded("searches").status
      503
    """
    message = f"the server is overloaded: too many {what} at once; try again in a second"
    return Refused(message, 503, {"retry-after": "1"})


async def _unless_gone(submitted: "concurrent.futures.Future[T]", receive: Receive) -> T:
    """Returns the result of work, or drops it when the client closes the connection."""
    answer = asyncio.wrap_future(submitted)

    async def disconnected() -> Any:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone: asyncio.Future[Any] = asyncio.ensure_future(disconnected())
    try:
        both: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refused("the client has gone", CLIENT_IS_GONE)
        return answer.result()
    finally:
        gone.cancel()
        submitted.cancel()  # at once; that of the other future would wait for the event loop
