"""Manipulation and retrieval over a whole gallery, shared between processes."""

import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from gradrev_jax import distributed
from gradrev_jax.core.normalization import Normalization, Weights, scale_weights
from gradrev_jax.errors import DataError
from gradrev_jax.search.batching import MAX_REFERENCES
from gradrev_jax.search.index import ManipulationIndex


def make_index(
    gallery: Float[Array | np.ndarray, "G N d"],
    memory: Float[Array | np.ndarray, "J N d"],
    normalize: Normalization = "global",
    weights: Weights | None = None,
) -> ManipulationIndex:
    """Creates the search index of an encoder's features and prototypes.

    Args:
      gallery: [G, N, d], the features, not normalised.
      memory: [J, N, d], the prototypes.
      normalize: the normalisation of the features after the manipulation.
      weights: [N], the weight of each attribute in the distance; 0 leaves it out. None: all 1.

    Raises:
      ValueError: weights as in ``scale_weights``.
      DataError: features that are not finite or cannot be normalised.
    """
    scale_weights(weights, gallery.shape[1])  # so that an error of what follows is one of the features
    try:
        return ManipulationIndex.build_without_schema(gallery, memory, normalize, weights)
    except ValueError as error:
        raise DataError(
            f"{error}: the encoder has diverged, or parts of it have died; evaluate another of its "
            "checkpoints, or train again with a lower `learning_rate` or with `clip_norm`",
            arguments=("learning_rate", "clip_norm"),
        ) from error


def retrieve(
    index: ManipulationIndex,
    reference: Int[np.ndarray, " Q"],
    indicators: Int[np.ndarray, "Q J"],
    k: int,
    *,
    strength: float = 1.0,
    exclude_query: bool = False,
    progress: bool = True,
) -> Int[np.ndarray, "Q k"]:
    """Returns the gallery rows nearest to the manipulated references, nearest first.

    If there are several processes, each searches for a share of the queries and gets the rows of all.

    Args:
      index: the index of the gallery.
      reference: [Q], the gallery row that each query manipulates.
      indicators: [Q, J], the edits; zeros leave the reference as it is.
      k: the number of neighbours.
      strength: the factor of the edits, f' = f + strength * (M i); 1 is Eq. 7.
      exclude_query: whether the reference itself is left out of its result.
      progress: whether a progress bar is shown.

    Raises:
      ValueError: k beyond the gallery (or, if the query is excluded, beyond its other rows).
    """
    by_reference = np.argsort(reference, kind="stable")
    share = by_reference[distributed.local_rows(len(by_reference))]
    _, first = np.unique(reference[share], return_index=True)
    chunks = np.split(share, first[MAX_REFERENCES::MAX_REFERENCES])
    found = [
        index.search(
            reference_ids=reference[chunk],
            indicators=indicators[chunk],
            k=k,
            strength=strength,
            exclude_reference=exclude_query,
        ).indices
        for chunk in tqdm(chunks, desc="retrieval", unit="chunk", disable=not progress, leave=False)
    ]
    return distributed.gather(np.concatenate(found), len(by_reference))[np.argsort(by_reference)]
