"""Scores probes: accuracy, leakage and conditional leakage by feature and attribute."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.evaluation.probe_data import Folds, ProbeOutcome, one_hot_labels

FEWEST_LABELLED = 20  # test images of an attribute that is measured
SMALLEST_ENTROPY = 0.01  # nats: an attribute that the own label determines leaves nothing to measure


class ProbeResult(NamedTuple):
    """Represents what one kind of probe finds; rows are features, columns attributes, NaN is "not measured".

    Attributes:
      accuracy: the accuracy of the probes, [N, N].
      leakage: their accuracy above the majority rate, (accuracy - majority) / (1 - majority), [N, N].
      conditional: the fraction of the attribute's entropy given the feature's own label that the feature
        removes, [N, N]; the diagonal is NaN. None: not measured by this kind.
    """

    accuracy: Float[np.ndarray, "N N"]
    leakage: Float[np.ndarray, "N N"]
    conditional: Float[np.ndarray, "N N"] | None


@dataclasses.dataclass(frozen=True)
class Leakage:
    """Represents what is in the features beside their own attribute; NaN is "not measured".

    Attributes:
      majority: the accuracy of naming the most frequent value, [N].
      linear: what logistic probes find.
      mlp: what small MLPs find; None: not measured.
      knn: what the nearest neighbours of retrieval find; None: not measured.
      control: the conditional leakage that logistic probes find after the labels of each attribute were
        permuted among images with the same own label, [N, N]: 0 but for chance. None: not measured.
    """

    majority: Float[np.ndarray, " N"]
    linear: ProbeResult
    mlp: ProbeResult | None
    knn: ProbeResult | None
    control: Float[np.ndarray, "N N"] | None

    def as_json(self, schema: AttributeSchema) -> dict[str, Any]:
        """Returns the measurements as fractions for a JSON file; what was not measured is None.

        Args:
          schema: the attributes.
        """
        content = {
            "attributes": list(schema.names),
            **_as_json(self.linear),
            "majority": _listed(self.majority),
        }
        for name, result in (("mlp", self.mlp), ("knn", self.knn)):
            content[name] = None if result is None else _as_json(result)
        if self.control is None:
            return {**content, "control": None}
        mean = json_number(mean_of_others(self.control))
        return {**content, "control": {"matrix": _listed(self.control), "mean": mean}}


def mean_of_others(matrix: Float[np.ndarray, "N N"]) -> float:
    """Returns the mean of the measured entries off the diagonal; NaN if there are none.

    Args:
      matrix: a number per feature (row) and attribute (column).

    Example:
      >>> mean_of_others(np.array([[9.0, 0.25], [np.nan, 9.0]]))
      0.25
    """
    others = matrix[~np.eye(len(matrix), dtype=bool) & np.isfinite(matrix)]
    return float(others.mean()) if others.size else float("nan")


def is_measured(leakage: Mapping[str, Any]) -> bool:
    """Returns whether any attribute had enough labels, by the entry of metrics.json."""
    return leakage["own_accuracy"] is not None


class ProbeScores:
    """Scores probes on the test images that are labelled.

    Args:
      labels: the labels of all images, test images first, [m, N], -1 = not labelled.
      folds: the folds.
      num_scored: the number of test images.
      schema: the attributes.
    """

    def __init__(
        self, labels: Int[np.ndarray, "m N"], folds: Folds, num_scored: int, schema: AttributeSchema
    ):
        self.labels = labels[:num_scored]
        self.labelled = self.labels != NOT_LABELLED
        self.count = self.labelled.sum(axis=0)
        one_hot = one_hot_labels(labels, schema)
        counts = np.einsum("mt,mv->tv", folds.without_fold, one_hot)
        self.majority = self.accuracy(schema.likeliest(counts)[folds.fold[:num_scored]])

    def accuracy(self, predicted: Int[np.ndarray, "*N m A"]) -> Float[np.ndarray, "*N A"]:
        """Returns the accuracy of predictions, by attribute; NaN where too few images are labelled."""
        right = (predicted[..., : len(self.labels), :] == self.labels) & self.labelled
        enough = self.count >= FEWEST_LABELLED
        return np.where(enough, right.sum(axis=-2) / np.maximum(self.count, 1), np.nan)

    def conditional_leakage(self, outcome: ProbeOutcome) -> Float[np.ndarray, "N N"]:
        """Returns the fraction of the base's cross-entropy that probes remove; NaN if that is nearly 0."""
        loss, base = (
            (self.labelled * losses[:, : len(self.labels)]).sum(axis=1, dtype=np.float64)
            / np.maximum(self.count, 1)
            for losses in (outcome.loss, outcome.base_loss)
        )
        is_other = ~np.eye(len(base), dtype=bool)
        measured = (base >= SMALLEST_ENTROPY) & (self.count >= FEWEST_LABELLED) & is_other
        return np.where(measured, (base - loss) / np.where(measured, base, 1), np.nan)

    def score_predictions(
        self, predicted: Int[np.ndarray, "N m N"], conditional: Float[np.ndarray, "N N"] | None
    ) -> ProbeResult:
        """Returns the accuracy and the leakage of predictions, together with a given conditional leakage."""
        accuracy = self.accuracy(predicted)
        room = np.where(self.majority < 1, 1 - self.majority, np.nan)
        return ProbeResult(accuracy, (accuracy - self.majority) / room, conditional)

    def score_probes(self, plain: ProbeOutcome, conditional: ProbeOutcome) -> ProbeResult:
        """Returns accuracy and leakage of plain probes, and the conditional leakage of conditional ones."""
        return self.score_predictions(np.asarray(plain.predicted), self.conditional_leakage(conditional))


def _as_json(result: ProbeResult) -> dict[str, Any]:
    content = {
        "matrix": _listed(result.leakage),
        "mean": json_number(mean_of_others(result.leakage)),
        "accuracy": _listed(result.accuracy),
        "own_accuracy": _mean_number(result.accuracy.diagonal()),
    }
    if result.conditional is not None:
        content["conditional_matrix"] = _listed(result.conditional)
        content["conditional_mean"] = json_number(mean_of_others(result.conditional))
    return content


def _mean_number(numbers: Float[np.ndarray, " N"]) -> float | None:
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if known.size else None


def _listed(numbers: Float[np.ndarray, "..."]) -> list[Any]:
    return [json_number(row) if np.ndim(row) == 0 else _listed(row) for row in numbers]
