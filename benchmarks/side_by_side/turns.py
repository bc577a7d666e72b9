"""Measures a case: one process per variant; all are warmed up, and then take turns."""

import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from benchmarks.program_cache import without_program_cache
from benchmarks.side_by_side.cases import VARIANTS, Case

ROOT = pathlib.Path(__file__).parents[2]
LONGEST_REASON = 300  # the number of characters of an error that are kept
COMPILERS = max(1, (os.cpu_count() or 1) // 2)  # torch.compile variants that start at the same time


class WorkerError(RuntimeError):
    """Error of a worker that could not run its case."""


def reason(printed: Iterable[str]) -> str:
    """Returns the last error that a program printed, or its last line: JAX adds notes after its errors.

    Args:
      printed: the lines that the program printed.

    Example:
      >>> reason(["Traceback ...", "ValueError: too large", "For simplicity, JAX has removed its frames"])
      'ValueError: too large'
    """
    lines = [line.strip() for line in printed if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return next(iter([*errors[-1:], *lines[-1:]]), "")[:LONGEST_REASON]


class Worker:
    """A process of ``benchmarks.side_by_side.worker``; use it as a context manager.

    Between its turns it is stopped, with all its child processes, because threads that wait by spinning, as
    in some libraries, would take the cores from the worker whose turn it is.

    Args:
      side: the side, ``jax`` or ``torch``.
      kind: the kind of the case, which is the name of a function of that side.
      arguments: the arguments of the function.
      device: the device, ``cpu`` or ``cuda``.
      stopped: whether the process is stopped between its turns.
    """

    def __init__(
        self, side: str, kind: str, arguments: Mapping[str, Any], device: str, *, stopped: bool = True
    ) -> None:
        self._stopped = stopped
        environment = {
            **without_program_cache(),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # the time to the first step includes compilation
        }
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        else:  # several variants may compile at the same time
            environment |= {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, COMPILERS // 2))}
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
        """Prepares the case and runs it for the first time; returns the seconds of each part."""
        return self._ask(self._request)

    def turn(self) -> dict[str, Any]:
        """Runs the case once more; returns the answer of the worker."""
        return self._ask("run")

    def kill(self) -> None:
        """Kills the process immediately."""
        self._signal(signal.SIGKILL)

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
            raise WorkerError(reason(self._errors) or f"ended with status {self._process.returncode}")
        content: dict[str, Any] = json.loads(answer)
        return content

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and its children."""
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


class Lineup:
    """The workers of a case.

    Args:
      case: the case that they run.
      device: the device, ``cpu`` or ``cuda``.
      arguments: the arguments of both sides' functions; a variant may add its own.
      skip: the sides that cannot be measured, each with the reason.
      stack: the stack that ends the workers on exit.
    """

    def __init__(
        self,
        case: Case,
        device: str,
        *,
        arguments: Mapping[str, Any],
        skip: Mapping[str, str],
        stack: contextlib.ExitStack,
    ) -> None:
        self._case, self._device, self._arguments, self._stack = case, device, arguments, stack
        sides = {variant: VARIANTS[variant][0] for variant in case.variants}
        self._skipped = {variant: skip[side] for variant, side in sides.items() if side in skip}
        self._started: dict[str, tuple[Worker, dict[str, float]]] = {}

    def variants(self, *, compiled: bool | None = None) -> list[str]:
        """Returns the variants to measure: all, only those with ``torch.compile``, or only those without."""
        return [
            variant
            for variant in self._case.variants
            if variant not in self._skipped and compiled in (None, VARIANTS[variant][1].get("compile", False))
        ]

    def start(self, variant: str, *, alone: bool = True) -> None:
        """Starts a variant and warms it up; skips it if it fails.

        Args:
          variant: the name of the variant.
          alone: whether nothing else starts at the same time, so that its time to the first step is valid.
        """
        side, options = VARIANTS[variant]
        arguments = {**self._arguments, **options}
        worker = self._stack.enter_context(Worker(side, self._case.kind, arguments, self._device))
        try:
            first = worker.start()
            for _ in range(self._case.warm_up):
                worker.turn()
            self._started[variant] = worker, first if alone else {}
        except WorkerError as error:
            self._skipped[variant] = str(error)

    def take_turns(self) -> dict[str, Any]:
        """Measures all started variants by turns.

        Returns:
          The ``results`` by variant, and ``skipped``, the reason for each variant that has no result.
        """
        turns: dict[str, list[dict[str, Any]]] = {
            variant: [] for variant in self._case.variants if variant in self._started
        }
        for _ in range(self._case.repeats):
            for variant in list(turns):
                try:
                    turns[variant].append(self._started[variant][0].turn())
                except WorkerError as error:
                    del turns[variant]
                    self._skipped[variant] = str(error)
        return {
            "results": {variant: summary(self._started[variant][1], done) for variant, done in turns.items()},
            "skipped": self._skipped,
        }

    def kill(self) -> None:
        """Kills all workers immediately, because libraries take seconds to release a GPU."""
        for worker, _ in self._started.values():
            worker.kill()


def measure(
    case: Case, device: str, *, arguments: Mapping[str, Any], skip: Mapping[str, str]
) -> dict[str, Any]:
    """Measures a case; starts its variants one after the other.

    Args:
      case: the case to measure.
      device: the device, ``cpu`` or ``cuda``.
      arguments: the arguments of both sides' functions; a variant may add its own.
      skip: the sides that cannot be measured, each with the reason.

    Returns:
      The results and the skipped variants, as in ``Lineup.take_turns``.
    """
    with contextlib.ExitStack() as stack:
        lineup = Lineup(case, device, arguments=arguments, skip=skip, stack=stack)
        for variant in lineup.variants():
            lineup.start(variant)
        return lineup.take_turns()


def measure_together(
    planned: Sequence[tuple[Case, Mapping[str, Any]]], device: str, *, skip: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Measures cases after starting the workers of all cases, because compiling takes longest.

    ``torch.compile`` takes about a minute per variant, most of it on one core, so the compiled variants
    start in parallel, at the same time as the plain variants of all cases but the first. The plain variants
    start one after the other, because JAX chooses kernels by their speed, which another process on the same
    GPU would disturb. While one worker is measured, all others are stopped. The memory has to hold all
    variants of all cases at the same time.

    Args:
      planned: the cases, each with the arguments of both sides' functions.
      device: the device, ``cpu`` or ``cuda``.
      skip: the sides that cannot be measured, each with the reason.

    Yields:
      The results of each case, as in ``Lineup.take_turns``; only variants that started alone have their time
      to the first step.
    """
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(COMPILERS) as pool:
        lineups = [
            Lineup(case, device, arguments=arguments, skip=skip, stack=stack) for case, arguments in planned
        ]
        for variant in lineups[0].variants(compiled=False):
            lineups[0].start(variant)
        compiling = [
            pool.submit(lineup.start, variant, alone=False)
            for lineup in lineups
            for variant in lineup.variants(compiled=True)
        ]
        for lineup in lineups[1:]:
            for variant in lineup.variants(compiled=False):
                lineup.start(variant, alone=False)
        for future in compiling:
            future.result()
        for lineup in lineups:
            yield lineup.take_turns()
            lineup.kill()


def summary(first: Mapping[str, float], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median and the spread of a variant's turns.

    Args:
      first: the seconds of each part of the first run; empty if they are not valid.
      turns: the answers of the worker, one per turn.
    """
    seconds, last = [turn["seconds"] for turn in turns], turns[-1]
    median = statistics.median(seconds)
    result = {
        "median_seconds": median,
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "turns": len(turns),
        "units": last["units"],
        "units_per_second": last["units"] / median,
        "peak_memory_gib": max(turn["peak_bytes"] for turn in turns) / 2**30,
    }
    if first:
        result |= {"first_seconds": first["first"], "seconds_to_first": sum(first.values())}
    result |= {name: last[name] for name in ("images", "loss", "metrics", "threads") if name in last}
    if "parts" in last:
        result["median_seconds_of_parts"] = {
            part: statistics.median(turn["parts"][part] for turn in turns) for part in last["parts"]
        }
    return result
