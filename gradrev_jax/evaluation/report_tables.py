"""The tables of a report: retrieval, accuracies and leakage, in percent."""

from collections.abc import Iterable, Mapping
from typing import Any

from gradrev_jax.evaluation.markdown import escape, percent, table
from gradrev_jax.evaluation.scores import ACCURACIES
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION

NOT_LABELLED = "–"  # in place of an accuracy


def retrieval_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the header and the rows: each metric by K, and below it that of the baseline.

    Args:
      metrics: the content of metrics.json.
    """
    rows = [("%", *(f"@{k}" for k in metrics["hit_rate"]))]
    for name, baseline in metrics["baselines"][NO_MANIPULATION].items():
        rows.append((name, *map(percent, metrics[name].values())))
        rows.append(("&nbsp;&nbsp;no manipulation", *map(percent, baseline.values())))
        if name == "hit_rate":
            rows += _baseline_rows(metrics, name)
    return rows


def _baseline_rows(metrics: Mapping[str, Any], metric: str) -> list[tuple[str, ...]]:
    """Returns the rows of the other baselines in one metric."""
    return [
        (f"&nbsp;&nbsp;{name.replace('_', ' ')}", *map(percent, by_metric[metric].values()))
        for name, by_metric in metrics["baselines"].items()
        if name != NO_MANIPULATION
    ]


def accuracy_table(
    metrics: Mapping[str, Any],
    attributes: Iterable[str],
    *,
    majority_name: str,
    means: Iterable[tuple[str, str, str]],
) -> list[str]:
    """Returns the table of the accuracies, with a row for each attribute, and a sentence on empty ones.

    Args:
      metrics: the content of metrics.json.
      attributes: the names of all attributes, of which some may have no labelled test image.
      majority_name: the header of the column of the majority class.
      means: the rows of the means, which come last.
    """
    by_attribute = [metrics[name]["per_attribute"] for name in ("attribute_accuracy", "majority_accuracy")]
    rows: list[tuple[str, ...]] = [("attribute", "accuracy", majority_name)]
    for name in attributes:
        found = [accuracies.get(name) for accuracies in by_attribute]
        rows.append((escape(name), *(NOT_LABELLED if each is None else percent(each) for each in found)))
    note = f"{NOT_LABELLED}: no labelled test image; the means are of the other attributes."
    is_empty = any(NOT_LABELLED in cells for _, *cells in rows)
    return [*table([*rows, *means]), "", *([note, ""] if is_empty else [])]


def mean_accuracy_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the rows of the accuracies over all attributes.

    Args:
      metrics: the content of metrics.json.
    """
    accuracy, majority = metrics["attribute_accuracy"], metrics["majority_accuracy"]
    return [(f"**{mean}**", percent(accuracy[mean]), percent(majority[mean])) for mean in ACCURACIES]


def leakage_rows(leakage: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the header and the rows: each probe, and each control.

    Args:
      leakage: the leakage in metrics.json.
    """
    rows: list[tuple[str, ...]] = [("%", "own attribute", "leakage", "conditional")]
    probes = {"linear classifiers": leakage, "small MLPs": leakage["mlp"], "neighbours": leakage["knn"]}
    controls = {name.replace("_", " "): means for name, means in leakage["controls"].items()}
    for name, means in {**probes, **controls}.items():
        numbers = [means.get(mean) for mean in ("own_accuracy", "mean", "conditional_mean")]
        rows.append((name, *("" if number is None else percent(number) for number in numbers)))
    permuted = leakage["control"]["mean"]
    rows.append(("labels permuted", "", "", "" if permuted is None else percent(permuted)))
    return rows
