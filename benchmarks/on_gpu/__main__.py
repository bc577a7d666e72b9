"""Runs all steps one after the other; see benchmarks/on_gpu.sh and docs/gpu.md."""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.on_gpu.plan import DRY_RUN_LIMITS, MINUTES, Step, plan, with_time
from benchmarks.on_gpu.running import Outcome, run_step
from benchmarks.on_gpu.summary import summarise
from benchmarks.on_gpu.wheels import NEEDED, OPTIONAL, brought, lacking, unpack
from benchmarks.side_by_side.turns import reason

ROOT = pathlib.Path(__file__).parents[2]
END_SECONDS = 5.0  # the time reserved for ending the last step and printing the summary
WRITTEN = ("log.txt", "summary.md")  # beside the results of the steps, which are JSON
FAILED, WRONG_CALL, NO_GPU = 1, 2, 3  # exit statuses
PROBE = """
import json, jax
print("imported", flush=True)
from benchmarks.recording import machine_name
device = jax.devices()[0]
print(json.dumps({"platform": device.platform, "kind": device.device_kind, "machine": machine_name()}))
"""


def main(arguments: Sequence[str] | None = None, steps: Sequence[Step] | None = None) -> int:
    """Runs the steps and prints the summary.

    Args:
      arguments: the arguments of the command line; None for those of the process.
      steps: the steps to run instead of the plan's.

    Returns:
      The exit status: 0 if all steps succeeded, 1 if a step failed, 2 if the call is wrong, packages are
      missing or JAX cannot be imported, and 3 without a GPU.
    """
    started = time.perf_counter()
    options, steps = read_call(arguments, steps)
    with tempfile.TemporaryDirectory(prefix="on_gpu_") as folder:
        environment = {
            "PYTHONPATH": search_path(folder, os.environ),
            "PYTHONUNBUFFERED": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # torch and other processes need memory, too
        }
        if why := provide(options.wheels, pathlib.Path(folder)):
            print(why, file=sys.stderr)
            return WRONG_CALL
        try:
            device, why = find_device(environment)
        except ImportError as error:
            print(error, file=sys.stderr)
            return WRONG_CALL
        if device.get("platform") != "gpu" and not options.dry_run:
            print(
                f"No GPU: {why or 'JAX finds only ' + device['kind'] + ' here'}. Call it where python3 has "
                "JAX with CUDA and a card, or with --dry-run to see whether it works.",
                file=sys.stderr,
            )
            return NO_GPU
        ends = started + 60 * options.minutes - END_SECONDS
        summarised = functools.partial(
            summarise, options.out, machine=device.get("machine", "cpu"), dry_run=options.dry_run
        )
        outcomes, summary = run_all(steps, options.out, environment, summarised, ends=ends)
    print(f"\n{summary}")
    return 0 if all(outcome.status == "ok" for outcome in outcomes) else FAILED


def read_call(
    arguments: Sequence[str] | None, steps: Sequence[Step] | None
) -> tuple[argparse.Namespace, list[Step]]:
    """Returns the flags, with whole paths and the time limit of the whole run, and the steps to run.

    Args:
      arguments: the arguments of the command line; None for those of the process.
      steps: the steps to choose from instead of the plan's.
    """
    parser = argparse.ArgumentParser(
        prog="benchmarks/on_gpu.sh", description="All that a GPU can show, within minutes; see docs/gpu.md."
    )
    parser.add_argument(
        "out", type=pathlib.Path, metavar="OUT", help="folder of the results, without earlier ones"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"time limit of the whole run; default: {MINUTES:g}, of a dry run {DRY_RUN_LIMITS} times that",
    )
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps to run; default: all")
    parser.add_argument(
        "--wheels",
        type=pathlib.Path,
        default=pathlib.Path("wheels"),
        help="folder of wheels of the packages that are not installed; default: wheels",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny sizes on any device, to see whether it works"
    )
    options = parser.parse_args(arguments)
    here = pathlib.Path(os.environ.get("GRADREV_CALLED_FROM", pathlib.Path.cwd()))
    options.out, options.wheels = here / options.out, here / options.wheels
    steps = plan(options.out, dry_run=options.dry_run) if steps is None else steps
    names = [step.name for step in steps]
    if unknown := [name for name in options.only or () if name not in names]:
        parser.error(f"--only: no step is called {', '.join(unknown)}; there are {', '.join(names)}")
    if why := refusal(options.out):
        parser.error(why)
    if options.minutes is None:
        options.minutes = MINUTES * (DRY_RUN_LIMITS if options.dry_run else 1)
    if options.minutes <= 0:
        parser.error(f"--minutes={options.minutes:g}: it needs some time")
    return options, [step for step in steps if not options.only or step.name in options.only]


