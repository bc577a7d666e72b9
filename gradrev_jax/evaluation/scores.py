"""Scores of every query and every test image: queries.npz of a report, and the intervals drawn from it."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.queries import LARGEST_QUERIES, Queries
from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.bootstrap import (
    CONFIDENCE,
    SAMPLES,
    bootstrap_interval,
    column_means,
    percentile_interval,
    resampled_means,
)
from gradrev_jax.runs.array_files import TooLargeError, load_arrays

METRICS_FILE, SCORES_FILE = "metrics.json", "queries.npz"
ACCURACIES = ("macro", "micro")
KEPT_NEIGHBORS = 10
BY_METRIC = "by_metric"
# In bytes: as many queries as are generated at most, and as much again for what was found for them.
LARGEST_SCORES = 2 * LARGEST_QUERIES

# Metric -> cut-off -> mean over queries. Cut-offs are strings, because JSON has no other keys.
RetrievalMetrics = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Scores:
    """Represents what was asked and found, one row per query, and the classifiers' answers, one per image.

    The retrieval metrics are those that ``core.metrics.retrieval_scores`` gives: no metric is named here.

    Attributes:
      reference: [Q], the gallery row that each query manipulates.
      changed: bool [Q, N], the attributes that each query changes.
      indicators: int8 [Q, J], the manipulations, as in ``Queries``.
      targets: int32 [Q, N], the labels that each query asks for.
      neighbors: int32 [Q, K], the gallery rows found, nearest first; K is 10, or the largest cut-off if that
        is lower.
      ks: [C], the cut-offs.
      by_metric: the scores of each retrieval metric, float32 [Q, C].
      labels: int32 [G, N], the labels of the gallery, -1 = not labelled.
      correct: int8 [G, N], whether each attribute's classifier is right about each gallery image, -1 = not
        labelled.
    """

    reference: Int[np.ndarray, " Q"]
    changed: Bool[np.ndarray, "Q N"]
    indicators: Int[np.ndarray, "Q J"]
    targets: Int[np.ndarray, "Q N"]
    neighbors: Int[np.ndarray, "Q K"]
    ks: Int[np.ndarray, " C"]
    by_metric: Mapping[str, Float[np.ndarray, "Q C"]]
    labels: Int[np.ndarray, "G N"]
    correct: Int[np.ndarray, "G N"]

    def columns(
        self, ks: Sequence[int] | None = None, metrics: Sequence[str] | None = None
    ) -> Float[np.ndarray, "Q M"]:
        """Returns the retrieval scores side by side: metric after metric, each at its cut-offs.

        Args:
          ks: the cut-offs; None: all.
          metrics: the metrics; None: all.
        """
        known = self.ks.tolist()
        kept = [known.index(k) for k in (known if ks is None else ks)]
        names = self.by_metric if metrics is None else metrics
        return np.concatenate([self.by_metric[name][:, kept] for name in names], axis=1, dtype=np.float64)

    def right_answers(self) -> Float[np.ndarray, "G N"]:
        """Returns ``correct`` as 0 and 1, NaN where an image is not labelled."""
        return np.where(self.correct == NOT_LABELLED, np.nan, self.correct)


class Scored(NamedTuple):
    """Represents how good the answers are.

    Attributes:
      scores: the scores of every query.
      means: their means over the queries.
      unedited: the same means for the references as they are, without manipulation.
    """

    scores: Scores
    means: RetrievalMetrics
    unedited: RetrievalMetrics


def retrieval_metrics(
    neighbor_labels: Int[np.ndarray, "Q K N"], queries: Queries, ks: Sequence[int]
) -> RetrievalMetrics:
    """Computes all retrieval metrics at all cut-offs.

    Raises:
      ValueError: there are no queries, or a cut-off is beyond the neighbours given.
    """
    return mean_scores(retrieval_scores(neighbor_labels, queries.targets, queries.changed, ks), ks)


def mean_scores(
    by_metric: Mapping[str, Float[Array | np.ndarray, "Q C"]], ks: Sequence[int]
) -> RetrievalMetrics:
    """Averages the scores of every metric over the queries.

    Example:
      >>> mean_scores({"hit_rate": np.array([[0.0, 1.0], [1.0, 1.0]])}, (1, 5))
      {'hit_rate': {'1': 0.5, '5': 1.0}}
    """
    return {
        name: dict(zip(map(str, ks), scores.mean(axis=0).tolist(), strict=True))
        for name, scores in by_metric.items()
    }


def write_scores(path: pathlib.Path, scores: Scores) -> None:
    """Writes scores to one compressed file: one array per field, and one per retrieval metric.

    Raises:
      OSError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(scores):
        value = getattr(scores, field.name)
        arrays |= value if field.name == BY_METRIC else {field.name: value}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # of its other keywords


def is_per_attribute(metric: str) -> bool:
    """Returns whether a metric is about a single attribute or nuisance, such as ``kept.color``."""
    return "." in metric


