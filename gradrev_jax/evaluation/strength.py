"""Chooses the strength of a manipulation: the one that serves best on images held out from training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.data.queries import Queries
from gradrev_jax.errors import DataError
from gradrev_jax.search.gallery import make_index, retrieve

CANDIDATES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
CHOSEN_AT = 10  # K of the hit rate that decides


class Strength(NamedTuple):
    """Represents the strength of all manipulations of an evaluation.

    Attributes:
      value: the factor of the prototypes that are added and removed.
      hit_rates: the hit rate of every strength tried, by its name; empty if the strength was given.
    """

    value: float
    hit_rates: dict[str, float]


def choose_strength(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[np.ndarray, "M N"],
    memory: Float[Array | np.ndarray, "J N d"],
    queries: Queries,
    *,
    candidates: Sequence[float] = CANDIDATES,
    normalize: Normalization = "global",
    exclude_query: bool = False,
    progress: bool = True,
) -> Strength:
    """Returns the strength of highest hit_rate@10 (with fewer than 20 images, @ half of their number).

    Args:
      features: the features of the held-out images, [M, N, d].
      labels: their labels, [M, N], -1 = not labelled.
      memory: the prototypes, [J, N, d].
      queries: the queries whose gallery these images are.
      candidates: the strengths to try; of equally good ones, the first is chosen.
      normalize: how features are normalised after the manipulation.
      exclude_query: whether the query image itself is left out of its result.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by.
    """
    if not len(queries):
        raise DataError(
            "protocol.strength=validation has no query to choose by: no held-out image has the labels of "
            "another with one attribute changed; hold out more (train.validation_fraction), or give a number"
        )
    k = min(CHOSEN_AT, (len(labels) + 1) // 2)
    index, hit_rates = make_index(features, memory, normalize), {}
    for strength in candidates:
        found = retrieve(
            index,
            queries.reference,
            queries.indicators,
            k,
            strength=strength,
            exclude_query=exclude_query,
            progress=progress,
        )
        hit_rates[f"{strength:g}"] = float(hit_rate(labels[found], queries.targets, k))
    return Strength(float(max(hit_rates, key=lambda name: hit_rates[name])), hit_rates)
