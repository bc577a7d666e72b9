"""Times the starts of the commands: from the command line to the first finished step, and an evaluation.

    python benchmarks/startup.py

Each start is a process of its own, as a person would start it. Its seconds run from just before the process
is created until its first step is finished: until the record of step 1, which `log_every=1` asks for, stands
in `metrics.jsonl`. The process is then killed, so that neither the next steps, nor a checkpoint, nor a
validation count. Images are drawn, and kept in an image cache, before anything is timed.

- `train`: `python train.py`, AlexNet at its full width, 224 pixels, batches of 64.
- `demo`: the training of `make demo`.
- `evaluate`: `python evaluate.py` on a run of the demo's config after one epoch, until the process ends; what
  an evaluation has measured is forgotten before each.
- `evaluate_again`: the same, with the prototypes and the leakage that an evaluation before has kept.

The *first* start has an empty cache of compiled programs, each time anew; before the *second* ones, a start
has filled it. First and second starts take turns. Where `--torch` names a Python that has PyTorch, its first
step is timed too: from the start of that Python to the end of one step of `benchmarks/torch_reference` at the
sizes of `train`, on random images. The result has the median, the least and the most of each.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.program_cache import without_program_cache
from benchmarks.recording import machine_name, parse_flags, record
from benchmarks.side_by_side.tables import startup_table
from benchmarks.side_by_side.turns import reason
from benchmarks.training_runs import spread
from gradrev_jax.data.formats.garments.catalogue import SCHEMA
from gradrev_jax.runs.kept_results import RESULTS
from gradrev_jax.runs.workdir import METRICS

ROOT = pathlib.Path(__file__).parents[1]
FULL = ("data.image_size=224", "data.train_resize=224", "data.count=2000", "model.width=1.0")
TINY = ("data.count=400", "model.width=0.0625", "protocol.leakage=False", "protocol.baselines=()")
ATTRIBUTES = str(len(SCHEMA.names))  # as many as the drawn garments have
FIRST, SECOND, TORCH = "first", "second", "torch"
LONGEST = 600.0  # seconds that a process may take
# Imports what a step of PyTorch's side needs, too.
TORCH_VERSION = """
import torch
import benchmarks.side_by_side.torch_side
print(torch.__version__, torch.get_num_threads())
"""
TORCH_STEP = """
import sys
from benchmarks.side_by_side.torch_side import train_step
image, batch, attributes, width = sys.argv[1:]
train_step(int(image), int(batch), int(attributes), width=float(width))()
"""


class Place:
    """The folders of the benchmark: an image cache, programs, and runs.

    Args:
      folder: an empty folder.
      fields: the config fields of all runs, as ``name=value``.
    """

    def __init__(self, folder: pathlib.Path, fields: Sequence[str] = ()) -> None:
        self._folder, self._fields = folder, fields
        self._environment = without_program_cache() | {"XDG_CACHE_HOME": str(folder / "caches")}

    def forget_programs(self) -> None:
        """Empties the cache of compiled programs."""
        shutil.rmtree(self._folder / "caches" / "gradrev_jax" / "programs", ignore_errors=True)

    def forget_results(self) -> None:
        """Removes what evaluations have measured."""
        shutil.rmtree(self._folder / "caches" / "gradrev_jax" / RESULTS, ignore_errors=True)

    def run(self, name: str) -> pathlib.Path:
        """Returns the folder of a run."""
        return self._folder / name

    def first_step(self, name: str, fields: Sequence[str] = ()) -> float:
        """Trains a new run until its first step is finished; returns the seconds that this took."""
        shutil.rmtree(run := self.run(name), ignore_errors=True)
        start = time.perf_counter()
        with self._started("train", *self._training(name, (*fields, "train.log_every=1"))) as process:
            try:
                while not _has_content(run / METRICS):
                    if process.poll() is not None or time.perf_counter() - start > LONGEST:
                        raise RuntimeError(f"the training has not come to a step: {_end(self._log)}")
                    time.sleep(0.005)
                return time.perf_counter() - start
            finally:
                process.kill()

    def whole(self, command: str, *arguments: str) -> float:
        """Runs a command to its end; returns the seconds that this took."""
        start = time.perf_counter()
        with self._started(command, *arguments) as process:
            if process.wait(LONGEST):
                raise RuntimeError(f"{command} has failed: {_end(self._log)}")
        return time.perf_counter() - start

    def train(self, name: str, fields: Sequence[str] = ()) -> None:
        """Trains a run to its end."""
        self.whole("train", *self._training(name, fields))

    @property
    def _log(self) -> pathlib.Path:
        return self._folder / "log"

    def _training(self, name: str, fields: Sequence[str]) -> list[str]:
        config = f"--config={ROOT / 'configs' / 'garments.py'}"
        return [
            config,
            *(f"--config.{field}" for field in (*fields, *self._fields)),
            f"--workdir={self.run(name)}",
        ]

    def _started(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / f"{command}.py"), *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _has_content(path: pathlib.Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _end(log: pathlib.Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-500:]


def measure_training(place: Place, name: str, fields: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Times first and second starts of a training in turn; returns the seconds of each."""
    place.first_step(name, fields)  # draws the images
    seconds: dict[str, list[float]] = {FIRST: [], SECOND: []}
    for _ in range(repeats):
        place.forget_programs()
        seconds[FIRST].append(place.first_step(name, fields))
        seconds[SECOND].append(place.first_step(name, fields))
    return seconds


