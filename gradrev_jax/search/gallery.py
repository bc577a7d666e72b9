"""Attribute manipulation and retrieval over a whole gallery."""

import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from gradrev_jax import distributed
from gradrev_jax.core.manipulation import Normalization
from gradrev_jax.errors import DataError
from gradrev_jax.search.batching import REFERENCES_AT_ONCE
from gradrev_jax.search.index import ManipulationIndex


def make_index(
    gallery: Float[Array | np.ndarray, "G N d"],
    memory: Float[Array | np.ndarray, "J N d"],
    normalize: Normalization = "global",
) -> ManipulationIndex:
    """An encoder's features and prototypes, ready to be searched.

    Raises:
      DataError: features that are not finite or cannot be normalised.
    """
    try:
        return ManipulationIndex.of(gallery, memory, normalize)
    except ValueError as error:
        raise DataError(
            f"{error}: the encoder has diverged, or parts of it have died; evaluate another of its "
            "checkpoints, or train again with a lower train.learning_rate or with train.clip_norm"
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
    """Gallery rows nearest to the manipulated features of the references, nearest first.

    Several processes search for a share of the queries each, and get the rows of all.

    Args:
      index: the gallery and the prototypes.
      reference: [Q], gallery row that each query manipulates.
      indicators: [Q, J]; zeros leave the reference as it is.
      k: neighbours wanted.
      strength: how many prototypes are added and removed, f' = f + strength * (M i); 1 is Eq. 7.
      exclude_query: whether the reference itself is left out of its result.
      progress: whether a progress bar is shown.

    Raises:
      ValueError: k beyond the gallery (less one where the query is excluded).
    """
    by_reference = np.argsort(reference, kind="stable")
    mine = by_reference[distributed.share(len(by_reference))]
    _, first = np.unique(reference[mine], return_index=True)
    chunks = np.split(mine, first[REFERENCES_AT_ONCE::REFERENCES_AT_ONCE])
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
