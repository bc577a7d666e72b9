"""The paper's whole training and evaluation at Shopping100k's sizes, on random images and labels.

    python benchmarks/paper_scale.py

80,586 training images of 224 px, 12 attributes: 25 epochs of the encoder at batch 128, the prototypes, 25
epochs of the memory at batch 64 over 120,371 triplets, then 20,000 test images encoded, 14,361 queries of
1,581 of them searched, and all metrics. It is what train.py and evaluate.py do, checkpoints and the log
included, but no validation, and nothing is decoded: pixels are random. The search reads random features, as
in benchmarks/evaluation.py, because an encoder tells random pixels hardly apart.

On a GPU all of it runs, in bfloat16 with all images on the device, several steps a call, unless flags say
otherwise. On a CPU a few steps of each stage and a few batches are measured, and the rest is extrapolated
from their median, with one checkpoint a stage; what is printed and written says which.
"""

import argparse
import dataclasses
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # where it is run as a file, not with -m

from benchmarks.evaluation import KS, random_evaluation
from benchmarks.generation import random_catalogue
from benchmarks.recording import record
from benchmarks.training_runs import spread, step_records
from configs import shopping100k
from gradrev_jax import settings
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.manipulation import class_prototypes
from gradrev_jax.manipulation_retrieval import make_index, retrieval_metrics, retrieve
from gradrev_jax.models import convolution
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.training.memory_steps import ENCODER, MEMORY
from gradrev_jax.training.stage import Stage, run_stage
from gradrev_jax.training.stages import STAGES, Run, stage_devices
from gradrev_jax.training.validation import Validation

FULL = {"train": 80_586, "test": 20_000, "triplets": 120_371, "references": 1_581, "queries": 14_361}
TINY = {"train": 64, "test": 60, "triplets": 24, "references": 5, "queries": 20}
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
        config.train.max_steps = config.memory.max_steps = options.steps
        config.train.log_every = 1
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


