"""Times the paper's whole training and evaluation at Shopping100k's sizes, on random images and labels.

    python benchmarks/paper_scale.py

With 80,586 training images of 224 px and 12 attributes, it trains 25 epochs of the encoder at batch 128,
builds the prototypes, trains 25 epochs of the memory at batch 64 over 120,371 triplets, encodes 20,000 test
images, searches for 14,361 queries of 1,581 of them, and computes all metrics. This is the work of train.py
and evaluate.py, including checkpoints and the log, but without validation, and without decoding, because the
pixels are random. The search reads random features, as in benchmarks/evaluation.py, because an encoder hardly
distinguishes images of random pixels.

On a GPU everything runs, by default in bfloat16 with all images on the device and several steps per call;
with ``--seconds``, as many steps of each stage as the time allows, possibly all. On a CPU, a few steps of
each stage and a few batches are measured. The time of the steps that did not run is extrapolated from the
median step and the time of a checkpoint; the output says which times are extrapolated.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.card import matrix_rate
from benchmarks.evaluation import KS, random_evaluation
from benchmarks.flops import count_flops
from benchmarks.generation import random_catalogue
from benchmarks.recording import are_changed, machine_name, parse_flags, record
from benchmarks.resident_memory import peak_resident
from benchmarks.training_runs import spread, step_records
from configs import shopping100k
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.scores import retrieval_metrics
from gradrev_jax.models.inference import encode
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs import builders
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.fields.data import DEVICE, PLACEMENTS
from gradrev_jax.search.gallery import make_index, retrieve
from gradrev_jax.systems.backbone import PRECISIONS
from gradrev_jax.systems.objective import ENCODER, MEMORY
from gradrev_jax.training.saved_state import checkpoint_items
from gradrev_jax.training.stage import Batch, RunOptions, Stage
from gradrev_jax.training.stage_runner import run_stage
from gradrev_jax.training.stages import STAGE_BUILDERS, StageInputs, stage_devices
from gradrev_jax.training.validation import Validation

FULL = {"train": 80_586, "test": 20_000, "triplets": 120_371, "references": 1_581, "queries": 14_361}
TINY = {"train": 64, "test": 60, "triplets": 24, "references": 5, "queries": 20}
FEWEST_MORE = 10  # fewer steps than this are not worth starting a stage again
DISTINCT = 512  # the number of different random images; all others repeat them


@dataclasses.dataclass
class Part:
    """The time of one part.

    Attributes:
      seconds: the seconds of the whole part.
      how: ``measured``, or the basis of the extrapolation.
      details: the medians, the spread, and the achieved rates.
    """

    seconds: float
    how: str
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def paper_config(options: argparse.Namespace) -> ConfigDict:
    """Returns configs/shopping100k.py with the flags applied."""
    config = shopping100k.get_config()
    config.precision = options.precision
    config.data.placement = options.placement
    config.train.steps_per_call = options.steps_per_call
    config.train.validation_fraction = 0.0
    config.memory.triplets = TINY["triplets"] if options.tiny else FULL["triplets"]
    config.train.epochs = config.memory.epochs = options.epochs
    if not options.whole:
        config.train.log_every = min(config.train.log_every, max(1, options.steps // 6))
    if options.tiny:
        config.data.image_size, config.model.width, config.model.feature_dim = 64, 1 / 32, 4
        config.train.batch_size, config.memory.batch_size, config.protocol.batch_size = 8, 4, 8
        config.train.log_every = 1
    return config


def random_pixels(count: int, size: int) -> np.ndarray:
    """Returns uint8 [count, size, size, 3]; it repeats a few random images, because drawing all is slow."""
    distinct = np.random.default_rng(0).integers(0, 256, (min(count, DISTINCT), size, size, 3), np.uint8)
    pixels = np.empty((count, *distinct.shape[1:]), np.uint8)
    for start in ProgressBar(range(0, count, DISTINCT), desc="pixels", unit="chunk", leave=False):
        pixels[start : start + DISTINCT] = distinct[: count - start]
    return pixels


def step_flops(stage: Stage) -> float:
    """Returns the FLOP of one step's convolutions and products."""
    rows, targets = stage.batch(0)
    batch = jax.ShapeDtypeStruct((len(rows), *stage.inputs.shape[1:]), jnp.uint8)
    return sum(count_flops(stage.update, stage.begin(), batch, targets).values())


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds that a function takes, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def train_stage(
    shared: StageInputs, stage: Stage, *, least_steps: int | None, seconds: float, rate: float
) -> tuple[Part, Any]:
    """Trains a stage, or as many of its steps as the time allows.

    Args:
      shared: the inputs that all stages share.
      stage: the stage to train.
      least_steps: the number of steps to train however long they take; None for all.
      seconds: the time limit if not all steps are trained.
      rate: the FLOP/s of matrix products, for comparison.

    Returns:
      The time of the stage, and the last parameters.
    """
    config = shared.config
    on_device = config.data.placement == DEVICE
    parallel = stage_devices(config, stage.name)
    if on_device:
        parallel.check_room(stage.inputs.shape, besides=2 * _bytes(stage.begin()))
    pool, batch = len(stage.inputs), stage.batch
    stage = dataclasses.replace(stage, batch=lambda step: Batch(batch(step).rows % pool, batch(step).targets))
    flops, last = step_flops(stage), stage.last_step

    def train(state: Any, last_step: int) -> Any:
        return run_stage(
            dataclasses.replace(stage, begin=lambda: state, last_step=last_step),
            shared.directory,
            RunOptions(
                parallel=parallel,
                on_device=on_device,
                steps_per_call=config.train.steps_per_call,
                log_every=config.train.log_every,
                progress=shared.progress,
            ),
        )

    def records() -> list[dict[str, Any]]:
        logged = step_records(shared.directory, stage.name)
        compiling = [
            next((record["step"] for record in logged if record["step"] > first), 0) for first in starts
        ]
        return [record for record in logged if record["step"] not in compiling]

    def step_seconds() -> dict[str, float]:
        return spread([stage.batch_size / record["images_per_second"] for record in records()])

    starts = [0]
    taken, state = timed(
        lambda: train(stage.begin(), last if least_steps is None else min(last, least_steps))
    )
    done = int(state.step)
    if done < last:
        median = step_seconds()["median"]
        overhead = taken - done * median  # the cost of compiling (or loading a cached program) and restoring
        fits = int((seconds - taken - overhead) / median)
        if fits >= FEWEST_MORE:
            starts.append(done)
            reached = state  # run_stage restores the same state from its checkpoint anyway
            extra, state = timed(lambda: train(reached, min(last, done + fits)))
            taken, done = taken + extra, int(state.step)
    measured = step_seconds()
    achieved = flops / measured["median"]
    details: dict[str, Any] = {
        "steps": last,
        "measured_steps": done,
        "step_seconds": measured,
        "images_per_second": stage.batch_size / measured["median"],
        "input_wait": spread([record["input_wait"] for record in records()]),
        "flop_per_step": flops,
        "flop_per_second": achieved,
        "of_matrix_rate": achieved / rate,
        "seconds_besides_steps": taken - done * measured["median"],
    }
    if done == last:
        return Part(taken, "measured", details), state.params
    epochs = -(-last // stage.epoch_steps)
    details["checkpoint_seconds"] = checkpoint_seconds(state, shared.directory / f"{stage.name}_once_more")
    checkpoints = epochs - max(1, done // stage.epoch_steps)
    rest = (last - done) * measured["median"] + checkpoints * details["checkpoint_seconds"]
    return Part(taken + rest, f"extrapolated from {done} steps", details), state.params


def checkpoint_seconds(state: Any, directory: pathlib.Path) -> float:
    """Returns the seconds for which a checkpoint blocks training; its files are written in the background."""
    with Checkpoints(directory) as checkpoints:
        return timed(lambda: checkpoints.save(int(state.step), checkpoint_items(state)))[0]


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def over_images(work: Callable[[np.ndarray], Any], pixels: np.ndarray, count: int, batch_size: int) -> Part:
    """Times work on ``count`` images in batches; extrapolates from a few batches if ``pixels`` has fewer."""
    if len(pixels) == count:
        return Part(timed(lambda: work(pixels))[0], "measured")
    first = timed(lambda: work(pixels[:batch_size]))[0]
    repeats = [timed(lambda: work(pixels[:batch_size]))[0] for _ in range(max(2, len(pixels) // batch_size))]
    batch_seconds = spread(repeats)
    batches = -(-count // batch_size)
    return Part(
        first + (batches - 1) * batch_seconds["median"],
        f"extrapolated from {len(repeats)} batches",
        {"batches": batches, "batch_seconds": batch_seconds, "first_batch_seconds": first},
    )


def evaluate(sizes: dict[str, int], dim: int, progress: bool) -> list[tuple[str, Part]]:
    """Times the search for all queries and for the unchanged references, and all metrics."""
    features, labels, queries, schema = random_evaluation(
        sizes["test"], sizes["references"], sizes["queries"], dim
    )
    memory = class_prototypes(features, labels, schema)
    references, inverse = np.unique(queries.reference, return_inverse=True)
    untouched = np.zeros((len(references), schema.num_values), np.int8)
    ks = [k for k in KS if k <= sizes["test"] // 2]
    searched, found = timed(
        lambda: retrieve(
            make_index(features, memory),
            np.concatenate([queries.reference, references]),
            np.concatenate([queries.indicators, untouched]),
            max(ks),
            progress=progress,
        )
    )
    found, baseline = found[: len(queries)], found[len(queries) :][inverse]
    scored, _ = timed(lambda: [retrieval_metrics(labels[rows], queries, ks) for rows in (found, baseline)])
    return [("search", Part(searched, "measured")), ("metrics", Part(scored, "measured"))]


def measure(options: argparse.Namespace, directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Measures all parts in their order; yields the result after each of them.

    Args:
      options: the options of the command line.
      directory: the folder of the new run.
    """
    started = time.perf_counter()
    sizes, config = TINY if options.tiny else FULL, paper_config(options)
    rate = matrix_rate(options.precision, options.matrix, burst=10 if config.precision == "bfloat16" else 1)
    catalogue = random_catalogue(sizes["train"], sizes["test"], skew=6.0 if options.tiny else 1.0)
    encoder = builders.build_encoder(config, catalogue.schema)
    size, batch_size = config.data.image_size, config.protocol.batch_size
    # Whether all images are there; with --seconds they are, even if not all steps run.
    whole = options.whole or options.seconds is not None
    pixels = random_pixels(sizes["train"] if whole else 4 * batch_size, size)
    images = {TRAIN: pixels, VALIDATION: pixels[:0], TEST: pixels[: sizes["test"]]}
    shared = StageInputs(
        config,
        directory,
        catalogue,
        dict(images),
        encoder,
        starting_weights={},
        objectives=builders.objectives(config, encoder, catalogue.part_labels(TRAIN)),
        triplets=builders.triplets_of(catalogue, config),
        validate=lambda params, memory: Validation({}, None),
        progress=True,
    )
    result: dict[str, Any] = {
        "sizes": {**sizes, "image": size, "epochs": options.epochs},
        "precision": options.precision,
        "placement": options.placement,
        "steps_per_call": options.steps_per_call,
        "matrix_flop_per_second": rate,
        "parts": {},
    }

    def with_part(name: str, part: Part) -> dict[str, Any]:
        result["parts"][name] = dataclasses.asdict(part)
        parts = result["parts"].values()
        return {
            **result,
            "seconds": sum(part["seconds"] for part in parts),
            "measured_whole": all(part["how"] == "measured" for part in parts),
            "peak_host_memory_gib": peak_resident() / 2**30,
            "peak_device_memory_gib": device_peak(),
        }

    def seconds_left() -> float:
        reserved = options.besides if options.seconds else 0.0
        return (options.seconds or 0.0) - reserved - (time.perf_counter() - started)

    least = None if options.whole else options.steps
    stage = STAGE_BUILDERS[ENCODER](shared)
    # The images that each stage encodes per epoch: the second encodes three per triplet.
    shares = sizes["train"], 3 * config.memory.triplets
    first = seconds_left() * shares[0] / sum(shares)
    part, _ = train_stage(shared, stage, least_steps=least, seconds=first, rate=rate["median"])
    yield with_part("stage 1, encoder", part)
    restoring, stage = timed_stage(shared)
    part, trained = train_stage(shared, stage, least_steps=least, seconds=seconds_left(), rate=rate["median"])
    yield with_part("stage 2, memory", part)
    params = trained[ENCODER]
    batching = {"batch_size": batch_size, "progress": whole}
    part = (  # stage 2 builds the prototypes before its first step
        Part(restoring, "measured")
        if whole
        else over_images(
            lambda chosen: build_memory(
                params, [(chosen, catalogue.part_labels(TRAIN))], encoder, **batching
            ),
            pixels,
            sizes["train"],
            batch_size,
        )
    )
    yield with_part("prototypes", part)
    part = over_images(
        lambda chosen: encode(
            params,
            chosen,
            catalogue.part_labels(TEST)[: len(chosen)],
            encoder,
            description="gallery",
            **batching,
        ),
        images[TEST],
        sizes["test"],
        batch_size,
    )
    yield with_part("gallery", part)
    for name, part in evaluate(sizes, encoder.feature_dim, progress=True):
        yield with_part(name, part)


def timed_stage(shared: StageInputs) -> tuple[float, Stage]:
    """Sets up stage 2; returns the seconds that restoring and the prototypes take, and the stage."""
    start = time.perf_counter()
    stage = STAGE_BUILDERS[MEMORY](shared)
    jax.block_until_ready(stage.begin().params)
    return time.perf_counter() - start, stage


def device_peak() -> float | None:
    """Returns the peak memory of the first device in GiB; None if it keeps no statistics."""
    statistics = jax.devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] / 2**30 if statistics else None


def report(result: dict[str, Any]) -> str:
    """Returns the parts as text, one line each."""
    lines = [f"{'part':20}{'seconds':>12}  how"]
    for name, part in result["parts"].items():
        lines.append(f"{name:20}{part['seconds']:12,.1f}  {part['how']}")
        if "step_seconds" in part["details"]:
            step, details = part["details"]["step_seconds"], part["details"]
            lines.append(
                f"{'':34}{step['median']:.3f} s a step [{step['least']:.3f}, {step['most']:.3f}], "
                f"{details['images_per_second']:,.0f} images/s, "
                f"{details['flop_per_second'] / 1e12:.2f} TFLOP/s, "
                f"{details['of_matrix_rate']:.0%} of large matrix products"
            )
    whole = "measured" if result["measured_whole"] else "extrapolated"
    lines.append(f"{'total':20}{result['seconds']:12,.1f}  {whole}, {result['seconds'] / 60:,.1f} minutes")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    on_gpu = jax.default_backend() == "gpu"
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--placement", choices=PLACEMENTS, default="device" if on_gpu else "host")
    parser.add_argument("--steps-per-call", type=int, default=10 if on_gpu else 1)
    parser.add_argument("--epochs", type=int, default=25, help="epochs of each stage")
    parser.add_argument(
        "--steps",
        type=int,
        default=200 if on_gpu else 6,
        help="fewest steps of each stage that are measured, unless all are",
    )
    parser.add_argument(
        "--whole", action=argparse.BooleanOptionalAction, default=None, help="run it all; default: on a GPU"
    )
    parser.add_argument(
        "--seconds", type=float, help="run as much of it as fits, and all parts besides the steps"
    )
    parser.add_argument(
        "--besides", type=float, default=40.0, help="of the seconds, those kept for what follows the steps"
    )
    parser.add_argument(
        "--matrix",
        type=int,
        default=8192 if on_gpu else 2048,
        help="rows of the matrices that the rate is measured with",
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(
        parser, arguments, is_trial=lambda options: are_changed(parser, options, ("epochs",))
    )
    if options.whole and options.seconds is not None:
        parser.error("--whole runs all of it, and --seconds as much as fits; give one of them")
    if options.steps < 2:
        parser.error(f"--steps={options.steps}: the first compiles, so it takes at least 2")
    if options.whole is None:
        options.whole = on_gpu and options.seconds is None
    path = options.out / f"paper_scale_{machine_name()}.json"
    config: Any = jax.config
    with tempfile.TemporaryDirectory() as folder:
        # With --seconds a stage may start twice; with a cache it is compiled only once.
        if options.seconds is not None and config.jax_compilation_cache_dir is None:
            config.update("jax_compilation_cache_dir", f"{folder}/programs")
        for result in measure(options, pathlib.Path(folder) / "run"):
            # So that an interrupted run keeps its finished results.
            record(path, result, quiet=True, about=options.about)
    print(report(result))
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    main()
