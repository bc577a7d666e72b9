"""Implements the reference's side: each function prepares a case, and returns a job that runs it once."""

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import inputs
from benchmarks.side_by_side.cases import attribute_sizes
from benchmarks.torch_reference.losses import one_hot
from benchmarks.torch_reference.model import AttributeEncoder
from benchmarks.torch_reference.training import encoder_losses, normalized, random_flip, step

Job = Callable[[], dict[str, Any]]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# As in JAX on a GPU, float32 matrix products use TF32, too, not only the convolutions. It has no effect on a
# CPU.
torch.set_float32_matmul_precision("high" if DEVICE == "cuda" else "highest")
# As XLA does on a GPU, cuDNN chooses the kernels of convolutions by timing them. It has no effect on a CPU.
torch.backends.cudnn.benchmark = True


def train_step(
    image: int,
    batch: int,
    attributes: int,
    *,
    width: float = 1.0,
    dim: int = 340,
    compile: bool = False,  # noqa: A002
    channels_last: bool = False,
    autocast: bool = False,
    steps: int = 1,
) -> Job:
    """Runs steps of stage 1 on uint8 images on the device: flips, normalisation, loss, gradients and Adam."""
    sizes = attribute_sizes(attributes)
    encoder = network(sizes, width, dim, channels_last).train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-4, fused=True)
    images = torch.from_numpy(inputs.random_images(batch, image)).to(DEVICE)
    labels = torch.from_numpy(inputs.random_labels(batch, sizes)).to(DEVICE)
    losses: Any = torch.compile(encoder_losses) if compile else encoder_losses

    def forward() -> dict[str, torch.Tensor]:
        pixels = random_flip(normalized(images, channels_last=channels_last))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            return losses(encoder, pixels, labels)

    def job() -> dict[str, Any]:
        for _ in range(steps):
            terms = step(forward, optimizer)
        wait()
        return {"units": steps * batch, "loss": float(terms["total"].detach())}

    return job


def embedding_step(
    vector: int,
    batch: int,
    attributes: int,
    *,
    dim: int = 340,
    compile: bool = False,  # noqa: A002
    steps: int = 1,
) -> Job:
    """Runs steps of stage 1 on vectors that another network has computed: dropout, loss, gradients, Adam."""
    sizes = attribute_sizes(attributes)
    torch.manual_seed(0)
    encoder = AttributeEncoder(sizes, feature_dim=dim, vector=vector).to(DEVICE).train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-4, fused=True)
    vectors = torch.from_numpy(inputs.random_vectors(batch, vector)).to(DEVICE)
    labels = torch.from_numpy(inputs.random_labels(batch, sizes)).to(DEVICE)
    losses: Any = torch.compile(encoder_losses) if compile else encoder_losses

    def job() -> dict[str, Any]:
        for _ in range(steps):
            terms = step(lambda: losses(encoder, vectors, labels), optimizer)
        wait()
        return {"units": steps * batch, "loss": float(terms["total"].detach())}

    return job


def inference(
    image: int,
    batch: int,
    *,
    attributes: int = 12,
    width: float = 1.0,
    dim: int = 340,
    compile: bool = False,  # noqa: A002
    channels_last: bool = False,
    autocast: bool = False,
    steps: int = 1,
) -> Job:
    """Computes the features of batches of uint8 images on the device, and each feature's own logits."""
    encoder = network(attribute_sizes(attributes), width, dim, channels_last).eval()
    images = torch.from_numpy(inputs.random_images(batch, image)).to(DEVICE)
    features: Any = torch.compile(encoder) if compile else encoder

    def job() -> dict[str, Any]:
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            for _ in range(steps):
                encoder.own_logits(features(normalized(images, channels_last=channels_last)))
        wait()
        return {"units": steps * batch}

    return job


