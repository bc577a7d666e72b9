"""Measures several devices and processes, waiting for input, and steps per call, on the CPU.

    python benchmarks/scaling.py --photographs=FOLDER

- parallel: one train step at equal global batch on one device, on four CPU devices of one process, and in two
  processes of one device each, connected by loopback. Each variant has its own processes; all are warmed up,
  and then take turns. All variants share the same cores, so none can be faster than one device: the result
  shows the cost of communication.
- input: the share of the training time that is spent waiting for batches, from the second epoch on, with the
  photographs in FOLDER (which has an attributes.csv, see README.md) or, without a folder, drawn garments.
- steps: the images per second of a tiny model, whose steps take milliseconds, by train.steps_per_call.

The parts that --only excludes keep their earlier measurements in the result.
"""

import argparse
import contextlib
import csv
import datetime
import json
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.recording import parse_flags, record
from benchmarks.side_by_side.tables import scaling_table
from benchmarks.side_by_side.together import Together, processes
from benchmarks.side_by_side.turns import summary
from benchmarks.training_runs import later_epochs
from configs import catalogue, garments
from gradrev_jax.progress import ProgressBar

PARTS = ("parallel", "input", "steps")


def variants(sizes: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Returns the variants by name, each with the arguments of its processes."""
    return {
        "1 device": [{**sizes, "devices": 1}],
        "4 devices, pmap": [{**sizes, "devices": 4, "mode": "pmap"}],
        "4 devices, jit": [{**sizes, "devices": 4, "mode": "jit"}],
        "2 processes, pmap": processes(2, {**sizes, "devices": 1, "mode": "pmap"}),
    }


def measure_parallel(sizes: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Measures one step of each variant by turns."""
    with contextlib.ExitStack() as stack:
        workers, first = {}, {}
        for name, arguments in (bar := ProgressBar(variants(sizes).items(), unit="variant", leave=False)):
            bar.set_description(name)
            workers[name] = stack.enter_context(Together("data_parallel", arguments))
            first[name] = workers[name].start()
            workers[name].turn()
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for _ in ProgressBar(range(repeats), desc=f"{sizes['image']} px", unit="turn", leave=False):
            for name, worker in workers.items():
                turns[name].append(worker.turn())
    results = {name: summary(first[name], answers) for name, answers in turns.items()}
    alone = results["1 device"]["median_seconds"]
    for result in results.values():
        result["times_one_device"] = result["median_seconds"] / alone
    return {"sizes": dict(sizes), "results": results}


def photographs(folder: pathlib.Path, count: int, table: pathlib.Path) -> ConfigDict:
    """Returns a config with a catalogue's first training images, and enough test images for the metrics."""
    with (folder / "attributes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    train, test = ([row for row in rows if row["split"] == part] for part in ("train", "test"))
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([*train[:count], *test[:50]])
    config = catalogue.get_config()
    config.data.root, config.data.table = str(folder), str(table)
    return config


def drawn(count: int) -> ConfigDict:
    """Returns a config with ``count`` drawn training images, and enough test images for the metrics."""
    config = garments.get_config()
    config.data.count = count + 50
    config.data.test_fraction = 50 / config.data.count
    return config


def measure_input(
    folder: pathlib.Path | None, fields: Mapping[str, Any], epoch: int, epochs: int
) -> dict[str, Any]:
    """Measures waiting for input by placement and steps per call.

    Args:
      folder: the folder of photographs; None for drawn garments.
      fields: the config fields to set.
      epoch: the number of steps per epoch.
      epochs: the number of epochs.
    """
    count = epoch * fields["train.batch_size"]
    with tempfile.TemporaryDirectory() as scratch:
        if folder:
            config = photographs(folder, count, pathlib.Path(scratch) / "attributes.csv")
        else:
            config = drawn(count)
        config.train.validation_fraction = 0.0
        config.data.cache_dir = scratch
        config.train.log_every = 1
        config.train.epochs = epochs
        cases = []
        for placement in ("host", "device"):
            for steps in (1, 4):
                varied = {"data.placement": placement, "train.steps_per_call": steps}
                cases.append(later_epochs(config, {**fields, **varied}))
    return {"images": "photographs" if folder else "garments", "cases": cases}


def measure_steps(fields: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """Measures the speed of a tiny model by steps per call; ``epoch`` is the number of steps per epoch."""
    with tempfile.TemporaryDirectory() as scratch:
        config = drawn(epoch * fields["train.batch_size"])
        config.data.cache_dir = scratch
        config.train.validation_fraction = 0.0
        config.train.log_every = max(1, epoch // 4)
        config.train.epochs = 3
        cases = [later_epochs(config, {**fields, "train.steps_per_call": steps}) for steps in (1, 4, 16)]
    return {"cases": cases}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=pathlib.Path, help="folder with images and an attributes.csv")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--images",
        nargs="+",
        type=int,
        default=[224, 96],
        help="height and width of the images of parallel, in pixels",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of input; the first is not counted")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    parser.add_argument("--name", default="scaling_cpu", help="name of the result, without .json")
    options = parse_flags(parser, arguments)
    if options.photographs and not (options.photographs / "attributes.csv").is_file():
        parser.error(f"--photographs={options.photographs}: it has no attributes.csv")
    jax.config.update("jax_platforms", "cpu")

    tiny = {"model.width": 1 / 32, "model.feature_dim": 4, "data.image_size": 64, "train.batch_size": 8}
    path = options.out / f"{options.name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    result = {part: before[part] for part in PARTS if part in before}
    if "parallel" in options.only:
        small = {"batch": 8, "width": 1 / 32, "dim": 4}
        cases = (
            [{"image": 64, **small}]
            if options.tiny
            else [{"image": image, "batch": 64} for image in options.images]
        )
        result["parallel"] = {"cases": [measure_parallel(case, options.repeats) for case in cases]}
    if "input" in options.only:
        paper = {"model.width": 1.0, "model.feature_dim": 340, "data.image_size": 224, "train.batch_size": 64}
        result["input"] = measure_input(
            options.photographs, tiny if options.tiny else paper, 4, options.epochs
        )
    if "steps" in options.only:
        result["steps"] = measure_steps(tiny, 16 if options.tiny else 400)
    for part in options.only:
        result[part] = {"date": datetime.date.today().isoformat(), **result[part]}
    print(scaling_table(result))
    record(path, result, about=options.about)
    return result


if __name__ == "__main__":
    main()
