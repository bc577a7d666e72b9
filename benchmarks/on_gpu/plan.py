"""Plans the steps: the peak rates of the card come first, the step that takes all the time left last."""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

TEST_PROCESSES = 4  # the number of test processes that share the card
EXIT_SECONDS = 20.0  # the part of the last step's time for starting and ending
MINUTES = 9.0  # the default time limit of a whole run on a card
DRY_RUN_LIMITS = 10  # times those of a card, on a CPU that others may use, too
OTHERS = ("amnet", "fsn", "gamma")  # the systems beside the paper's that have a model of their own
TEST_FLAGS = ("-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "--durations=5")


class Step(NamedTuple):
    """One step.

    Attributes:
      name: the name of the step in the summary.
      command: the command without the flags that depend on the time left.
      limit: the time limit in seconds; infinite for the last step, which takes the time that is left.
      result: the first part of the name of its result file in OUT; None if its log is its result.
      environment: the environment variables of this step in addition to those of all steps.
    """

    name: str
    command: tuple[str, ...]
    limit: float
    result: str | None
    environment: Mapping[str, str] = {}


def plan(out: pathlib.Path, *, dry_run: bool) -> list[Step]:
    """Returns all steps.

    Args:
      out: the folder of the results.
      dry_run: whether the sizes are tiny and the device may be a CPU.
    """
    sizes, out_flag = ("--tiny",) if dry_run else (), f"--out={out}"

    def script(name: str, *flags: str) -> tuple[str, ...]:
        return (sys.executable, f"benchmarks/{name}.py", *flags, *sizes, out_flag)

    shared = () if dry_run else ("-n", str(min(TEST_PROCESSES, os.cpu_count() or 1)))
    tests = (sys.executable, "-m", "pytest", *TEST_FLAGS, *shared, "tests/gpu")
    # Without XLA_FLAGS, tests/conftest.py turns XLA's optimisations off; these tests need them, and they need
    # the CPU to compare the card with.
    optimised = {} if dry_run else {"XLA_FLAGS": os.environ.get("XLA_FLAGS", ""), **with_cpu(os.environ)}
    kinds = ("--only", "train_step", "inference")
    repeats = f"--repeats={2 if dry_run else 5}"
    epochs = ("--epochs=2",) if dry_run else ()
    steps = [
        Step("card", script("card"), 45, "card"),
        Step("tests", tests, 100, None, optimised),
        Step("compare", script("compare", "--quick", *kinds, repeats), 180, "compare"),
        Step("profile", script("step_profile"), 50, "profile"),
        Step("systems", script("step_profile", "--systems", *OTHERS), 40, "profile_systems"),
        Step("search", script("search", repeats), 60, "search"),
        Step("paper", script("paper_scale", *epochs), float("inf"), "paper_scale"),
    ]
    slower = DRY_RUN_LIMITS if dry_run else 1
    return [step._replace(limit=slower * step.limit) for step in steps]


def with_cpu(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns JAX_PLATFORMS with the CPU added if it is set without it.

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
      seconds: the seconds that are left for all steps; the last step gets them as a flag.
    """
    limit = min(step.limit, seconds)
    if step.limit != float("inf"):
        return step.command, limit
    return (*step.command, f"--seconds={max(0.0, limit - EXIT_SECONDS):.0f}"), limit