def efficientnet_lite0(
    image: int,
    batch: int,
    *,
    compile: bool = False,  # noqa: A002
    channels_last: bool = False,
    autocast: bool = False,
    steps: int = 1,
) -> Job:
    """Computes the pooled features of batches of uint8 images on the device, with the PyTorch package."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=image).to(DEVICE).eval()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    maps: Any = torch.compile(network.extract_features) if compile else network.extract_features
    images = torch.from_numpy(inputs.random_images(batch, image)).to(DEVICE)

    def job() -> dict[str, Any]:
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            for _ in range(steps):
                maps(normalized(images, channels_last=channels_last)).mean(dim=(2, 3))
        wait()
        return {"units": steps * batch}

    return job


def prototypes(
    image: int, images: int, draws: int, *, attributes: int = 12, width: float = 1.0, dim: int = 340
) -> Job:
    """Computes the prototype of one value from images drawn at random and encoded one at a time."""
    from benchmarks.torch_reference.prototypes import value_prototype

    sizes = attribute_sizes(attributes)
    encoder = network(sizes, width, dim, channels_last=False).eval()
    pixels, labels = inputs.random_images(images, image), inputs.random_labels(images, sizes)
    candidates = np.flatnonzero(labels[:, 0] == 0).tolist()
    rng = np.random.default_rng(0)

    def one(row: int) -> torch.Tensor:
        return normalized(torch.from_numpy(pixels[row : row + 1]).to(DEVICE))[0]

    def job() -> dict[str, Any]:
        value_prototype(encoder, one, candidates, 0, rng, draws)
        wait()
        return {"units": draws, "images": draws}

    return job


def evaluation(folder: str, ks: tuple[int, ...]) -> Job:
    """Searches a flat index of features, and computes all metrics."""
    from benchmarks.torch_reference.retrieval import metrics, search

    data = inputs.load_evaluation(pathlib.Path(folder))
    sizes = data["sizes"].tolist()
    gallery = data["features"].reshape(len(data["features"]), -1)
    weight = data["memory"].reshape(len(data["memory"]), -1).T
    shown, targets = one_hot_rows(data["labels"], sizes), one_hot_rows(data["targets"], sizes)

    def job() -> dict[str, Any]:
        start = time.perf_counter()
        neighbors = search(gallery, data["reference"], data["indicators"], weight, max(ks))
        searched = time.perf_counter()
        measured = metrics(neighbors, shown, targets, data["indicators"], sizes, ks)
        parts = {"search": searched - start, "metrics": time.perf_counter() - searched}
        return {"units": len(neighbors), "parts": parts, "metrics": measured}

    return job


def loading(folder: str, cache: str, image: int, batch: int, dtype: str) -> Job:
    """Loads an epoch of training batches from their files, with one worker process per core."""
    del cache  # only the other side has a cache
    from benchmarks.torch_reference.loading import Photographs, loader

    paths = inputs.photographs(pathlib.Path(folder))
    labels = inputs.random_labels(len(paths), attribute_sizes(12))
    dataset = Photographs(paths, labels, image, round(image * 256 / 224), normalize=dtype == "float32")
    batches = loader(dataset, batch, workers=len(os.sched_getaffinity(0)))

    def job() -> dict[str, Any]:
        count = 0
        for images, _ in batches:
            count += len(images.to(DEVICE))
        wait()
        return {"units": count}

    return job


def network(sizes: tuple[int, ...], width: float, dim: int, channels_last: bool) -> AttributeEncoder:
    """Returns a network with random weights on the device."""
    torch.manual_seed(0)
    encoder = AttributeEncoder(sizes, feature_dim=dim, width=width).to(DEVICE)
    return encoder.to(memory_format=torch.channels_last) if channels_last else encoder


def one_hot_rows(labels: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Converts labels [M, N] to one-hot rows, int64 [M, J]."""
    return one_hot(torch.from_numpy(labels).long(), sizes).long().numpy()


def wait() -> None:
    """Waits until the device has finished its work."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def settings() -> dict[str, Any]:
    """Returns what is recorded of the side with each turn."""
    return {"threads": torch.get_num_threads()}


def peak_memory() -> int | None:
    """Returns the peak memory of the GPU in bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
