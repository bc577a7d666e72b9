"""Runs several processes of one variant at the same time."""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from benchmarks.side_by_side.turns import Worker


class Together:
    """Workers that run together; use it as a context manager.

    Several workers are not stopped between their turns, because JAX considers a process dead if it is silent
    for a hundred seconds; they sleep until the next request.

    Args:
      kind: the name of a function of ``jax_side``.
      arguments: the arguments of that function for each worker.
    """

    def __init__(self, kind: str, arguments: Sequence[Mapping[str, Any]]) -> None:
        alone = len(arguments) == 1
        self._workers = [Worker("jax", kind, own, "cpu", stopped=alone) for own in arguments]
        self._pool = ThreadPoolExecutor(len(arguments))

    def start(self) -> dict[str, float]:
        """Starts all workers; returns the seconds of the slowest worker for each part of the start."""
        parts = list(self._pool.map(Worker.start, self._workers))
        return {name: max(part[name] for part in parts) for name in parts[0]}

    def turn(self) -> dict[str, Any]:
        """Runs a turn; returns the first worker's answer, with the slowest seconds and the memory of all."""
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
        # All at the same time, because a process that has joined others ends only when they do.
        list(self._pool.map(lambda worker: worker.__exit__(kind, error, trace), self._workers))
        self._pool.shutdown()


def processes(count: int, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the arguments of several processes that connect to each other on this machine."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        coordinator = f"localhost:{listener.getsockname()[1]}"
    together = {"coordinator": coordinator, "processes": count}
    return [{**arguments, **together, "process": process} for process in range(count)]
