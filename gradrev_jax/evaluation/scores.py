"""What every query and every test image scored: queries.npz of a report, and intervals from it."""

import dataclasses
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.queries import Queries
from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.bootstrap import (
    CONFIDENCE,
    SAMPLES,
    bootstrap_interval,
    column_means,
    percentile_interval,
    resampled_means,
)

METRICS_FILE, QUERIES = "metrics.json", "queries.npz"
RETRIEVAL = ("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others")
ACCURACIES = ("macro", "micro")
KEPT_NEIGHBORS = 10


class RetrievalMetrics(TypedDict):
    """Each metric by cut-off, as strings, because JSON has no other keys."""

    hit_rate: dict[str, float]
    precision: dict[str, float]
    ndcg: dict[str, float]
    ndcg_target: dict[str, float]
    ndcg_others: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Scores:
    """What was asked and found, query by query, and how the classifiers did, image by image.

    Attributes:
      reference: [Q], gallery row that each query manipulates.
      changed: bool [Q, N], the attributes that change.
      indicators: int8 [Q, J], as in ``Queries``.
      targets: int32 [Q, N], labels asked for.
      neighbors: int32 [Q, K], gallery rows found, nearest first; K is 10, or fewer where fewer were searched.
      ks: [C], cut-offs.
      hit_rate: float32 [Q, C], by query and cut-off; so are the next four.
      precision: [Q, C].
      ndcg: [Q, C].
      ndcg_target: [Q, C].
      ndcg_others: [Q, C].
      labels: int32 [G, N], of the gallery, -1 where not labelled.
      correct: int8 [G, N], whether each attribute's classifier is right of each gallery image; -1 where not
        labelled.
    """

    reference: Int[np.ndarray, " Q"]
    changed: Bool[np.ndarray, "Q N"]
    indicators: Int[np.ndarray, "Q J"]
    targets: Int[np.ndarray, "Q N"]
    neighbors: Int[np.ndarray, "Q K"]
    ks: Int[np.ndarray, " C"]
    hit_rate: Float[np.ndarray, "Q C"]
    precision: Float[np.ndarray, "Q C"]
    ndcg: Float[np.ndarray, "Q C"]
    ndcg_target: Float[np.ndarray, "Q C"]
    ndcg_others: Float[np.ndarray, "Q C"]
    labels: Int[np.ndarray, "G N"]
    correct: Int[np.ndarray, "G N"]

    def columns(self, ks: Sequence[int] | None = None) -> Float[np.ndarray, "Q M"]:
        """All retrieval scores side by side: metric after metric, each at its cut-offs, or at those given."""
        kept = [self.ks.tolist().index(k) for k in (self.ks.tolist() if ks is None else ks)]
        return np.concatenate([getattr(self, name)[:, kept] for name in RETRIEVAL], axis=1, dtype=np.float64)

    def right_answers(self) -> Float[np.ndarray, "G N"]:
        """Correct as 0 and 1, NaN where not labelled."""
        return np.where(self.correct == NOT_LABELLED, np.nan, self.correct)


def retrieval_metrics(
    neighbor_labels: Int[np.ndarray, "Q K N"], queries: Queries, ks: Sequence[int]
) -> RetrievalMetrics:
    """All retrieval metrics at all cut-offs.

    Raises:
      ValueError: no queries, or a cut-off beyond the neighbours given.
    """
    return mean_scores(retrieval_scores(neighbor_labels, queries.targets, queries.changed, ks), ks)


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


def write_scores(path: pathlib.Path, scores: Scores) -> None:
    """Write them all to one compressed file; a plain OSError where that fails."""
    fields = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    np.savez_compressed(path, **fields)


def read_scores(path: pathlib.Path) -> Scores:
    """What ``write_scores`` wrote.

    Raises:
      WorkdirError: it is missing, damaged, or was written by another version.
    """
    again = f"evaluate again: python evaluate.py --workdir={path.parent.parent}"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Scores(**{field.name: arrays[field.name] for field in dataclasses.fields(Scores)})
    except FileNotFoundError as error:
        raise WorkdirError(
            f"{path.parent} was written by an older version: it has no {path.name}; {again}"
        ) from error
    except KeyError as error:
        raise WorkdirError(f"{path} was written by another version ({error.args[0]}); {again}") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise WorkdirError(f"{path} cannot be read: {error}; {again}") from error


def accuracies(right: Float[np.ndarray, "G N"]) -> Float[np.ndarray, "2"]:
    """Macro (over attributes) and micro (over labelled cells) accuracy of answers, NaN where not labelled.

    Example:
      >>> accuracies(np.array([[1.0, 0.0], [1.0, np.nan], [0.0, np.nan], [1.0, np.nan]])).tolist()
      [0.375, 0.6]
    """
    per_attribute, per_cell = column_means(right), column_means(right.reshape(-1, 1))
    return np.array([column_means(per_attribute), per_cell[0]])


def resampled_accuracies(
    right: Float[np.ndarray, "G N"], *, samples: int = SAMPLES, seed: int = 0
) -> Float[np.ndarray, "S 2"]:
    """Macro and micro accuracy in each of S bootstrap samples of the test images."""
    images, attributes = right.shape
    per_attribute = resampled_means(right, np.arange(images), samples=samples, seed=seed)
    cells = resampled_means(
        right.reshape(-1, 1), np.repeat(np.arange(images), attributes), samples=samples, seed=seed
    )
    return np.stack([column_means(per_attribute.T), cells[:, 0]], axis=1)


def intervals(scores: Scores) -> dict[str, Any]:
    """Bootstrap interval of every metric at every cut-off and of the accuracies, as metrics.json has them.

    Queries are resampled by their reference images, accuracies by test images; [None, None] where there is
    only one of them.
    """
    low, high = bootstrap_interval(scores.columns(), scores.reference)
    pairs = iter(zip(low.tolist(), high.tolist(), strict=True))
    by_metric = {name: {str(k): _bounds(*next(pairs)) for k in scores.ks.tolist()} for name in RETRIEVAL}
    one_image = len(scores.labels) < 2
    bounds = np.stack(percentile_interval(resampled_accuracies(scores.right_answers())), axis=1).tolist()
    accuracy = {
        mean: [None, None] if one_image else _bounds(*pair)
        for mean, pair in zip(ACCURACIES, bounds, strict=True)
    }
    return {"confidence": CONFIDENCE, "samples": SAMPLES, **by_metric, "attribute_accuracy": accuracy}


def _bounds(low: float, high: float) -> list[float | None]:
    return [None if np.isnan(bound) else bound for bound in (low, high)]
