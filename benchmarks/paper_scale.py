"""The paper's whole training and evaluation at Shopping100k's sizes, on random images and labels.

    python benchmarks/paper_scale.py

80,586 training images of 224 px, 12 attributes: 25 epochs of the encoder at batch 128, the prototypes, 25
epochs of the memory at batch 64 over 120,371 triplets, then 20,000 test images encoded, 14,361 queries of
1,581 of them searched, and all metrics. It is what train.py and evaluate.py do, checkpoints and the log
included, but no validation, and nothing is decoded: pixels are random. The search reads random features, as
in benchmarks/evaluation.py, because an encoder tells random pixels hardly apart.

On a GPU all of it runs, in bfloat16 with all images on the device, several steps a call, unless flags say
otherwise; with ``--seconds`` as many steps of each stage as fit, which may be all. On a CPU a few steps of
each stage and a few batches are measured. What was not run is extrapolated from the median of what was, and
from the time that a checkpoint takes; what is printed and written says which.
"""

import argparse
import dataclasses
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.card import matrix_rate
from benchmarks.evaluation import KS, random_evaluation
from benchmarks.flops import count_flops
from benchmarks.generation import random_catalogue
from benchmarks.recording import machine_name, record
from benchmarks.training_runs import spread, step_records
from configs import shopping100k
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.scores import retrieval_metrics
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.runs import builders
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.fields.data import DEVICE, PLACEMENTS
from gradrev_jax.runs.fields.general import ENCODER, MEMORY
from gradrev_jax.search.gallery import make_index, retrieve
from gradrev_jax.training.stage import Batch, RunOptions, Stage
from gradrev_jax.training.stage_observer import checkpoint_items
from gradrev_jax.training.stage_runner import run_stage
from gradrev_jax.training.stages import STAGES, Run, stage_devices
from gradrev_jax.training.validation import Validation

FULL = {"train": 80_586, "test": 20_000, "triplets": 120_371, "references": 1_581, "queries": 14_361}
TINY = {"train": 64, "test": 60, "triplets": 24, "references": 5, "queries": 20}
FEWEST_MORE = 10  # steps that are worth beginning a stage again
DISTINCT = 512  # random images; all others repeat them


@dataclasses.dataclass
class Part:
    """Seconds of one part.

    Attributes:
      seconds: of the whole part.
      how: ``measured``, or from what it was extrapolated.
      details: medians, spread, what is achieved.
    """

    seconds: float
    how: str
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def paper_config(options: argparse.Namespace) -> ConfigDict:
    """configs/shopping100k.py, with what the flags say."""
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
    """Uint8 [count, size, size, 3]; a few random images again and again, because drawing takes longest."""
    distinct = np.random.default_rng(0).integers(0, 256, (min(count, DISTINCT), size, size, 3), np.uint8)
    pixels = np.empty((count, *distinct.shape[1:]), np.uint8)
    for start in tqdm(range(0, count, DISTINCT), desc="pixels", unit="chunk", leave=False):
        pixels[start : start + DISTINCT] = distinct[: count - start]
    return pixels


