"""Trains for a long time on small drawn garments, and records whether numbers, memory and programs stay sane.

    python -m tests.faults.long_runs --steps=10000 --out=benchmarks/results/long_runs.json

Every run is one call of ``train`` in a process of its own, on one core. The command ends with 1 if a run
fails.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks.recording import record
from configs import garments
from configs.variants import SYSTEMS, VARIANTS
from gradrev_jax.errors import DivergedError
from gradrev_jax.models.alexnet import TAPS
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.progress import ProgressBar
from gradrev_jax.training.run import train
from gradrev_jax.training.update import all_finite
from tests.faults.training_watch import watched
from tests.small_backbone import LeftColour

ROOT = pathlib.Path(__file__).parents[2]
SETTLED, DRIFT = 0.2, 0.02  # the part of a run after which its memory is flat, and how flat
SMALL = {
    "data.image_size": 16,
    "data.train_resize": 16,
    "data.missing_fraction": 0.2,
    "data.placement": "device",
    "model.backbone": "small",
    "model.feature_dim": 16,
    "train.batch_size": 8,
    "train.log_every": 100,
    "train.loggers": (),
    "memory.batch_size": 4,
    "memory.triplets": 2000,
    "protocol.normalize": "global",
    "protocol.ks": (1, 5),
    "protocol.baselines": (),
    "protocol.leakage": False,
}
# A system of AlexNet alone, and of one stage.
FSN = {
    "data.image_size": 64,
    "data.train_resize": 64,
    "model.backbone": "alexnet",
    "model.width": 1 / 32,
    "fsn.hidden": 16,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
      name: its name.
      words: the words after the config's name.
      changes: {field: value}, other changes of the config.
      stages: the stages.
      may_diverge: whether it may stop because it diverges; ``must_diverge``: whether it has to.
      part: the part of all steps that it takes.
    """

    name: str
    words: str = ""
    changes: dict = dataclasses.field(default_factory=dict)
    stages: tuple = ("encoder",)
    may_diverge: bool = False
    must_diverge: bool = False
    part: float = 1.0


def cases(steps):
    """All runs of so many steps by name."""
    found = []
    for heads in ("shared", "pairwise"):
        for weighting in ("balanced", "fixed"):
            for beta in (0.01, 0.1, 1.0, 10.0):
                changes = {"reversal.weighting": weighting, "reversal.beta": beta}
                name = f"{heads} {weighting} {beta:g}"
                found.append(Case(name, heads, changes, may_diverge=weighting == "fixed"))
        # Losses, and the squares of gradients, grow with powers of the rate times the steps: so it is lost.
        high = {"reversal.weighting": "fixed", "reversal.beta": 10.0, "train.learning_rate": 5000 / steps}
        found.append(Case(f"{heads} fixed 10, high rate", heads, high, may_diverge=True, must_diverge=True))
    for word in (*SYSTEMS, *VARIANTS, "search"):
        for precision in ("float32", "bfloat16"):
            changes = {"precision": precision, "memory.reversal": word in ("shared", "pairwise")}
            changes |= FSN if word == "fsn" else {}
            stages = ("encoder",) if word == "fsn" else ("encoder", "memory")
            found.append(Case(f"{word} {precision}, {len(stages)} stages", word, changes, stages, part=0.03))
    return {case.name: case for case in found}


