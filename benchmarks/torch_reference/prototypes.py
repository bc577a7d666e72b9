"""Builds the memory as ADDE-M does: per value, the mean over images drawn at random, one at a time."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.torch_reference.model import AttributeEncoder


@torch.no_grad()
def value_prototype(
    encoder: AttributeEncoder,
    image: Callable[[int], Tensor],
    candidates: Sequence[int],
    attribute: int,
    rng: np.random.Generator,
    draws: int = 100,
) -> Tensor:
    """Computes the prototype of one value, [d]: the mean feature of its attribute over images that have it.

    A value that no image has keeps a prototype of zeros.

    Args:
      encoder: the network, in evaluation mode.
      image: the function from a row to its normalised image, [3, S, S].
      candidates: the rows of the training images that have the value.
      attribute: the attribute that the value belongs to.
      rng: the generator that draws images, with replacement.
      draws: the number of images to draw.
    """
    if not len(candidates):
        return torch.zeros_like(encoder(image(0)[None])[attribute][0])
    drawn = [encoder(image(int(row))[None])[attribute][0] for row in rng.choice(candidates, draws)]
    return torch.stack(drawn).mean(dim=0)


def memory_weight(
    encoder: AttributeEncoder,
    image: Callable[[int], Tensor],
    labels: np.ndarray,
    rng: np.random.Generator,
    draws: int = 100,
) -> Tensor:
    """Computes all prototypes as the weight of ``Memory``, [N * d, J] (Eq. 6), from labels [M, N]."""
    columns = []
    for n, size in enumerate(encoder.sizes):
        for value in range(size):
            candidates = np.flatnonzero(labels[:, n] == value).tolist()
            prototype = value_prototype(encoder, image, candidates, n, rng, draws)
            column = torch.zeros(len(encoder.sizes), len(prototype))
            column[n] = prototype
            columns.append(column.flatten())
    return torch.stack(columns, dim=1)
