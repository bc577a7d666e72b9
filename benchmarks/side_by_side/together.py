"""Several processes of one variant, which do their part at the same time."""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from benchmarks.side_by_side.turns import Worker


class Together:
    """Workers that are asked together; use it as a context manager.

    Several are not stopped in between, because JAX takes a process that is silent for a hundred seconds for
    dead; they sleep until they are asked.

    Args:
      kind: a function of ``jax_side``.
      arguments: of each worker's.
    """

    def __init__(self, kind: str, arguments: Sequence[Mapping[str, Any]]) -> None:
        alone = len(arguments) == 1
        self._workers = [Worker("jax", kind, each, "cpu", stopped=alone) for each in arguments]
        self._pool = ThreadPoolExecutor(len(arguments))

    def start(self) -> dict[str, float]:
        """Seconds that each part of the start takes the slowest."""
        parts = list(self._pool.map(Worker.start, self._workers))
        return {name: max(part[name] for part in parts) for name in parts[0]}

    def turn(self) -> dict[str, Any]:
        """What the first says, with the seconds of the slowest and the memory of all."""
        answers = list(self._pool.map(Worker.turn, self._workers))
        return {
            **answers[0],
            "seconds": max(answer["seconds"] for answer in answers),
            "peak_bytes": sum(answer["peak_bytes"] for answer in answers),
        }

    def __enter__(self) -> "Together":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once, because a process that has joined others does not end before they do.
        list(self._pool.map(lambda worker: worker.__exit__(kind, error, trace), self._workers))
        self._pool.shutdown()


def processes(count: int, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of each of several processes that find each other on this machine."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        coordinator = f"localhost:{listener.getsockname()[1]}"
    together = {"coordinator": coordinator, "processes": count}
    return [{**arguments, **together, "process": process} for process in range(count)]
