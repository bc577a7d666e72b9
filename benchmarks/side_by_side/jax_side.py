"""Implements gradrev_jax's side: each function prepares a case, and returns a job that runs it once."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.flops import count_flops
from benchmarks.schemas import schema_of_sizes
from benchmarks.side_by_side import inputs
from benchmarks.side_by_side.cases import attribute_sizes
from gradrev_jax import AttributeEncoder, AttributeSchema, ManipulationIndex
from gradrev_jax.core.optimizers import make_optimizer
from gradrev_jax.data.batches import batch_rows, steps_per_epoch
from gradrev_jax.data.catalogue import TRAIN, Transform
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import Queries
from gradrev_jax.distributed import initialize
from gradrev_jax.evaluation.scores import retrieval_metrics
from gradrev_jax.models.efficientnet import EfficientNetLite0
from gradrev_jax.models.forward import make_forward
from gradrev_jax.models.initialization import random_parameters
from gradrev_jax.models.inputs import normalize_images, random_flip
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.runs.freed_memory import return_freed_memory, return_large_blocks
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.training.encoder_step import init_state, make_train_step, state_shapes
from gradrev_jax.training.parallel import Mode, Parallel
from gradrev_jax.training.update import make_update

Job = Callable[[], dict[str, Any]]


def train_step(
    image: int,
    batch: int,
    attributes: int,
    *,
    width: float = 1.0,
    dim: int = 340,
    precision: str = "float32",
    steps: int = 1,
) -> Job:
    """Runs steps of stage 1 on uint8 images on the device: flips, normalisation, loss, gradients and Adam."""
    return_large_blocks()  # as the command does
    schema = schema_of(attributes)
    encoder = AttributeEncoder(schema, feature_dim=dim, width=width, dtype=jnp.dtype(precision))
    optimizer = make_optimizer(optax.constant_schedule(1e-4))
    step: Any = make_train_step(encoder, optimizer, seed=0, total_steps=1000)
    state = init_state(encoder, optimizer, input_size=image, seed=0)
    images = jax.device_put(inputs.random_images(batch, image))
    labels = jax.device_put(inputs.random_labels(batch, schema.sizes).astype(np.int32))
    return _stepping(step, state, images, labels, steps)


def embedding_step(vector: int, batch: int, attributes: int, *, dim: int = 340, steps: int = 1) -> Job:
    """Runs steps of stage 1 on vectors that another network has computed: dropout, loss, gradients, Adam."""
    return_large_blocks()  # as the command does
    schema = schema_of(attributes)
    # The tap at which vectors are read as they are, as torch reads them.
    encoder = AttributeEncoder(schema, feature_dim=dim, backbone="embeddings", tap="raw")
    optimizer = make_optimizer(optax.constant_schedule(1e-4))
    step: Any = make_train_step(encoder, optimizer, seed=0, total_steps=1000, mirror=False)
    state = init_state(encoder, optimizer, input_size=vector, seed=0)
    vectors = jax.device_put(inputs.random_vectors(batch, vector)[:, None])
    labels = jax.device_put(inputs.random_labels(batch, schema.sizes).astype(np.int32))
    return _stepping(step, state, vectors, labels, steps)


def _stepping(step: Any, state: Any, batch: Any, labels: Any, steps: int) -> Job:
    """Returns a job that takes steps with one batch, compiled at first as training does."""
    compiled: Callable[..., Any] | None = None

    def job() -> dict[str, Any]:
        nonlocal state, compiled
        if compiled is None:
            compiled = step.lower(state, batch, labels).compile()
            return_freed_memory()
        for _ in range(steps):
            state, metrics = compiled(state, batch, labels)
        jax.block_until_ready(state)
        return {"units": steps * len(batch), "loss": float(metrics.loss)}

    return job


def data_parallel(
    image: int,
    batch: int,
    *,
    devices: int,
    mode: Mode = "pmap",
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    attributes: int = 12,
    width: float = 1.0,
    dim: int = 340,
) -> Job:
    """Runs the same step with its batch sharded over CPU devices of one or several processes.

    Args:
      image: the height and width of the images, in pixels.
      batch: the number of images of all devices together.
      devices: the number of devices of this process.
      mode: the mode in which the devices share the batch, see ``Parallel``.
      coordinator: the HOST:PORT of the first of several processes; None for a single process.
      processes: the number of processes.
      process: the index of this process.
      attributes: the number of attributes, N.
      width: the width of the backbone.
      dim: the dimension of each feature, d.
    """
    jax.config.update("jax_num_cpu_devices", devices)  # this has to be set before JAX looks for devices
    initialize(coordinator, processes, process)
    schema = schema_of(attributes)
    encoder = AttributeEncoder(schema, feature_dim=dim, width=width)
    optimizer = make_optimizer(optax.constant_schedule(1e-4))
    parallel = Parallel.over(batch=batch, mode=mode)
    step = parallel.compile(
        make_update(encoder, optimizer, EncoderObjective(), seed=0, total_steps=1000), size=batch
    )
    state = parallel.replicate(init_state(encoder, optimizer, input_size=image, seed=0))
    own = parallel.own_rows(np.arange(batch)[None])
    images = inputs.random_images(batch, image)[own]
    labels = inputs.random_labels(batch, schema.sizes).astype(np.int32)[None]

    def job() -> dict[str, Any]:
        nonlocal state
        state, taken = jax.block_until_ready(step(state, parallel.place(images), labels))
        return {"units": batch, "loss": float(taken.metrics.loss)}

    return job


def inference(
    image: int,
    batch: int,
    *,
    attributes: int = 12,
    width: float = 1.0,
    dim: int = 340,
    precision: str = "float32",
    steps: int = 1,
) -> Job:
    """Computes the features of batches of uint8 images on the device, and all logits."""
    schema = schema_of(attributes)
    encoder = AttributeEncoder(schema, feature_dim=dim, width=width, dtype=jnp.dtype(precision))
    forward, params = make_forward(encoder), random_params(encoder, image)
    images = jax.device_put(inputs.random_images(batch, image))

    def job() -> dict[str, Any]:
        for _ in range(steps):
            outputs = forward(params, images)
        jax.block_until_ready(outputs)
        return {"units": steps * batch}

    return job


def efficientnet_lite0(image: int, batch: int, *, precision: str = "float32", steps: int = 1) -> Job:
    """Computes the pooled features of batches of uint8 images on the device."""
    network = EfficientNetLite0(dtype=jnp.dtype(precision))
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, image, image, 3)))
    forward = jax.jit(lambda variables, images: network.apply(variables, normalize_images(images)))
    images = jax.device_put(inputs.random_images(batch, image))

    def job() -> dict[str, Any]:
        for _ in range(steps):
            features = forward(variables, images)
        jax.block_until_ready(features)
        return {"units": steps * batch}

    return job


def prototypes(
    image: int, images: int, draws: int, *, attributes: int = 12, width: float = 1.0, dim: int = 340
) -> Job:
    """Builds the memory from all images; each image enters the mean of every value that it has (Eq. 6)."""
    del draws  # only the other side draws
    schema = schema_of(attributes)
    encoder = AttributeEncoder(schema, feature_dim=dim, width=width)
    params = random_params(encoder, image)
    pixels, labels = inputs.random_images(images, image), inputs.random_labels(images, schema.sizes)

    def job() -> dict[str, Any]:
        memory = build_memory(params, [(pixels, labels)], encoder, batch_size=128, progress=False)
        jax.block_until_ready(memory)
        return {"units": int((labels >= 0).sum()), "images": images}

    return job


def evaluation(folder: str, ks: tuple[int, ...]) -> Job:
    """Builds the index from features, searches, and computes all metrics."""
    data = inputs.load_evaluation(pathlib.Path(folder))
    schema = schema_of_sizes(data["sizes"].tolist())
    queries = Queries(data["reference"], data["indicators"], data["targets"], data["changed"])

    def job() -> dict[str, Any]:
        start = time.perf_counter()
        index = ManipulationIndex.build(data["features"], data["memory"], schema)
        found = index.search(reference_ids=queries.reference, indicators=queries.indicators, k=max(ks))
        neighbors = np.asarray(found.indices)
        searched = time.perf_counter()
        metrics = retrieval_metrics(data["labels"][neighbors], queries, ks)
        parts = {"search": searched - start, "metrics": time.perf_counter() - searched}
        return {"units": len(queries), "parts": parts, "metrics": metrics}

    return job


def loading(folder: str, cache: str, image: int, batch: int, dtype: str) -> Job:
    """Loads an epoch of training batches; the first run decodes all files into the cache.

    Batches of uint8 are the inputs of a train step; batches of float32 are also mirrored and normalised,
    which the train step does otherwise.
    """
    paths = inputs.photographs(pathlib.Path(folder))
    source = ImageFiles(pathlib.Path(), tuple(map(str, paths)))
    transform = Transform.for_part(TRAIN, image)
    prepare = jax.jit(lambda key, images: normalize_images(random_flip(key, images)))
    normalized = dtype == "float32"
    steps = steps_per_epoch(len(paths), batch)
    epoch, pixels = 0, None

    def job() -> dict[str, Any]:
        nonlocal epoch, pixels
        if pixels is None:
            rows = np.arange(len(paths))
            pixels = cached_images(source, rows, transform, pathlib.Path(cache), progress=False)
        for step in range(epoch * steps, (epoch + 1) * steps):
            drawn = batch_rows(0, step, num_examples=len(paths), batch_size=batch)
            loaded = jax.device_put(pixels[drawn])
            jax.block_until_ready(prepare(jax.random.key(step), loaded) if normalized else loaded)
        epoch += 1
        return {"units": steps * batch}

    return job


def flop_per_image(kind: str, sizes: Mapping[str, Any]) -> float:
    """Returns the FLOP per image of the convolutions and products of a ``train_step`` or ``inference`` case.

    Args:
      kind: the kind of the case.
      sizes: the sizes of the case.
    """
    schema = schema_of(sizes.get("attributes", 12))
    encoder = AttributeEncoder(schema, feature_dim=sizes.get("dim", 340), width=sizes.get("width", 1.0))
    optimizer = make_optimizer(optax.constant_schedule(1e-4))
    state = state_shapes(encoder, optimizer, input_size=sizes["image"])
    images = jax.ShapeDtypeStruct((sizes["batch"], sizes["image"], sizes["image"], 3), np.uint8)
    if kind == "inference":
        counts = count_flops(make_forward(encoder), state.params, images)
    else:
        labels = jax.ShapeDtypeStruct((sizes["batch"], schema.num_attributes), np.int32)
        update = make_update(encoder, optimizer, EncoderObjective(), seed=0, total_steps=1000)
        counts = count_flops(update, state, images, labels)
    return sum(counts.values()) / sizes["batch"]


def schema_of(num_attributes: int) -> AttributeSchema:
    """Makes a schema of attributes that have 151 values in total."""
    return schema_of_sizes(attribute_sizes(num_attributes))


def random_params(encoder: AttributeEncoder, image: int) -> Any:
    """Returns initial parameters."""
    return random_parameters(encoder, input_size=image, seed=0)


def settings() -> dict[str, Any]:
    """Returns what is recorded of the side with each turn: nothing, as XLA takes all cores."""
    return {}


def peak_memory() -> int | None:
    """Returns the peak memory of the GPU in bytes; None on a CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    return None if jax.default_backend() == "cpu" or not statistics else statistics["peak_bytes_in_use"]
