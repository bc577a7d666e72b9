"""The tables of a report: retrieval, accuracies and leakage, in percent."""

from collections.abc import Mapping
from typing import Any

from gradrev_jax.evaluation.markdown import escape, percent
from gradrev_jax.evaluation.scores import ACCURACIES
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION


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


def accuracy_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the header and the rows: each attribute, and the means over all.

    Args:
      metrics: the content of metrics.json.
    """
    accuracy, majority = metrics["attribute_accuracy"], metrics["majority_accuracy"]
    rows: list[tuple[str, ...]] = [("attribute", "accuracy", "majority class")]
    rows += [
        (escape(name), percent(value), percent(majority["per_attribute"][name]))
        for name, value in accuracy["per_attribute"].items()
    ]
    return rows + [(f"**{mean}**", percent(accuracy[mean]), percent(majority[mean])) for mean in ACCURACIES]


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
