"""The PyTorch side of a case and of a search; needs torch and faiss."""

import functools

import numpy as np
import torch

from benchmarks.torch_reference import retrieval
from benchmarks.torch_reference.model import AttributeEncoder, Memory
from benchmarks.torch_reference.training import encoder_losses, memory_losses, normalized, step
from tests.parity.cases import KS, LEARNING_RATE, Batch, Case, Result, Retrieval, one_hot


def modules(case: Case, weights: dict[str, np.ndarray] | None = None) -> torch.nn.ModuleList:
    """The encoder, and in stage 2 the memory; with weights where there are any."""
    encoder = AttributeEncoder(case.sizes, case.feature_dim, case.heads, case.tap, case.width, dropout=0.0)
    memory = [Memory(case.sizes, case.feature_dim)] if case.stage == 2 else []
    parts = torch.nn.ModuleList([encoder, *memory])
    for part in parts if weights else ():
        part.load_state_dict({name: torch.tensor(weights[name]) for name in part.state_dict()})
    return parts


def parameters(parts: torch.nn.ModuleList) -> dict[str, torch.nn.Parameter]:
    """All parameters, by their names in the state dicts."""
    return {name: tensor for part in parts for name, tensor in part.named_parameters()}


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Of all parameters."""
    return {name: tuple(tensor.shape) for name, tensor in parameters(modules(case)).items()}


def run(case: Case, weights: dict[str, np.ndarray], batch: Batch) -> Result:
    """Features, terms and gradients with these weights, and what they are after 20 steps of Adam."""
    parts = modules(case, weights)
    images = [normalized(torch.tensor(part)) for part in batch.images]
    labels = [torch.tensor(part, dtype=torch.int64) for part in batch.labels]
    if case.stage == 1:
        arguments = (parts[0], torch.cat(images), torch.cat(labels))
        losses = functools.partial(encoder_losses, *arguments, **case.options)
    else:
        indicators = torch.tensor(batch.indicators, dtype=torch.float32)
        losses = functools.partial(memory_losses, *parts, images, labels, indicators)
    with torch.no_grad():
        features = torch.stack(parts[0](torch.cat(images)), dim=1).numpy()
    optimizer = torch.optim.Adam(parts.parameters(), lr=LEARNING_RATE)
    terms = {name: term.detach().numpy() for name, term in step(losses, optimizer).items()}
    gradients = {
        # What the loss does not read has none.
        name: np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()
        for name, tensor in parameters(parts).items()
    }
    for _ in range(case.steps - 1):
        step(losses, optimizer)
    after = {name: tensor.detach().numpy() for name, tensor in parameters(parts).items()}
    return Result(features, terms, gradients, after)


def search(queries: Retrieval) -> np.ndarray:
    """Neighbours of queries, [Q, K]."""
    return retrieval.search(queries.gallery, queries.references, queries.indicators, queries.weight, max(KS))


def metrics(queries: Retrieval, neighbors: np.ndarray, sizes: tuple[int, ...]) -> dict[str, list[float]]:
    """Each metric at the cut-offs ``KS``."""
    labels, targets = one_hot(queries.labels, sizes), one_hot(queries.targets, sizes)
    by_name = retrieval.metrics(neighbors, labels, targets, queries.indicators, sizes, KS)
    return {name: list(by_cut_off.values()) for name, by_cut_off in by_name.items()}
