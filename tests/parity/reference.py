"""The PyTorch side of a case and of a search; needs torch and faiss."""

import functools

import numpy as np
import torch

from benchmarks.torch_reference import retrieval
from benchmarks.torch_reference.model import AttributeEncoder, Memory
from benchmarks.torch_reference.training import encoder_losses, memory_losses, normalized, step
from tests.parity.cases import KS, LEARNING_RATE, SIZES, STEPS, Batch, Case, Result, Retrieval, one_hot


def modules(case: Case) -> torch.nn.ModuleList:
    """The encoder, and in stage 2 the memory."""
    encoder = AttributeEncoder(case.sizes, case.feature_dim, case.heads, case.tap, case.width, dropout=0.0)
    memory = [Memory(case.sizes, case.feature_dim)] if case.stage == 2 else []
    return torch.nn.ModuleList([encoder, *memory])


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Of all parameters, by their names in the state dicts."""
    return {name: tuple(tensor.shape) for name, tensor in named(modules(case)).items()}


def named(parts: torch.nn.ModuleList) -> dict[str, torch.nn.Parameter]:
    """All parameters, by their names in the state dicts."""
    return {name: tensor for part in parts for name, tensor in part.named_parameters()}


def run(case: Case, weights: dict[str, np.ndarray], batch: Batch) -> Result:
    """Features, terms and gradients with these weights, and what they are after 20 steps of Adam."""
    parts = modules(case)
    for part in parts:
        part.load_state_dict({name: torch.tensor(weights[name]) for name in part.state_dict()})
    images = [normalized(torch.tensor(of_part)) for of_part in batch.images]
    labels = [torch.tensor(of_part, dtype=torch.int64) for of_part in batch.labels]
    if case.stage == 1:
        together = torch.cat(images), torch.cat(labels)
        losses = functools.partial(encoder_losses, parts[0], *together, **case.options)
    else:
        indicators = torch.tensor(batch.indicators, dtype=torch.float32)
        losses = functools.partial(memory_losses, *parts, images, labels, indicators)
    with torch.no_grad():
        features = torch.stack(parts[0](torch.cat(images)), dim=1).numpy()
    optimizer = torch.optim.Adam(parts.parameters(), lr=LEARNING_RATE)
    terms = {name: term.detach().numpy() for name, term in step(losses, optimizer).items()}
    gradients = {
        # N x N classifiers of which only N are read have none.
        name: np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()
        for name, tensor in named(parts).items()
    }
    for _ in range(STEPS - 1):
        step(losses, optimizer)
    return Result(
        features, terms, gradients, {name: tensor.detach().numpy() for name, tensor in named(parts).items()}
    )


def retrieve(queries: Retrieval, sizes: tuple[int, ...] = SIZES) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Neighbours [Q, K] of queries, and each metric at the cut-offs ``KS``."""
    neighbors = retrieval.search(
        queries.gallery, queries.references, queries.indicators, queries.weight, max(KS)
    )
    labels, targets = one_hot(queries.labels, sizes), one_hot(queries.targets, sizes)
    metrics = retrieval.metrics(neighbors, labels, targets, queries.indicators, sizes, KS)
    return neighbors, {name: list(by_cut_off.values()) for name, by_cut_off in metrics.items()}
