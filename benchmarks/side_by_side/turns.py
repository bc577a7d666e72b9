"""Measuring a case: one process a variant, all warmed up, then one turn after the other."""

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

from benchmarks.side_by_side.cases import VARIANTS, Case

ROOT = pathlib.Path(__file__).parents[2]
LONGEST_REASON = 300  # letters of an error that are kept
# Variants of torch.compile that start beside each other.
COMPILERS = max(1, (os.cpu_count() or 1) // 2)


class WorkerError(RuntimeError):
    """A side could not do its part."""


def reason(printed: Iterable[str]) -> str:
    """Returns the last error that a program printed, or its last line: JAX adds notes after its errors.

    Args:
      printed: lines.

    Example:
      >>> reason(["Traceback ...", "ValueError: too large", "For simplicity, JAX has removed its frames"])
      'ValueError: too large'
    """
    lines = [line.strip() for line in printed if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return next(iter([*errors[-1:], *lines[-1:]]), "")[:LONGEST_REASON]


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
        else:  # where several compile at once
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
        """Prepare the case and do it for the first time; seconds of each."""
        return self._ask(self._request)

    def turn(self) -> dict[str, Any]:
        """Do it once more."""
        return self._ask("run")

    def kill(self) -> None:
        """Ends it at once."""
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


class Lineup:
    """The workers of a case.

    Args:
      case: what they do.
      device: ``cpu`` or ``cuda``.
      arguments: of both sides' functions; a variant may add its own.
      skip: side -> why it cannot be measured.
      stack: ends the workers.
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
        """Returns those to measure: all, or those that ``torch.compile`` compiles, or the others."""
        return [
            variant
            for variant in self._case.variants
            if variant not in self._skipped and compiled in (None, VARIANTS[variant][1].get("compile", False))
        ]

    def start(self, variant: str, *, alone: bool = True) -> None:
        """Starts a variant and warms it up; one that cannot is skipped.

        Args:
          variant: which.
          alone: whether nothing else starts meanwhile, so that its time to the first step counts.
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
        """Measures all that were started, by turns.

        Returns:
          ``results`` by variant, and ``skipped``: variant -> why.
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
        """Ends all workers at once, without the seconds that libraries take to leave a GPU."""
        for worker, _ in self._started.values():
            worker.kill()


def measure(
    case: Case, device: str, *, arguments: Mapping[str, Any], skip: Mapping[str, str]
) -> dict[str, Any]:
    """Measures a case, its variants started one after the other.

    Args:
      case: what.
      device: ``cpu`` or ``cuda``.
      arguments: of both sides' functions; a variant may add its own.
      skip: side -> why it cannot be measured.

    Returns:
      As ``Lineup.take_turns``.
    """
    with contextlib.ExitStack() as stack:
        lineup = Lineup(case, device, arguments=arguments, skip=skip, stack=stack)
        for variant in lineup.variants():
            lineup.start(variant)
        return lineup.take_turns()


def measure_together(
    planned: Sequence[tuple[Case, Mapping[str, Any]]], device: str, *, skip: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Measures cases whose workers are all started before the first turn, since compiling takes longest.

    ``torch.compile`` takes about a minute a variant, most of it on one core: these start beside each other,
    and beside the plain variants of all cases but the first. The plain variants start one after the other,
    because JAX chooses kernels by their speed, which another process on the same GPU would disturb. All stand
    still while one is measured. Every variant of every case needs its memory at the same time.

    Args:
      planned: cases, and the arguments of both sides' functions.
      device: ``cpu`` or ``cuda``.
      skip: side -> why it cannot be measured.

    Yields:
      Each case's results, as ``Lineup.take_turns`` returns them; only those that started alone have their
      time to the first step.
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
        for each in compiling:
            each.result()
        for lineup in lineups:
            yield lineup.take_turns()
            lineup.kill()


def summary(first: Mapping[str, float], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median and the spread of a variant's turns.

    Args:
      first: seconds of each part of the first time; empty where they do not count.
      turns: what the worker said of each.
    """
    seconds = [turn["seconds"] for turn in turns]
    median = statistics.median(seconds)
    result = {
        "median_seconds": median,
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "turns": len(turns),
        "units": turns[-1]["units"],
        "units_per_second": turns[-1]["units"] / median,
        "peak_memory_gib": max(turn["peak_bytes"] for turn in turns) / 2**30,
    }
    if first:
        result |= {"first_seconds": first["first"], "seconds_to_first": sum(first.values())}
    result |= {name: turns[-1][name] for name in ("images", "loss", "metrics") if name in turns[-1]}
    if "parts" in turns[-1]:
        result["median_seconds_of_parts"] = {
            part: statistics.median(turn["parts"][part] for turn in turns) for part in turns[-1]["parts"]
        }
    return result