def step_flops(stage: Stage) -> float:
    """Returns the FLOP of one step's convolutions and products."""
    rows, targets = stage.batch(0)
    images = jax.ShapeDtypeStruct((len(rows), *stage.images.shape[1:]), jnp.uint8)
    return sum(count_flops(stage.update, stage.state, images, targets).values())


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def train_stage(
    run: Run, stage: Stage, *, least_steps: int | None, seconds: float, rate: float
) -> tuple[Part, Any]:
    """Trains a stage, or as many of its steps as there is time for.

    Args:
      run: the run.
      stage: what is trained.
      least_steps: of the stage that are trained, however long they take; None: all.
      seconds: how long it may take, if only some are.
      rate: FLOP/s of matrix products, for comparison.

    Returns:
      What it took, and the last parameters.
    """
    config = run.config
    on_device = config.data.placement == DEVICE
    parallel = stage_devices(config, stage.name)
    if on_device:
        parallel.check_room(stage.images.shape, besides=2 * _bytes(stage.state))
    pool, batch = len(stage.images), stage.batch
    stage = dataclasses.replace(stage, batch=lambda step: Batch(batch(step).rows % pool, batch(step).targets))
    flops, last = step_flops(stage), stage.last_step

    def train(state: Any, last_step: int) -> Any:
        return run_stage(
            dataclasses.replace(stage, state=state, last_step=last_step),
            run.directory,
            RunOptions(
                parallel=parallel,
                on_device=on_device,
                steps_per_call=config.train.steps_per_call,
                log_every=config.train.log_every,
                progress=run.progress,
            ),
        )

    def records() -> list[dict[str, Any]]:
        logged = step_records(run.directory, stage.name)
        compiling = [next((each["step"] for each in logged if each["step"] > first), 0) for first in starts]
        return [each for each in logged if each["step"] not in compiling]

    def step_seconds() -> dict[str, float]:
        return spread([stage.batch_size / record["images_per_second"] for record in records()])

    starts = [0]
    taken, state = timed(lambda: train(stage.state, last if least_steps is None else min(last, least_steps)))
    done = int(state.step)
    if done < last:
        each = step_seconds()["median"]
        again = taken - done * each  # compiling, or reading what was compiled, and restoring
        fits = int((seconds - taken - again) / each)
        if fits >= FEWEST_MORE:
            starts.append(done)
            so_far = state  # what the stage restores, too, over these
            more, state = timed(lambda: train(so_far, min(last, done + fits)))
            taken, done = taken + more, int(state.step)
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
    details["checkpoint_seconds"] = checkpoint_seconds(state, run.directory / f"{stage.name}_once_more")
    checkpoints = epochs - max(1, done // stage.epoch_steps)
    rest = (last - done) * measured["median"] + checkpoints * details["checkpoint_seconds"]
    return Part(taken + rest, f"extrapolated from {done} steps", details), state.params


def checkpoint_seconds(state: Any, directory: pathlib.Path) -> float:
    """Returns how long training stands still for a checkpoint, whose files are written while it goes on."""
    with Checkpoints(directory) as checkpoints:
        return timed(lambda: checkpoints.save(int(state.step), checkpoint_items(state)))[0]


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def over_images(work: Callable[[np.ndarray], Any], pixels: np.ndarray, count: int, batch_size: int) -> Part:
    """Something that is done batch by batch with so many images: all of them, or a few batches."""
    if len(pixels) == count:
        return Part(timed(lambda: work(pixels))[0], "measured")
    first = timed(lambda: work(pixels[:batch_size]))[0]
    each = [timed(lambda: work(pixels[:batch_size]))[0] for _ in range(max(2, len(pixels) // batch_size))]
    one = spread(each)
    batches = -(-count // batch_size)
    return Part(
        first + (batches - 1) * one["median"],
        f"extrapolated from {len(each)} batches",
        {"batches": batches, "batch_seconds": one, "first_batch_seconds": first},
    )


def evaluate(sizes: dict[str, int], dim: int, progress: bool) -> list[tuple[str, Part]]:
    """Search of all queries and the untouched references, and all metrics."""
    features, labels, queries, schema = random_evaluation(
        sizes["test"], sizes["references"], sizes["queries"], dim
    )
    memory = class_prototypes(features, labels, schema)
    references, which = np.unique(queries.reference, return_inverse=True)
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
    found, baseline = found[: len(queries)], found[len(queries) :][which]
    scored, _ = timed(lambda: [retrieval_metrics(labels[rows], queries, ks) for rows in (found, baseline)])
    return [("search", Part(searched, "measured")), ("metrics", Part(scored, "measured"))]


def measure(options: argparse.Namespace, directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Measures all parts in their order; yields the result after each of them.

    Args:
      options: of the command.
      directory: a new run's folder.
    """
    started = time.perf_counter()
    sizes, config = TINY if options.tiny else FULL, paper_config(options)
    rate = matrix_rate(options.precision, options.matrix, burst=10 if config.precision == "bfloat16" else 1)
    catalogue = random_catalogue(sizes["train"], sizes["test"], skew=6.0 if options.tiny else 1.0)
    encoder = builders.build_encoder(config, catalogue.schema)
    size, at_once = config.data.image_size, config.protocol.batch_size
    whole = options.whole or options.seconds is not None  # so are the images, if not the steps
    pixels = random_pixels(sizes["train"] if whole else 4 * at_once, size)
    images = {TRAIN: pixels, VALIDATION: pixels[:0], TEST: pixels[: sizes["test"]]}
    run = Run(
        config,
        directory,
        catalogue,
        images,
        encoder,
        backbone=None,
        reversal_scale=1.0,
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
            "peak_host_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "peak_device_memory_gib": device_peak(),
        }

    def left() -> float:
        besides = options.besides if options.seconds else 0.0
        return (options.seconds or 0.0) - besides - (time.perf_counter() - started)

    least = None if options.whole else options.steps
    stage = STAGES[ENCODER](run)
    # Images that each stage encodes: an epoch of the second has three for each triplet.
    shares = sizes["train"], 3 * config.memory.triplets
    first = left() * shares[0] / sum(shares)
    part, _ = train_stage(run, stage, least_steps=least, seconds=first, rate=rate["median"])
    yield with_part("stage 1, encoder", part)
    restoring, stage = timed_stage(run)
    part, trained = train_stage(run, stage, least_steps=least, seconds=left(), rate=rate["median"])
    yield with_part("stage 2, memory", part)
    params, forward = trained[ENCODER], make_forward(encoder)
    batching = {"batch_size": at_once, "progress": whole}
    part = (  # stage 2 starts from them
        Part(restoring, "measured")
        if whole
        else over_images(
            lambda some: build_memory(
                forward,
                params,
                [(some, catalogue.part_labels(TRAIN))],
                catalogue.schema,
                feature_dim=encoder.feature_dim,
                **batching,
            ),
            pixels,
            sizes["train"],
            at_once,
        )
    )
    yield with_part("prototypes", part)
    forward = make_forward(encoder)
    part = over_images(
        lambda some: encode(
            forward,
            params,
            some,
            catalogue.part_labels(TEST)[: len(some)],
            encoder,
            description="gallery",
            **batching,
        ),
        images[TEST],
        sizes["test"],
        at_once,
    )
    yield with_part("gallery", part)
    for name, part in evaluate(sizes, encoder.feature_dim, progress=True):
        yield with_part(name, part)


def timed_stage(run: Run) -> tuple[float, Stage]:
    """Stage 2 before its first step, and the seconds that restoring and the prototypes take."""
    start = time.perf_counter()
    stage = STAGES[MEMORY](run)
    jax.block_until_ready(stage.state.params)
    return time.perf_counter() - start, stage


def device_peak() -> float | None:
    """Most GiB that were allocated on the first device; None where it does not tell."""
    statistics = jax.devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] / 2**30 if statistics else None


def report(result: dict[str, Any]) -> str:
    """The parts, a line each."""
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
    """Measure, print, write the result, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    on_gpu = jax.default_backend() == "gpu"
    parser.add_argument(
        "--precision", choices=tuple(builders.PRECISIONS), default="bfloat16" if on_gpu else "float32"
    )
    parser.add_argument("--placement", choices=PLACEMENTS, default="device" if on_gpu else "host")
    parser.add_argument("--steps-per-call", type=int, default=10 if on_gpu else 1)
    parser.add_argument("--epochs", type=int, default=25, help="of each stage")
    parser.add_argument(
        "--steps",
        type=int,
        default=200 if on_gpu else 6,
        help="of each stage that are measured at least, where not all are",
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
    parser.add_argument("--matrix", type=int, default=8192 if on_gpu else 2048, help="of the matrix rate")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    if options.whole and options.seconds is not None:
        parser.error("--whole runs all of it, and --seconds as much as fits; give one of them")
    if options.steps < 2:
        parser.error(f"--steps={options.steps}: the first compiles, so it takes at least 2")
    if options.whole is None:
        options.whole = on_gpu and options.seconds is None
    path = options.out / f"paper_scale_{machine_name()}.json"
    config: Any = jax.config
    with tempfile.TemporaryDirectory() as folder:
        # With --seconds a stage is begun twice; so it is compiled once.
        if options.seconds is not None and config.jax_compilation_cache_dir is None:
            config.update("jax_compilation_cache_dir", f"{folder}/programs")
        for result in measure(options, pathlib.Path(folder) / "run"):
            record(path, result, quiet=True)  # whoever ends it keeps what is done
    print(report(result))
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    main()
