"""The steps in their order: first what all others are compared with, last what may take any time."""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

TEST_PROCESSES = 4  # that share the card
EXIT_SECONDS = 20.0  # of the last step's time, for what comes before and after what it measures
TEST_FLAGS = ("-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "--durations=5")


class Step(NamedTuple):
    """One step.

    Attributes:
      name: as the summary has it.
      command: without the flags that the time left decides.
      limit: seconds after which it is ended; infinite for the last, which takes what is left.
      result: the first part of its file's name in OUT; None where its log is its result.
      environment: variables besides those of all steps.
    """

    name: str
    command: tuple[str, ...]
    limit: float
    result: str | None
    environment: Mapping[str, str] = {}


def plan(out: pathlib.Path, *, dry_run: bool) -> list[Step]:
    """Returns all steps.

    Args:
      out: folder of the results.
      dry_run: whether sizes are tiny and the device may be a CPU.
    """
    sizes, to = ("--tiny",) if dry_run else (), f"--out={out}"

    def script(name: str, *flags: str) -> tuple[str, ...]:
        return (sys.executable, f"benchmarks/{name}.py", *flags, *sizes, to)

    shared = () if dry_run else ("-n", str(min(TEST_PROCESSES, os.cpu_count() or 1)))
    tests = (sys.executable, "-m", "pytest", *TEST_FLAGS, *shared, "tests/gpu")
    # A fast compilation is for CPUs (tests/conftest.py), beside which the tests compare the card.
    optimised = {} if dry_run else {"XLA_FLAGS": os.environ.get("XLA_FLAGS", ""), **with_cpu(os.environ)}
    kinds = ("--only", "train_step", "inference")
    repeats = f"--repeats={2 if dry_run else 5}"
    epochs = ("--epochs=2",) if dry_run else ()
    return [
        Step("card", script("card"), 45, "card"),
        Step("tests", tests, 100, None, optimised),
        Step("compare", script("compare", "--quick", *kinds, repeats), 200, "compare"),
        Step("profile", script("step_profile"), 50, "profile"),
        Step("search", script("search", repeats), 60, "search"),
        Step("paper", script("paper_scale", *epochs), float("inf"), "paper_scale"),
    ]


def with_cpu(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns JAX_PLATFORMS with the CPU among them, where it is set and leaves it out.

    Example:
      >>> with_cpu({"JAX_PLATFORMS": "cuda"}), with_cpu({})
      ({'JAX_PLATFORMS': 'cuda,cpu'}, {})
    """
    platforms = environment.get("JAX_PLATFORMS", "")
    return {} if not platforms or "cpu" in platforms else {"JAX_PLATFORMS": f"{platforms},cpu"}


def with_time(step: Step, seconds: float) -> tuple[tuple[str, ...], float]:
    """Returns a step's command and limit.

    Args:
      step: the step.
      seconds: that are left of the whole; the last step is told how many of them are its own.
    """
    limit = min(step.limit, seconds)
    if step.limit != float("inf"):
        return step.command, limit
    return (*step.command, f"--seconds={max(0.0, limit - EXIT_SECONDS):.0f}"), limit