def matrix_rate(dtype: str, size: int) -> dict[str, float]:
    """FLOP/s of products of large square matrices in a dtype, accumulated as the backend does."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(product(a, b))
        seconds.append(time.perf_counter() - start)
    return spread([2 * size**3 / one for one in seconds])


def step_flops(stage: Stage) -> float:
    """FLOP of one step, counted by XLA in the program as it is written, before any optimisation.

    Of direct convolutions, on every device: of a loop, as tiles are in, XLA counts the body once.
    """
    rows, targets = stage.batch(0)
    images = jax.ShapeDtypeStruct((len(rows), *stage.images.shape[1:]), jnp.uint8)
    with mock.patch.object(convolution, "is_worthwhile", return_value=False):
        lowered = jax.jit(stage.update).lower(stage.state, images, targets)
    analysis: Any = lowered.cost_analysis()
    return float(analysis["flops"])


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def train_stage(run: Run, stage: Stage, *, whole: bool, rate: float) -> tuple[Part, Any]:
    """Run a stage to its end, or a few of its steps; with it its last parameters."""
    config = run.config
    on_device = config.data.placement == settings.DEVICE
    parallel = stage_devices(config, stage.name)
    if on_device:
        parallel.check_room(stage.images.shape, besides=2 * _bytes(stage.state))
    pool, batch = len(stage.images), stage.batch
    stage = dataclasses.replace(stage, batch=lambda step: (batch(step)[0] % pool, batch(step)[1]))
    flops = step_flops(stage)
    seconds, state = timed(
        lambda: run_stage(
            stage,
            run.directory,
            parallel=parallel,
            on_device=on_device,
            steps_per_call=config.train.steps_per_call,
            log_every=config.train.log_every,
            checkpoint_every=0,
            progress=run.progress,
        )
    )
    steps = int(state.step)
    records = step_records(run.directory, stage.name)[1:]  # the first has the compilation in it
    step_seconds = spread([stage.batch_size / record["images_per_second"] for record in records])
    last = stage.epoch_steps * run.config[{ENCODER: "train", MEMORY: "memory"}[stage.name]].epochs
    achieved = flops / step_seconds["median"]
    details = {
        "steps": last,
        "step_seconds": step_seconds,
        "images_per_second": stage.batch_size / step_seconds["median"],
        "input_wait": spread([record["input_wait"] for record in records]),
        "flop_per_step": flops,
        "flop_per_second": achieved,
        "of_matrix_rate": achieved / rate,
        "seconds_besides_steps": seconds - steps * step_seconds["median"],
    }
    part = Part(seconds, "measured", details)
    if not whole:
        rest = (last - steps) * step_seconds["median"]
        part = Part(seconds + rest, f"extrapolated from {steps} steps", details)
    return part, state.params


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


def measure(options: argparse.Namespace, directory: pathlib.Path) -> dict[str, Any]:
    """All parts, in their order."""
    sizes, config = TINY if options.tiny else FULL, paper_config(options)
    rate = matrix_rate(options.precision, options.matrix)
    catalogue = random_catalogue(sizes["train"], sizes["test"], skew=6.0 if options.tiny else 1.0)
    encoder = settings.build_encoder(config, catalogue.schema)
    size, at_once = config.data.image_size, config.protocol.batch_size
    pixels = random_pixels(sizes["train"] if options.whole else 4 * at_once, size)
    images = {TRAIN: pixels, VALIDATION: pixels[:0], TEST: pixels[: sizes["test"]]}
    run = Run(
        config,
        directory,
        catalogue,
        images,
        encoder,
        backbone=None,
        reversal_scale=1.0,
        triplets=settings.triplets_of(catalogue, config),
        validate=lambda params, memory: Validation({}, None),
        progress=True,
    )
    training: dict[str, Any] = {"whole": options.whole, "rate": rate["median"]}
    parts = {}
    parts["stage 1, encoder"], _ = train_stage(run, STAGES[ENCODER](run), **training)
    seconds, second = timed_stage(run)
    parts["stage 2, memory"], trained = train_stage(run, second, **training)
    params, forward = trained[ENCODER], make_forward(encoder)
    batching = {"batch_size": at_once, "progress": options.whole}
    parts["prototypes"] = (  # stage 2 starts from them
        Part(seconds, "measured")
        if options.whole
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
    forward = make_forward(encoder)
    parts["gallery"] = over_images(
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
    parts |= dict(evaluate(sizes, encoder.feature_dim, progress=True))
    return {
        "sizes": {**sizes, "image": size, "epochs": options.epochs},
        "precision": options.precision,
        "placement": options.placement,
        "steps_per_call": options.steps_per_call,
        "parts": {name: dataclasses.asdict(part) for name, part in parts.items()},
        "seconds": sum(part.seconds for part in parts.values()),
        "measured_whole": all(part.how == "measured" for part in parts.values()),
        "matrix_flop_per_second": rate,
        "peak_host_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "peak_device_memory_gib": device_peak(),
    }


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
        "--precision", choices=tuple(settings.PRECISIONS), default="bfloat16" if on_gpu else "float32"
    )
    parser.add_argument("--placement", choices=settings.PLACEMENTS, default="device" if on_gpu else "host")
    parser.add_argument("--steps-per-call", type=int, default=10 if on_gpu else 1)
    parser.add_argument("--epochs", type=int, default=25, help="of each stage")
    parser.add_argument("--steps", type=int, default=6, help="of each stage that are measured on a CPU")
    parser.add_argument(
        "--whole", action=argparse.BooleanOptionalAction, default=on_gpu, help="run it all; default: on a GPU"
    )
    parser.add_argument("--matrix", type=int, default=8192 if on_gpu else 2048, help="of the matrix rate")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, pathlib.Path(folder) / "run")
    print(report(result))
    record(options.out / f"paper_scale_{'gpu' if on_gpu else 'cpu'}.json", result)
    return result


if __name__ == "__main__":
    main()