def read_scores(path: pathlib.Path) -> Scores:
    """Reads what ``write_scores`` wrote; the metrics are those that the file has.

    Raises:
      WorkdirError: the file is missing, damaged, or was written by another version, or is too large.
    """
    again = f"evaluate again: python evaluate.py --workdir={path.parent.parent}"
    try:
        arrays = load_arrays(path, most=LARGEST_SCORES)
    except FileNotFoundError as error:
        raise WorkdirError(
            f"{path.parent} was written by an older version: it has no {path.name}; {again}"
        ) from error
    except TooLargeError as error:
        raise WorkdirError(
            f"{path} cannot be read: {error}; evaluate with fewer queries (protocol.num_references), or "
            "restore the file if it is not what the evaluation wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path} cannot be read: {error}; {again}") from error
    names = [field.name for field in dataclasses.fields(Scores) if field.name != BY_METRIC]
    missing = [name for name in names if name not in arrays]
    by_metric = {name: array for name, array in arrays.items() if name not in names}
    if missing or all(map(is_per_attribute, by_metric)):
        what = missing[0] if missing else "retrieval metric"
        raise WorkdirError(f"{path} was written by another version: it has no {what}; {again}")
    if problem := _disagreement(arrays, list(by_metric)):
        raise WorkdirError(f"{path} cannot be read: {problem}; {again}")
    return Scores(**{name: arrays[name] for name in names}, by_metric=by_metric)


def _disagreement(arrays: Mapping[str, np.ndarray], metrics: Sequence[str]) -> str | None:
    """Describes the first array whose shape, or kind of numbers, does not fit the others'; None: all fit."""

    def lengths(name: str) -> tuple[int, int]:
        """Returns the lengths of the first two axes; 0 for axes that are not there."""
        first, second = (*arrays[name].shape, 0, 0)[:2]
        return first, second

    queries, neighbors = lengths("neighbors")
    items, attributes = lengths("labels")
    values, cut_offs = lengths("indicators")[1], len(np.atleast_1d(arrays["ks"]))
    expected = {
        "reference": ("iu", (queries,)),
        "changed": ("b", (queries, attributes)),
        "indicators": ("i", (queries, values)),
        "targets": ("i", (queries, attributes)),
        "neighbors": ("iu", (queries, neighbors)),
        "ks": ("iu", (cut_offs,)),
        "labels": ("i", (items, attributes)),
        "correct": ("i", (items, attributes)),
        **dict.fromkeys(metrics, ("f", (queries, cut_offs))),
    }
    for name, (kinds, shape) in expected.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.shape != shape:
            return f"{name[:80]} is {array.dtype} {array.shape}, where the others need {shape}"
    for name in ("reference", "neighbors"):
        if arrays[name].size and not 0 <= arrays[name].min() <= arrays[name].max() < items:
            return f"{name} has rows beyond the gallery's {items:,}"
    return None


def accuracies(right: Float[np.ndarray, "G N"]) -> Float[np.ndarray, "2"]:
    """Computes the macro (over attributes) and the micro (over labelled cells) accuracy.

    Args:
      right: [G, N], whether each answer is right, 0 or 1; NaN where an image is not labelled.

    Example:
      >>> accuracies(np.array([[1.0, 0.0], [1.0, np.nan], [0.0, np.nan], [1.0, np.nan]])).tolist()
      [0.375, 0.6]
    """
    per_attribute, per_cell = column_means(right), column_means(right.reshape(-1, 1))
    return np.array([column_means(per_attribute), per_cell[0]])


def resampled_accuracies(
    right: Float[np.ndarray, "G N"], *, samples: int = SAMPLES, seed: int = 0
) -> Float[np.ndarray, "S 2"]:
    """Computes the macro and the micro accuracy in each of S bootstrap samples of the test images."""
    images, attributes = right.shape
    per_attribute = resampled_means(right, np.arange(images), samples=samples, seed=seed)
    cells = resampled_means(
        right.reshape(-1, 1), np.repeat(np.arange(images), attributes), samples=samples, seed=seed
    )
    return np.stack([column_means(per_attribute.T), cells[:, 0]], axis=1)


def intervals(scores: Scores) -> dict[str, Any]:
    """Computes the bootstrap intervals of a report, as metrics.json has them.

    Queries are resampled by their reference images, accuracies by test images; an interval is [None, None]
    if there is only one of them.

    Returns:
      The confidence, the number of samples, the interval of every retrieval metric at every cut-off, and the
      intervals of the accuracies.
    """
    low, high = bootstrap_interval(scores.columns(), scores.reference)
    pairs = iter([[json_number(bound) for bound in pair] for pair in zip(low, high, strict=True)])
    by_metric = {name: {str(k): next(pairs) for k in scores.ks.tolist()} for name in scores.by_metric}
    one_image = len(scores.labels) < 2
    bounds = np.stack(percentile_interval(resampled_accuracies(scores.right_answers())), axis=1).tolist()
    accuracy = {
        mean: [None, None] if one_image else [json_number(bound) for bound in pair]
        for mean, pair in zip(ACCURACIES, bounds, strict=True)
    }
    return {"confidence": CONFIDENCE, "samples": SAMPLES, **by_metric, "attribute_accuracy": accuracy}