def measure_evaluation(place: Place, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Times evaluations of a run of the demo's config: without programs, then with those of the first.

    Each time, what was measured is forgotten before one evaluation, and found by the next.
    """
    place.train("evaluated", ("train.epochs=1",))
    workdir = f"--workdir={place.run('evaluated')}"
    place.forget_programs()
    seconds = {FIRST: [place.whole("evaluate", workdir)], SECOND: []}
    again: list[float] = []
    for _ in range(repeats):
        place.forget_results()
        seconds[SECOND].append(place.whole("evaluate", workdir))
        again.append(place.whole("evaluate", workdir))
    return {"evaluate": seconds, "evaluate_again": {SECOND: again}}


def torch_of(python: str) -> tuple[str, int]:
    """Returns the version of a Python's torch, and the number of its threads.

    Raises:
      ValueError: if it cannot take a step of PyTorch's side; the message says why.
    """
    command = [python, "-c", TORCH_VERSION]
    try:
        done = subprocess.run(command, check=True, cwd=ROOT, timeout=LONGEST, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"--torch={python}: {reason(error.stderr.splitlines())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"--torch={python}: {error}") from error
    version, threads = done.stdout.split()[-2:]
    return version, int(threads)


def measure_torch(python: str, sizes: Sequence[str], repeats: int) -> list[float]:
    """Times the first step of PyTorch's side, from the start of its Python."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([python, "-c", TORCH_STEP, *sizes], check=True, cwd=ROOT, timeout=LONGEST)
        seconds.append(time.perf_counter() - start)
    return seconds


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="starts of each kind")
    parser.add_argument(
        "--torch", default=None, help="a Python that has PyTorch; unset: its side is left out"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(parser, arguments)

    result: dict[str, Any] = {"repeats": options.repeats, "seconds": {}}
    versions: dict[str, str] = {}
    if options.torch is not None:  # asked before anything is measured, because it comes last
        try:
            versions["torch"], result["torch_threads"] = torch_of(options.torch)
        except ValueError as error:
            parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        place = Place(pathlib.Path(folder), TINY if options.tiny else ())
        seconds: dict[str, dict[str, list[float]]] = {
            "train": measure_training(place, "train", () if options.tiny else FULL, options.repeats),
            "demo": measure_training(place, "demo", (), options.repeats),
            **measure_evaluation(place, options.repeats),
        }
        if options.torch is not None:
            sizes = ("64", "4", "4", "0.0625") if options.tiny else ("224", "64", ATTRIBUTES, "1.0")
            seconds["train"][TORCH] = measure_torch(options.torch, sizes, options.repeats)
    for name, kinds in seconds.items():
        result["seconds"][name] = {kind: spread(values) for kind, values in kinds.items()}
    print(startup_table(result))
    record(options.out / f"startup_{machine_name()}.json", result, about=options.about, versions=versions)
    return result


if __name__ == "__main__":
    main()
