"""Reduces a trace of ten training steps to the time of each kind of work on the device.

    python benchmarks/step_profile.py
    python benchmarks/step_profile.py --systems amnet fsn gamma

It traces the stages of the paper's system at its sizes, or those of other systems, on random images and
labels; on a GPU in bfloat16 with all images on the device, as in benchmarks/paper_scale.py. For each stage,
it reports the time per step that the device spends on convolutions, products, the optimiser, input
(gathering, mirroring and normalising images, and transfers from the host), copies and everything else; the
idle time; the share of the time that steps wait for their batches; the longest kernels; and the FLOP/s of the
convolutions and products beside the rate of large matrix products.

On a GPU the steps run without CUDA graphs, so that each kernel can be attributed to its instruction; the idle
time is then an upper bound.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for running this file without -m

from benchmarks.card import matrix_rate
from benchmarks.flops import CONVOLUTIONS, PRODUCTS, count_flops
from benchmarks.recording import machine_name, parse_flags, record
from benchmarks.schemas import SHOPPING100K_SIZES, schema_of_sizes
from benchmarks.side_by_side.inputs import random_images, random_labels
from benchmarks.side_by_side.tables import profile_table
from benchmarks.traces import device_events, reduce
from gradrev_commands.config_files import find_config, read_config
from gradrev_jax.core.optimizers import make_optimizer
from gradrev_jax.data.changes import indicators_between
from gradrev_jax.models.prototypes import prototype_shape
from gradrev_jax.runs import builders
from gradrev_jax.systems.objective import ENCODER, MEMORY, MemoryTargets
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.feed import Feed
from gradrev_jax.training.update import INPUT_SCOPE, TrainState, Update, make_update

FULL: dict[str, Any] = {
    "image": 224,
    "images": 2048,
    "encoder_batch": 128,
    "memory_batch": 64,
    "dim": 340,
    "width": 1.0,
}
CPU = {**FULL, "images": 256, "encoder_batch": 16, "memory_batch": 8}
TINY = {**FULL, "image": 64, "images": 32, "encoder_batch": 4, "memory_batch": 2, "dim": 4, "width": 1 / 32}
STEPS, WARM_UP = 10, 5
OURS = "shared"  # the paper's system
WITHOUT_GRAPHS = "--xla_gpu_enable_command_buffer="


def stages(sizes: dict[str, Any], precision: str, system: str) -> dict[str, tuple[Any, TrainState, Any]]:
    """Returns each stage's update, its first state, and the function from a step to its rows and targets.

    Args:
      sizes: the sizes of the images, the batches and the model.
      precision: the dtype of the computation.
      system: a word of ``configs/variants.py``.
    """
    schema = schema_of_sizes(SHOPPING100K_SIZES)
    labels = random_labels(sizes["images"], schema.sizes).astype(np.int32)
    config = read_config(find_config("catalogue"), system)
    fields = {"precision": precision, "model.feature_dim": sizes["dim"], "model.width": sizes["width"]}
    config.update_from_flattened_dict(fields)
    second = builders.system_of(config).second_stage
    config.stages = (ENCODER,) if second is None else (ENCODER, MEMORY)
    encoder = builders.build_encoder(config, schema)
    objectives = builders.objectives(config, encoder, labels)

    def encoder_batch(step: int) -> tuple[np.ndarray, Any]:
        rows = np.random.default_rng(step).integers(0, sizes["images"], sizes["encoder_batch"])
        return rows, labels[rows]

    def memory_batch(step: int) -> tuple[np.ndarray, Any]:
        rows = np.random.default_rng(step).integers(0, sizes["images"], (3, sizes["memory_batch"]))
        changes = indicators_between(labels[rows[0]], labels[rows[1]], schema)
        return rows.reshape(-1), MemoryTargets(labels[rows], changes)

    def optimizer_of(stage: str) -> optax.GradientTransformation:
        return make_optimizer(lambda step: 1e-4, frozen=objectives[stage].frozen)

    def update_of(stage: str) -> Update:
        return make_update(encoder, optimizer_of(stage), objectives[stage], seed=0, total_steps=1000)

    state = init_state(encoder, optimizer_of(ENCODER), input_size=sizes["image"], seed=0)
    found = {ENCODER: (update_of(ENCODER), state, encoder_batch)}
    if second is not None:
        memory = second.begin(config, encoder, jnp.zeros(prototype_shape(encoder).shape))
        begun = TrainState.begin({ENCODER: state.params, MEMORY: memory}, optimizer_of(MEMORY))
        found[MEMORY] = (update_of(MEMORY), begun, memory_batch)
    return found


def profile(update: Any, state: TrainState, batch: Any, pixels: jax.Array, folder: str) -> dict[str, Any]:
    """Traces ten steps of a stage, whose batches a thread prepares, as in training.

    Args:
      update: the update of the stage.
      state: the state before the first step; copies of it are donated.
      batch: the function from a step to the rows of its images, and the targets.
      pixels: all images, on the device.
      folder: the folder that the trace is written to.
    """

    def step(state: TrainState, pixels: jax.Array, rows: jax.Array, targets: Any) -> tuple[TrainState, Any]:
        with jax.named_scope(INPUT_SCOPE):
            images = pixels[rows]
        return update(state, images, targets)

    rows, targets = batch(0)
    flops = count_flops(step, state, pixels, rows, targets)
    state = jax.tree.map(jnp.copy, state)
    compiled = jax.jit(step, donate_argnums=0).lower(state, pixels, rows, targets).compile()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # only the work of the device is reduced
    with Feed(lambda number: jax.device_put(batch(number)), range(WARM_UP + STEPS)) as feed:
        for number, (rows, targets) in enumerate(feed):
            if number == WARM_UP:
                jax.block_until_ready(state)
                jax.profiler.start_trace(folder, profiler_options=options)
                start, waited = time.perf_counter(), feed.waited
            state, metrics = compiled(state, pixels, rows, targets)
        jax.block_until_ready((state, metrics))
        seconds = time.perf_counter() - start
        jax.profiler.stop_trace()
        waited = feed.waited - waited
    return {
        "flop_per_step": flops,
        "wall_seconds_per_step": seconds / STEPS,
        "input_wait": waited / seconds,
        **reduce(device_events(pathlib.Path(folder)), compiled.as_text() or "", STEPS),
    }


def rated(result: dict[str, Any], rate: float) -> dict[str, Any]:
    """Adds the FLOP/s of the convolutions and products to a profile, and their ratio to a rate.

    Args:
      result: the profile, from ``profile``.
      rate: the FLOP/s of large matrix products in the same precision.
    """
    seconds, flops = result["seconds_per_step"], result["flop_per_step"]
    rates = {kind: flops[kind] / seconds[kind] for kind in (CONVOLUTIONS, PRODUCTS) if seconds[kind]}
    both = sum(seconds[kind] for kind in (CONVOLUTIONS, PRODUCTS))
    return {
        **result,
        "flop_per_second": rates,
        "of_matrix_rate": {
            **{kind: achieved / rate for kind, achieved in rates.items()},
            **({"both": sum(flops.values()) / both / rate} if both else {}),
        },
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes the result, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    on_gpu = jax.default_backend() == "gpu"
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="bfloat16" if on_gpu else "float32"
    )
    parser.add_argument(
        "--systems", nargs="+", default=[OURS], metavar="WORD", help="words of configs/variants.py"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result")
    options = parse_flags(parser, arguments)
    sizes = TINY if options.tiny else FULL if on_gpu else CPU
    matrix = 64 if options.tiny else 8192 if on_gpu else 2048
    rate = matrix_rate(options.precision, matrix, burst=10 if on_gpu else 1)
    kind = "profile" if options.systems == [OURS] else "profile_systems"
    path = options.out / f"{kind}_{machine_name()}.json"
    result: dict[str, Any] = {
        "sizes": sizes,
        "precision": options.precision,
        "matrix_flop_per_second": rate,
        "stages": {},
    }
    pixels = jax.device_put(random_images(sizes["images"], sizes["image"]))
    for system in options.systems:
        for stage, (update, state, batch) in stages(sizes, options.precision, system).items():
            with tempfile.TemporaryDirectory() as folder:
                measured = profile(update, state, batch, pixels, folder)
            name = stage if system == OURS else f"{system}, {stage}"
            result["stages"][name] = rated(measured, rate["median"])
            # So that an interrupted run keeps its finished results.
            record(path, result, quiet=True, about=options.about)
    print(profile_table(result))
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    # JAX reads this when it looks for a GPU. The kernels of a CUDA graph do not say which instruction they
    # belong to.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {WITHOUT_GRAPHS}".strip()
    main()