def config_of(case, steps, *, count, cache):
    """The config of a run."""
    config = garments.get_config(case.words)
    config.update_from_flattened_dict({**SMALL, **case.changes})
    config.stages = case.stages
    config.data.count = count
    config.data.cache_dir = str(cache)
    config.train.max_steps = config.memory.max_steps = steps
    config.train.epochs = config.memory.epochs = steps  # more than there will be
    config.train.checkpoint_every = max(steps // 10, 1)
    return config


def run(case, steps, folder, *, count, cache):
    """Trains a case in a folder and returns what is recorded of it."""
    BACKBONES["small"] = Backbone(LeftColour, inputs=PixelInputs(4), taps=TAPS)
    config = config_of(case, steps, count=count, cache=cache)
    every = max(steps // 100, 1)
    diverged, start = None, time.perf_counter()
    with watched(every=every) as seen:
        try:
            state = train(config, folder, progress=False)
        except DivergedError as error:
            diverged = str(error)
    seconds = time.perf_counter() - start
    if diverged:
        config.train.max_steps = last_checkpoint(folder)
        state = train(config, folder, progress=False)  # the checkpoint can be gone on from
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [entry for entry in records if "loss" in entry]
    epoch_ends = [entry["step"] for entry in records if entry["stage"] == "encoder" and entry["epoch"] == 1]
    last = {
        name: losses[-1][name] for name in ("loss", "loss_cls", "loss_rev", "w_rev") if name in losses[-1]
    }
    return {
        "steps": losses[-1]["step"] if diverged is None else int(state.step),
        "finite": bool(all_finite(jax.device_get(state))) and all_finite_records(losses),
        "diverged": diverged,
        **{f"last_{name}": value for name, value in last.items()},
        "seconds": seconds,
        **measured(seen, steps),
        "retraced": len(seen.retraced()),
        "compiled_after_the_first_epoch": len(seen.built_after(epoch_ends[0])) if epoch_ends else None,
        "threads_left": seen.threads,
        "temporary_files_left": seen.files,
    }


def last_checkpoint(folder):
    """The step of the newest checkpoint of stage 1."""
    return max(int(path.name.split("_")[1]) for path in (folder / "checkpoints" / "encoder").glob("step_*"))


def all_finite_records(records):
    """Returns whether all numbers of some records are finite."""
    numbers = [value for entry in records for value in jax.tree.leaves(entry) if isinstance(value, float)]
    return bool(np.isfinite(numbers).all())


def measured(seen, steps):
    """Memory and speed of the first stage once it has settled."""
    settled = math.ceil(steps * SETTLED)
    memory = {step: size for (stage, step), size in seen.memory.items() if stage == 0 and step >= settled}
    if len(memory) < 2:
        return {
            "steps_per_second": None,
            "resident_mib_settled": None,
            "resident_mib_end": None,
            "drift": None,
        }
    first, last = min(memory), max(memory)
    passed = seen.moments[0, last] - seen.moments[0, first]
    return {
        "steps_per_second": (last - first) / passed,
        "resident_mib_settled": memory[first] / 2**20,
        "resident_mib_end": memory[last] / 2**20,
        "drift": max(abs(size / memory[first] - 1) for size in memory.values()),
    }


def failures(case, result, *, whole):
    """Returns the faults of the result of a run, in words.

    Args:
      case: the run.
      result: what ``run`` returned.
      whole: whether the run is long enough for its memory to be judged.
    """
    wrong = []
    if not result["finite"]:
        wrong.append("not finite")
    if result["diverged"] and not case.may_diverge:
        wrong.append("diverged")
    if case.must_diverge and not result["diverged"]:
        wrong.append("did not diverge")
    if whole and result["drift"] is not None and result["drift"] > DRIFT:
        wrong.append("memory drifts")
    wrong += [
        name.replace("_", " ")
        for name in ("retraced", "compiled_after_the_first_epoch", "threads_left", "temporary_files_left")
        if result[name]
    ]
    return wrong


def run_apart(case, steps, *, count, cache):
    """Runs a case in a process of its own, on one core, with temporary files in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = pathlib.Path(folder, "tmp")
        temporary.mkdir()
        command = [sys.executable, "-m", "tests.faults.long_runs", f"--steps={steps}", f"--count={count}"]
        options = [f"--cache={cache}", f"--only={case.name}", f"--here={folder}/run"]
        core = str(min(os.sched_getaffinity(0)))
        done = subprocess.run(
            ["taskset", "-c", core, *command, *options],
            env={**os.environ, "TMPDIR": str(temporary)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{case.name}: {done.stderr[-3000:]}")
        result = json.loads(done.stdout.splitlines()[-1])
        result["temporary_files_left"] += sorted(os.listdir(temporary))
    return result


COLUMNS = {
    "steps": "{:,}",
    "finite": "{}",
    "last_loss": "{:.3g}",
    "last_loss_cls": "{:.3g}",
    "last_loss_rev": "{:.3g}",
    "last_w_rev": "{:.3g}",
    "steps_per_second": "{:.0f}",
    "resident_mib_settled": "{:.1f}",
    "resident_mib_end": "{:.1f}",
    "drift": "{:.2%}",
    "retraced": "{}",
    "compiled_after_the_first_epoch": "{}",
}


def table(results):
    """The results as a table in Markdown."""
    titles = ["run", *(name.replace("last_", "").replace("_", " ") for name in COLUMNS), "wrong"]
    lines = [" | ".join(titles), "|".join("---" for _ in titles)]
    for name, result in results.items():
        cells = ["" if result.get(key) is None else how.format(result[key]) for key, how in COLUMNS.items()]
        lines.append(" | ".join([name, *cells, ", ".join(result["wrong"])]))
    stops = [f"{name}: {result['diverged']}" for name, result in results.items() if result["diverged"]]
    return "\n".join([*(f"| {line} |" for line in lines), *stops])


def main(arguments=None):
    """Runs all cases, or those of some names, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=6000, help="garments that are drawn")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--only", action="append", help="the name of a run, or its beginning")
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    parser.add_argument("--here", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        case = cases(options.steps)[options.only[0]]
        print(json.dumps(run(case, options.steps, options.here, count=options.count, cache=options.cache)))
        return 0
    chosen = [
        case
        for name, case in cases(options.steps).items()
        if not options.only or any(name.startswith(start) for start in options.only)
    ]
    results, begin = {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        bar = ProgressBar(chosen, unit="run")
        for case in bar:
            bar.set_description(case.name)
            steps = math.ceil(options.steps * case.part)
            result = run_apart(case, steps, count=options.count, cache=options.cache or cache)
            wrong = failures(case, result, whole=steps >= 10_000)
            results[case.name] = {**result, "wrong": wrong}
            if options.out:
                seconds = time.perf_counter() - begin
                record(options.out, {"steps": options.steps, "seconds": seconds, "runs": results}, quiet=True)
    print(table(results))
    print(f"{len(results)} runs in {time.perf_counter() - begin:.0f} s")
    return int(any(result["wrong"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
