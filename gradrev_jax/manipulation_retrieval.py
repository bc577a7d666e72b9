"""Attribute manipulation and retrieval over a whole gallery, with its metrics."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from gradrev_jax import metrics
from gradrev_jax.data.queries import Queries
from gradrev_jax.manipulation import Normalization, manipulate, normalize_features
from gradrev_jax.retrieval import nearest_neighbors

QUERIES_AT_ONCE = 2048  # bounds the manipulated features held at a time: 33 MB at the paper's 4,080


class RetrievalMetrics(TypedDict):
    """Each metric by cut-off, as strings, because JSON has no other keys."""

    hit_rate: dict[str, float]
    precision: dict[str, float]
    ndcg: dict[str, float]
    ndcg_target: dict[str, float]
    ndcg_others: dict[str, float]


def retrieve(
    gallery: Float[Array | np.ndarray, "G N d"],
    memory: Float[Array | np.ndarray, "J N d"],
    reference: Int[np.ndarray, " Q"],
    indicators: Int[np.ndarray, "Q J"],
    k: int,
    *,
    strength: float = 1.0,
    normalize: Normalization = "global",
    exclude_query: bool = False,
    progress: bool = True,
) -> Int[np.ndarray, "Q k"]:
    """Gallery rows nearest to the manipulated features of the references, nearest first.

    Args:
      gallery: [G, N, d] features.
      memory: [J, N, d] prototypes.
      reference: [Q], gallery row that each query manipulates.
      indicators: [Q, J]; zeros leave the reference as it is.
      k: neighbours wanted.
      strength: how many prototypes are added and removed, f' = f + strength * (M i); 1 is Eq. 7.
      normalize: how features are normalised after the manipulation.
      exclude_query: whether the reference itself is left out of its result.
      progress: whether a progress bar is shown.

    Raises:
      ValueError: k beyond the gallery (less one where the query is excluded).
    """
    gallery = jnp.asarray(gallery)
    depth = k + 1 if exclude_query else k
    if not 1 <= k <= len(gallery) - exclude_query:
        left = f", the query excluded, of {len(gallery)}" if exclude_query else ""
        raise ValueError(
            f"k must lie between 1 and the gallery's {len(gallery) - exclude_query} rows{left}, got {k}"
        )
    rows = normalize_features(gallery, normalize)

    @jax.jit
    def search(reference: Array, indicators: Array, gallery: Array, rows: Array) -> Array:
        edited = manipulate(gallery[reference], strength * indicators, memory)
        return nearest_neighbors(normalize_features(edited, normalize), rows, depth).indices

    found = np.zeros((len(reference), depth), np.int32)
    starts = range(0, len(reference), QUERIES_AT_ONCE)
    for start in tqdm(starts, desc="retrieval", unit="chunk", disable=not progress, leave=False):
        chunk = slice(start, start + QUERIES_AT_ONCE)
        # The last chunk is padded with its own rows, so that one compilation serves all.
        padded = np.resize(np.arange(start, min(start + QUERIES_AT_ONCE, len(reference))), QUERIES_AT_ONCE)
        padded = padded if len(reference) > QUERIES_AT_ONCE else np.arange(len(reference))
        indices = search(reference[padded], indicators[padded], gallery, rows)
        found[chunk] = np.asarray(indices)[: len(found[chunk])]
    return _without(found, reference) if exclude_query else found


def retrieval_metrics(
    neighbor_labels: Int[np.ndarray, "Q K N"], queries: Queries, ks: Sequence[int]
) -> RetrievalMetrics:
    """All retrieval metrics at all cut-offs.

    Raises:
      ValueError: no queries, or a cut-off beyond the neighbours given.
    """
    return mean_scores(metrics.retrieval_scores(neighbor_labels, queries.targets, queries.changed, ks), ks)


def mean_scores(
    scores: Mapping[str, Float[Array | np.ndarray, "Q C"]], ks: Sequence[int]
) -> RetrievalMetrics:
    """What ``retrieval_scores`` gives of every query at C cut-offs, averaged over queries."""

    def means(name: str) -> dict[str, float]:
        return dict(zip(map(str, ks), scores[name].mean(axis=0).tolist(), strict=True))

    return {
        "hit_rate": means("hit_rate"),
        "precision": means("precision"),
        "ndcg": means("ndcg"),
        "ndcg_target": means("ndcg_target"),
        "ndcg_others": means("ndcg_others"),
    }


def _without(found: Int[np.ndarray, "Q K"], excluded: Int[np.ndarray, " Q"]) -> Int[np.ndarray, "Q k"]:
    """Each row without its excluded entry, or without the last where it does not hold it."""
    is_excluded = found == excluded[:, None]
    is_excluded[~is_excluded.any(axis=1), -1] = True
    return found[~is_excluded].reshape(len(found), found.shape[1] - 1)
