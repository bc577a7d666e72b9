"""Manipulates features (Eq. 7), searches a flat index, and computes the metrics in Python loops."""

import itertools
from collections.abc import Sequence

import faiss
import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    """Scales rows to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def search(
    gallery: np.ndarray, references: np.ndarray, indicators: np.ndarray, weight: np.ndarray, k: int
) -> np.ndarray:
    """Returns the rows of the k gallery images nearest to each manipulated reference, [Q, k].

    Args:
      gallery: the concatenated features, float32 [G, N * d].
      references: the gallery row that each query starts from, [Q].
      indicators: the changes of the queries, [Q, J].
      weight: the weight of the memory, [N * d, J].
      k: the number of neighbours per query.
    """
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(unit(gallery))
    edited = gallery[references] + indicators.astype(np.float32) @ weight.T
    return index.search(unit(edited), k)[1]


def hit_rate(neighbors: np.ndarray, one_hot: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Computes the fraction of queries with a match in the first k; one_hot is [G, J], targets [Q, J]."""
    hits = 0
    for query, rows in enumerate(neighbors):
        for row in rows[:k]:
            if (one_hot[row] == targets[query]).all():
                hits += 1
                break
    return hits / len(neighbors)


def precision(neighbors: np.ndarray, one_hot: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Computes the mean number of matches in the first k, divided by k."""
    matches = 0
    for query, rows in enumerate(neighbors):
        for row in rows[:k]:
            if (one_hot[row] == targets[query]).all():
                matches += 1
    return matches / (k * len(neighbors))


def relevance(
    neighbors: np.ndarray,
    one_hot: np.ndarray,
    targets: np.ndarray,
    indicators: np.ndarray,
    sizes: Sequence[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes each neighbour's fraction of correct attributes, [Q, K].

    Returns three arrays: over all attributes, over the changed attribute, and over the others. Each query
    changes one attribute, the one where the indicator is not 0. If there is only one attribute, there are no
    others that could be wrong, and the third array is 1.
    """
    bounds = np.cumsum([0, *sizes])
    slices = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    everything, target, others = (np.zeros(neighbors.shape) for _ in range(3))
    for query, rows in enumerate(neighbors):
        changed = next(n for n, part in enumerate(slices) if indicators[query][part].any())
        for rank, row in enumerate(rows):
            right = [(one_hot[row][part] == targets[query][part]).all() for part in slices]
            everything[query, rank] = sum(right) / len(sizes)
            target[query, rank] = right[changed]
            kept = [*right[:changed], *right[changed + 1 :]]
            others[query, rank] = sum(kept) / len(kept) if kept else 1
    return everything, target, others


def ndcg(relevance: np.ndarray, k: int) -> float:
    """Computes the mean NDCG of the first k: gain 2^rel - 1, discount ln(rank + 1), ideal relevance 1."""
    discount = np.log(np.arange(k) + 2)
    scores = []
    for row in relevance:
        gains = (2 ** row[:k] - 1) / discount
        scores.append(gains.sum() / (1 / discount).sum())
    return float(np.mean(scores))


def metrics(
    neighbors: np.ndarray,
    one_hot: np.ndarray,
    targets: np.ndarray,
    indicators: np.ndarray,
    sizes: Sequence[int],
    ks: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Computes all metrics at all cut-offs, by name and by cut-off."""
    every, target, others = relevance(neighbors, one_hot, targets, indicators, sizes)
    return {
        "hit_rate": {str(k): hit_rate(neighbors, one_hot, targets, k) for k in ks},
        "precision": {str(k): precision(neighbors, one_hot, targets, k) for k in ks},
        "ndcg": {str(k): ndcg(every, k) for k in ks},
        "ndcg_target": {str(k): ndcg(target, k) for k in ks},
        "ndcg_others": {str(k): ndcg(others, k) for k in ks},
    }
