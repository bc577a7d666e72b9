"""Measuring a case: one process a variant, all warmed up, then one turn after the other."""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from benchmarks.side_by_side.cases import VARIANTS, Case

ROOT = pathlib.Path(__file__).parents[2]


class WorkerError(RuntimeError):
    """A side could not do its part."""


class Worker:
    """A process of ``benchmarks.side_by_side.worker``; use it as a context manager.

    While it is not asked it is stopped, with all that it has started: threads that wait by spinning, as some
    libraries' do, would take the cores from the one whose turn it is.

    Args:
      side: ``jax`` or ``torch``.
      kind: of the case, a function of that side.
      arguments: of the function.
      device: ``cpu`` or ``cuda``.
      stopped: whether it is, while it is not asked.
    """

    def __init__(
        self, side: str, kind: str, arguments: Mapping[str, Any], device: str, *, stopped: bool = True
    ) -> None:
        self._stopped = stopped
        environment = {
            **os.environ,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # the time to the first step has compilation in it
        }
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side_by_side.worker"],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._request = json.dumps({"side": side, "kind": kind, "arguments": dict(arguments)})

    def start(self) -> dict[str, float]:
        """Prepare the case and do it for the first time; seconds of each."""
        return self._ask(self._request)

    def turn(self) -> dict[str, Any]:
        """Do it once more."""
        return self._ask("run")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._stopped:
            self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer and self._stopped:
            self._signal(signal.SIGSTOP)
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            lines = [line.strip() for line in self._errors if line.strip()]
            raise WorkerError(lines[-1] if lines else f"ended with status {self._process.returncode}")
        content: dict[str, Any] = json.loads(answer)
        return content

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGCONT if kind is None else signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
        self._errors.close()


def measure(
    case: Case, device: str, *, arguments: Mapping[str, Any], skip: Mapping[str, str]
) -> dict[str, Any]:
    """Measure a case.

    Args:
      case: what.
      device: ``cpu`` or ``cuda``.
      arguments: of both sides' functions; a variant may add its own.
      skip: side -> why it cannot be measured.

    Returns:
      ``results`` by variant, and ``skipped``: variant -> why.
    """
    skipped: dict[str, str] = {}
    started: dict[str, tuple[Worker, dict[str, float]]] = {}
    turns: dict[str, list[dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        for variant in case.variants:
            side, options = VARIANTS[variant]
            if side in skip:
                skipped[variant] = skip[side]
                continue
            worker = stack.enter_context(Worker(side, case.kind, {**arguments, **options}, device))
            try:
                started[variant] = worker, worker.start()
                for _ in range(case.warm_up):
                    worker.turn()
                turns[variant] = []
            except WorkerError as error:
                skipped[variant] = str(error)
        for _ in range(case.repeats):
            for variant in list(turns):
                try:
                    turns[variant].append(started[variant][0].turn())
                except WorkerError as error:
                    del turns[variant]
                    skipped[variant] = str(error)
    return {
        "results": {variant: summary(started[variant][1], results) for variant, results in turns.items()},
        "skipped": skipped,
    }


def summary(first: Mapping[str, float], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and spread of a variant's turns."""
    seconds = [turn["seconds"] for turn in turns]
    median = statistics.median(seconds)
    result = {
        "median_seconds": median,
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "turns": len(turns),
        "units": turns[-1]["units"],
        "units_per_second": turns[-1]["units"] / median,
        "first_seconds": first["first"],
        "seconds_to_first": sum(first.values()),
        "peak_memory_gib": max(turn["peak_bytes"] for turn in turns) / 2**30,
    }
    result |= {name: turns[-1][name] for name in ("images", "loss", "metrics") if name in turns[-1]}
    if "parts" in turns[-1]:
        result["median_seconds_of_parts"] = {
            part: statistics.median(turn["parts"][part] for turn in turns) for part in turns[-1]["parts"]
        }
    return result
