"""Measures the memory and the time of training on embeddings, of many images and of a tenth as many.

    python -m benchmarks.many_embeddings

It writes random embeddings, and a table with random labels, into a temporary folder: 3.1 GB for a million
rows of 768 numbers. Each number of images is trained on for a few hundred steps, with one validation at the
end, in a process of its own. Reported are the peaks of that process's resident memory, the seconds until the
first step (the table is read, every embedding is checked, and the training ones are averaged), and those of a
step.
"""

import argparse
import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from benchmarks.recording import are_changed, parse_flags, record
from benchmarks.resident_memory import resident
from benchmarks.schemas import SHOPPING100K_SIZES
from benchmarks.training_runs import step_records
from configs import catalogue
from gradrev_jax.training import run

ROOT = pathlib.Path(__file__).parents[1]
TENTH = 10
CHUNK = 8192  # the number of rows that are written at once
SKEW = 6  # the power of the uniform numbers that labels are made from
MISSING = 0.1  # the share of the cells that are empty
TEST = 0.1  # the share of the test part; another tenth is held out for validation
INTERVAL = 0.02  # seconds between two looks at the memory


def write_catalogue(folder: pathlib.Path, rows: int, width: int) -> None:
    """Writes random embeddings and a table of random labels with Shopping100k's numbers of values.

    Args:
      folder: an existing folder.
      rows: the number of images.
      width: the number of numbers of each embedding.

    Raises:
      OSError: the disk has no room.
    """
    needed = rows * width * np.dtype(np.float32).itemsize
    if (free := shutil.disk_usage(folder).free) < 1.2 * needed:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free, and {1.2 * needed / 1e9:.1f} GB are needed")
    rng = np.random.default_rng(0)
    embeddings = np.lib.format.open_memmap(folder / "embeddings.npy", "w+", np.float32, (rows, width))
    names = [f"attribute {n}" for n in range(len(SHOPPING100K_SIZES))]
    with (folder / "attributes.csv").open("w", encoding="utf-8") as table:
        table.write(",".join(["image", "split", *names]) + "\n")
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            embeddings[start : start + count] = rng.standard_normal((count, width), np.float32)
            # Few values are frequent, as in a real catalogue; else no two images would differ in one alone.
            labels = (np.array(SHOPPING100K_SIZES) * rng.random((count, len(names))) ** SKEW).astype(int)
            labels[rng.random(labels.shape) < MISSING] = -1
            parts = np.where(rng.random(count) < TEST, "test", "train").tolist()
            for row, (part, values) in enumerate(zip(parts, labels.tolist(), strict=True), start):
                cells = ("" if value < 0 else f"value {value}" for value in values)
                table.write(",".join([f"images/{row:08d}.jpg", part, *cells]) + "\n")
    embeddings.flush()


def make_config(folder: pathlib.Path, steps: int, batch: int) -> ConfigDict:
    """Returns the config of a training on what ``write_catalogue`` wrote.

    Args:
      folder: the folder of the embeddings and the table.
      steps: the number of steps.
      batch: the number of images of a step.
    """
    config = catalogue.get_config("embeddings")
    config.data.root, config.data.embeddings = str(folder), str(folder / "embeddings.npy")
    config.stages = ("encoder",)
    config.reversal.weighting = "balanced"
    config.train.update({"batch_size": batch, "max_steps": steps, "log_every": max(1, steps // 10)})
    return config


class MemoryWatch:
    """A context manager that looks at the memory of this process while it runs, and keeps its peaks."""

    def __init__(self) -> None:
        self.peaks = resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(INTERVAL):
            for kind, count in resident().items():
                self.peaks[kind] = max(self.peaks[kind], count)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.peaks["VmHWM"] = resident()["VmHWM"]


def train_once(folder: pathlib.Path, steps: int, batch: int) -> dict[str, Any]:
    """Trains on the catalogue in a folder; returns the peaks of this process's memory, and seconds.

    Args:
      folder: the folder of ``write_catalogue``; the run is written there, too.
      steps: the number of steps.
      batch: the number of images of a step.
    """
    config, before = make_config(folder, steps, batch), resident()
    started: list[tuple[float, int]] = []
    run_stage = run.run_stage

    def timed_stage(*arguments: Any) -> Any:
        started.append((time.perf_counter(), resident()["VmHWM"]))
        return run_stage(*arguments)

    start = time.perf_counter()
    with MemoryWatch() as watch, mock.patch.object(run, "run_stage", timed_stage):
        run.train(config, folder / "run", progress=False)
    end = time.perf_counter()
    ((opened, peak_of_opening),) = started
    # The first record has the compilation in it.
    later = [batch / record["images_per_second"] for record in step_records(folder / "run", "encoder")[1:]]
    return {
        "imported_bytes": before["VmRSS"],
        "peak_bytes": watch.peaks["VmHWM"],
        "peak_bytes_of_opening": peak_of_opening,
        "peak_anonymous_bytes": watch.peaks["RssAnon"],
        "peak_file_bytes": watch.peaks["RssFile"],
        "opening_seconds": opened - start,
        "step_seconds": statistics.median(later),
        "stage_seconds": end - opened,
        "cpu_seconds": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
    }


def measure(rows: int, width: int, steps: int, batch: int) -> dict[str, Any]:
    """Writes a catalogue, trains on it in a process of its own, and removes it; returns what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(pathlib.Path(folder), rows, width)
        command = [sys.executable, "-m", "benchmarks.many_embeddings", f"--folder={folder}"]
        command += [f"--steps={steps}", f"--batch={batch}"]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return {"rows": rows, **json.loads(done.stdout.splitlines()[-1])}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=pathlib.Path, help="folder of many_embeddings.json")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="train on this folder's catalogue, once, and print"
    )
    asked = ("rows", "width", "steps", "batch")
    options = parse_flags(
        parser,
        arguments,
        is_trial=lambda options: not options.folder and are_changed(parser, options, asked),
    )
    if options.folder is not None:
        measured = train_once(options.folder, options.steps, options.batch)
        print(json.dumps(measured))
        return measured
    sizes = {"width": options.width, "steps": options.steps, "batch": options.batch}
    runs = []
    for rows in (options.rows // TENTH, options.rows):
        runs.append(measure(rows, **sizes))
        print(json.dumps(runs[-1]), flush=True)
    result = {"sizes": {**sizes, "attributes": len(SHOPPING100K_SIZES)}, "runs": runs}
    record(options.out / "many_embeddings.json", result, about=options.about)
    return result


if __name__ == "__main__":
    main()
