"""How strongly to manipulate: the strength that serves best on images held out from training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.manipulation import Normalization
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.data.queries import Queries
from gradrev_jax.errors import DataError
from gradrev_jax.search.gallery import make_index, retrieve

CANDIDATES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
CHOSEN_AT = 10  # K of the hit rate that decides


def choose_strength(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[np.ndarray, "M N"],
    memory: Float[Array | np.ndarray, "J N d"],
    queries: Queries,
    *,
    candidates: Sequence[float] = CANDIDATES,
    normalize: Normalization = "global",
    **search: Any,
) -> tuple[float, dict[str, float]]:
    """The strength of highest hit_rate@10 (of fewer than 20 images, among the half of them).

    Args:
      features: [M, N, d], of the held-out images.
      labels: [M, N], -1 = not labelled.
      memory: [J, N, d] prototypes.
      queries: whose gallery these images are.
      candidates: strengths to try; of equally good ones, the first.
      normalize: how features are normalised after the manipulation.
      **search: keyword arguments of ``retrieve``.

    Returns:
      The strength, and the hit rate of every candidate.

    Raises:
      DataError: there is no query to choose by.
    """
    if not len(queries):
        raise DataError(
            "protocol.strength=validation has no query to choose by: no held-out image has the labels of "
            "another with one attribute changed; hold out more (train.validation_fraction), or give a number"
        )
    k = min(CHOSEN_AT, (len(labels) + 1) // 2)
    index, rates = make_index(features, memory, normalize), {}
    for strength in candidates:
        found = retrieve(index, queries.reference, queries.indicators, k, strength=strength, **search)
        rates[f"{strength:g}"] = float(hit_rate(labels[found], queries.targets, k))
    return float(max(rates, key=lambda name: rates[name])), rates