def refusal(out: pathlib.Path) -> str | None:
    """Returns why a run may not write into a folder, and what to do; None if it may.

    Args:
      out: the folder, which may be absent. Files that are not named as those of a run may lie in it.
    """
    if not out.is_dir():
        return f"{out} is no folder; name a new one" if out.exists() else None
    earlier = sorted(path.name for path in out.iterdir() if path.name in WRITTEN or path.suffix == ".json")
    if not earlier:
        return None
    named = ", ".join([*earlier[:3], *(["..."] if earlier[3:] else [])])
    return f"{out} has results of an earlier run ({named}); name a new folder, or move them away"


def search_path(folder: str, environment: Mapping[str, str]) -> str:
    """Returns PYTHONPATH for all processes: the checkout, unpacked wheels, then what the caller has in it.

    Args:
      folder: the folder that wheels are unpacked into.
      environment: the environment variables of the caller.
    """
    callers = environment.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), folder, *([callers] if callers else [])])


def run_all(
    steps: Sequence[Step],
    out: pathlib.Path,
    environment: Mapping[str, str],
    summarised: Callable[[Sequence[Outcome]], str],
    *,
    ends: float,
) -> tuple[list[Outcome], str]:
    """Runs steps one after the other, and writes the log and, after each step, the summary.

    Args:
      steps: the steps.
      out: the folder of the results.
      environment: the environment variables of all steps in addition to those of this process.
      summarised: the function that returns the summary of the outcomes so far.
      ends: the time at which the last step should end, by ``time.perf_counter``.

    Returns:
      The outcomes and the summary.
    """
    out.mkdir(parents=True, exist_ok=True)
    log, outcomes, summary = out / "log.txt", list[Outcome](), ""
    log.write_text("", encoding="utf-8")
    for step in steps:
        command, limit = with_time(step, ends - time.perf_counter())
        outcome = run_step(
            step.name,
            command,
            limit=limit,
            log=log,
            environment={**environment, **step.environment},
            folder=ROOT,
        )
        outcomes.append(outcome)
        print(f"{step.name}: {outcome.status} after {outcome.seconds:.0f} s", flush=True)
        summary = summarised(outcomes)
        (out / "summary.md").write_text(summary + "\n", encoding="utf-8")
    return outcomes, summary


def provide(wheels: pathlib.Path, target: pathlib.Path) -> str | None:
    """Unpacks the wheels of packages that are not installed, and of what these require.

    Args:
      wheels: the folder of wheels, which may be absent if no package is missing.
      target: the folder that the modules are unpacked into.

    Returns:
      A message that says what is wrong and what to do if a needed package is still missing; else None.
    """
    try:
        unpack(wheels, lacking(OPTIONAL), target)
        packages = lacking(NEEDED)
        missing = unpack(wheels, [*packages, *lacking(brought(packages))], target)
    except ValueError as error:
        return str(error)
    if not missing:
        return None
    names = " ".join(missing)
    return (
        f"{sys.executable} lacks {', '.join(missing)}, and {wheels} has no wheels of them; where there is a "
        f"network: pip download --no-deps -d wheels {names}, then take the folder along"
    )


def find_device(environment: dict[str, str]) -> tuple[dict[str, str], str]:
    """Finds JAX's first device, in a new process.

    Args:
      environment: the environment variables in addition to those of this process.

    Returns:
      The device's platform, its kind and the machine's name in file names, or an empty dict
      and the reason why JAX finds no device.

    Raises:
      ImportError: JAX cannot be imported; the message says why and what to do.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    why, printed = reason(done.stderr.splitlines()), done.stdout.splitlines()
    if "imported" not in printed:
        raise ImportError(
            f"JAX cannot be imported by {sys.executable} ({why}). Set PYTHON to an interpreter that can, or "
            "PYTHONPATH to the absolute path of the folder that has what is missing."
        )
    if done.returncode:
        return {}, f"JAX does not start here ({why})"
    found: dict[str, str] = json.loads(printed[-1])
    return found, ""


if __name__ == "__main__":
    sys.exit(main())
