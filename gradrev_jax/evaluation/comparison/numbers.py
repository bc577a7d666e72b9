"""Computes the numbers of a comparison, with their intervals."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.evaluation.bootstrap import (
    CONFIDENCE,
    SAMPLES,
    bootstrap_interval,
    paired_difference,
    percentile_interval,
)
from gradrev_jax.evaluation.comparison.systems import (
    EvaluatedRun,
    System,
    common_ks,
    common_metrics,
    describe_config,
)
from gradrev_jax.evaluation.scores import ACCURACIES, accuracies, resampled_accuracies
from gradrev_jax.runs.fields.table import is_descriptive


def nearest_k(wanted: int, ks: Sequence[int]) -> int:
    """Returns the cut-off nearest to a wanted one; of two equally near ones, the lower.

    Example:
      >>> nearest_k(30, (1, 10, 30)), nearest_k(30, (1, 5))
      (30, 5)
    """
    return min(ks, key=lambda k: (abs(k - wanted), k))


def compare_systems(systems: Sequence[System], schema: AttributeSchema) -> dict[str, Any]:
    """Computes all numbers of a comparison, as comparison.json has them.

    Args:
      systems: the systems, from ``read_systems``.
      schema: the attributes that they share.

    Returns:
      The numbers as fractions; a bound is None if there is no interval.

    Raises:
      WorkdirError: the runs have no cut-off in common.
    """
    ks, metrics = common_ks(systems), common_metrics(systems)
    first = systems[0].runs[0].scores
    return {
        "queries": len(first.reference),
        "references": len(np.unique(first.reference)),
        "gallery": len(first.labels),
        "attributes": dict(zip(schema.names, schema.sizes, strict=True)),
        "ks": list(ks),
        "confidence": CONFIDENCE,
        "samples": SAMPLES,
        "systems": [_describe(system, ks, metrics) for system in systems],
        "differences": _differences(systems, ks, metrics),
        "fields_that_differ": _fields_that_differ(systems),
    }


def column_names(ks: Sequence[int], metrics: Sequence[str]) -> list[str]:
    """Returns the names of the columns of ``System.scores``.

    Example:
      >>> column_names((1, 10), ("hit_rate", "ndcg"))
      ['hit_rate@1', 'hit_rate@10', 'ndcg@1', 'ndcg@10']
    """
    return [f"{metric}@{k}" for metric in metrics for k in ks]


def pair_metrics(ks: Sequence[int]) -> list[str]:
    """Returns the metrics that pairs of systems are compared by, each at the nearest cut-off there is.

    Example:
      >>> pair_metrics((1, 10, 30))
      ['hit_rate@10', 'hit_rate@30', 'ndcg@30', 'ndcg_target@30']
    """
    wanted = (("hit_rate", 10), ("hit_rate", 30), ("ndcg", 30), ("ndcg_target", 30))
    return list(dict.fromkeys(f"{metric}@{nearest_k(k, ks)}" for metric, k in wanted))


def _describe(system: System, ks: Sequence[int], metrics: Sequence[str]) -> dict[str, Any]:
    """Returns the numbers of a system, and where they come from."""
    names = column_names(ks, metrics)
    values, references = system.scores(ks, metrics), system.runs[0].scores.reference
    right = system.right_answers()
    low, high = bootstrap_interval(values, references)
    accuracy = accuracies(right)
    accuracy_low, accuracy_high = percentile_interval(resampled_accuracies(right))
    found = {
        name: {"value": value, "low": _known(lower), "high": _known(upper)}
        for name, value, lower, upper in zip(
            [*names, *(f"accuracy_{mean}" for mean in ACCURACIES)],
            [*values.mean(axis=0).tolist(), *accuracy.tolist()],
            [*low.tolist(), *accuracy_low.tolist()],
            [*high.tolist(), *accuracy_high.tolist()],
            strict=True,
        )
    }
    for name in names:
        metric, k = name.split("@")
        runs = [run.metrics[metric][k] for run in system.runs]
        baselines = [run.metrics["baselines"]["no_manipulation"][metric][k] for run in system.runs]
        found[name] |= {"runs": runs, "no_manipulation": float(np.mean(baselines))}
    for mean in ACCURACIES:
        runs = [run.metrics["attribute_accuracy"][mean] for run in system.runs]
        majority = [run.metrics["majority_accuracy"][mean] for run in system.runs]
        found[f"accuracy_{mean}"] |= {"runs": runs, "majority": float(np.mean(majority))}
    matrices = np.array([run.metrics["cross_accuracy"]["matrix"] for run in system.runs], float)
    return {
        "name": system.name,
        "prototypes_of": system.prototypes_of,
        "runs": [str(run.directory) for run in system.runs],
        "what": describe_config(system.runs[0].config, prototypes_alone=system.prototypes_of is not None),
        "step": [run.metrics["step"] for run in system.runs],
        "strength": [run.metrics["strength"] for run in system.runs],
        "weights": [run.metrics.get("weights") for run in system.runs],
        "metrics": found,
        "cross_accuracy": [[_known(cell) for cell in row] for row in matrices.mean(axis=0).tolist()],
    }


def _differences(
    systems: Sequence[System], ks: Sequence[int], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Compares every two systems by every tested metric, and each system with its own prototypes alone."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations(systems, 2)
        if (a.prototypes_of is None and b.prototypes_of in (None, a.name))
    ]
    if not pairs:
        return []
    tested, names = pair_metrics(ks), column_names(ks, metrics)
    columns = [names.index(name) for name in tested]
    scores = {system.name: system.scores(ks, metrics)[:, columns] for system in systems}
    # All pairs in one call, so that the references are drawn once.
    by_score = paired_difference(
        np.concatenate([scores[a.name] for a, _ in pairs], axis=1),
        np.concatenate([scores[b.name] for _, b in pairs], axis=1),
        systems[0].runs[0].scores.reference,
    )
    right = {system.name: system.right_answers() for system in systems}
    drawn = {name: resampled_accuracies(answers)[:, 0] for name, answers in right.items()}
    found = []
    for i, (a, b) in enumerate(pairs):
        own = slice(i * len(tested), (i + 1) * len(tested))
        rows = list(zip(tested, *(part[own].tolist() for part in by_score), strict=True))
        difference = float(accuracies(right[a.name])[0] - accuracies(right[b.name])[0])
        low, high = map(float, percentile_interval(drawn[a.name] - drawn[b.name]))
        rows.append(("accuracy_macro", difference, low, high, low > 0 or high < 0))
        found += [
            {
                "first": a.name,
                "second": b.name,
                "metric": metric,
                "difference": difference,
                "low": _known(low),
                "high": _known(high),
                "significant": significant,
            }
            for metric, difference, low, high, significant in rows
        ]
    return found


def _fields_that_differ(systems: Sequence[System]) -> dict[str, dict[str, list[Any]]]:
    """Returns the config fields that differ between runs that use them, by field and system: one per run."""
    shown = [system for system in systems if system.prototypes_of is None]
    fields = sorted({field for system in shown for run in system.runs for field in run.config})

    def uses(run: EvaluatedRun, field: str) -> bool:
        return not field.startswith("memory.") or "memory" in run.config["stages"]

    def value(run: EvaluatedRun, field: str) -> Any:
        return run.config.get(field) if uses(run, field) else None

    def differs(field: str) -> bool:
        return len({str(value(run, field)) for s in shown for run in s.runs if uses(run, field)}) > 1

    return {
        field: {system.name: [value(run, field) for run in system.runs] for system in shown}
        for field in fields
        if is_descriptive(field) and differs(field)
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
