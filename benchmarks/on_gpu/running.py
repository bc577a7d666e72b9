"""Runs one step in a new process with a time limit, and leaves none of its processes behind."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.side_by_side.turns import reason

MARK = "GRADREV_ON_GPU_STEP"  # an environment variable that all processes of a step inherit
GRACE = 3.0  # the seconds between asking a step to end and killing it


class Outcome(NamedTuple):
    """The outcome of a step.

    Attributes:
      name: the name of the step.
      status: the status, ``ok``, ``failed``, ``killed at its limit`` or ``not run: no time left``.
      seconds: the time that it took.
      why: the last error that it printed, if it failed.
      printed: the last lines that it printed.
    """

    name: str
    status: str
    seconds: float
    why: str = ""
    printed: str = ""


def run_step(
    name: str,
    command: Sequence[str],
    *,
    limit: float,
    log: pathlib.Path,
    environment: Mapping[str, str],
    folder: pathlib.Path,
) -> Outcome:
    """Runs a command, then ends it and all processes that it started.

    Args:
      name: the name of the step.
      command: the words of the command.
      limit: the time limit in seconds.
      log: the file that the output is appended to.
      environment: the environment variables in addition to those of this process.
      folder: the working directory.

    Returns:
      The outcome; a step that fails raises no error here.
    """
    if limit <= 0:
        return Outcome(name, "not run: no time left", 0.0)
    mark = f"{MARK}={os.getpid()}-{name}"
    start = time.perf_counter()
    with log.open("ab") as file:
        file.write(f"\n===== {name}: {' '.join(command)} (at most {limit:.0f} s)\n".encode())
        file.flush()
        before = file.tell()
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, MARK: mark.partition("=")[2]},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(name, "failed", 0.0, str(error))
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        kill_marked(mark)
        process.wait()
    seconds = time.perf_counter() - start
    lines = log.read_bytes()[before:].decode(errors="replace").rstrip().split("\n")
    printed = [line.rstrip().rpartition("\r")[2] for line in lines]  # only the last state of a progress bar
    end = "\n".join(line[:200] for line in printed[-12:])
    if code is None:
        return Outcome(name, "killed at its limit", seconds, printed=end)
    if code:
        return Outcome(name, "failed", seconds, reason(printed) or f"exit status {code}", end)
    return Outcome(name, "ok", seconds, printed=end)


def kill_marked(mark: str) -> None:
    """Kills every process whose environment has a mark, even in another process group or session.

    Workers that are stopped between their turns outlive their parent, and would keep a GPU's memory.

    Args:
      mark: the entry of the environment, ``NAME=VALUE``.
    """
    own = os.getpid()
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0") and (number := int(path.parent.name)) != own:
                os.kill(number, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
