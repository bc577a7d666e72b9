"""Computes the numbers of a comparison, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.json_numbers import json_number
from gradrev_jax.evaluation.bootstrap import (
    CONFIDENCE,
    SAMPLES,
    Resampled,
    percentile_interval,
    resample_references,
    seeds_samples,
)
from gradrev_jax.evaluation.comparison.differences import compare_pairs, standard_deviations
from gradrev_jax.evaluation.comparison.record import ComparisonRecord, MetricRecord, SystemRecord
from gradrev_jax.evaluation.comparison.systems import (
    ComparedSystem,
    EvaluatedRun,
    common_ks,
    common_metrics,
)
from gradrev_jax.evaluation.scores import ACCURACIES, accuracies, resampled_accuracies
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION
from gradrev_jax.runs.config_words import describe_config
from gradrev_jax.runs.fields.table import is_descriptive
from gradrev_jax.systems.objective import MEMORY
from gradrev_jax.systems.registry import SYSTEMS

ACCURACY_NAMES = tuple(f"accuracy_{mean}" for mean in ACCURACIES)


def nearest_k(wanted: int, ks: Sequence[int]) -> int:
    """Returns the cut-off nearest to a wanted one; of two equally near ones, the lower.

    Example:
      >>> nearest_k(30, (1, 10, 30)), nearest_k(30, (1, 5))
      (30, 5)
    """
    return min(ks, key=lambda k: (abs(k - wanted), k))


def compare_systems(systems: Sequence[ComparedSystem], schema: AttributeSchema) -> ComparisonRecord:
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
    names = [*column_names(ks, metrics), *ACCURACY_NAMES]
    resampled = {system.name: resample_system(system, ks, metrics) for system in systems}
    tested = [*pair_metrics(ks), ACCURACY_NAMES[0]]
    columns = [names.index(name) for name in tested]
    of_tested = {
        name: Resampled(draws.means[:, columns], draws.by_seed[:, columns])
        for name, draws in resampled.items()
    }
    first = systems[0].runs[0].scores
    return {
        "queries": len(first.reference),
        "references": len(np.unique(first.reference)),
        "gallery": len(first.labels),
        "attributes": dict(zip(schema.names, schema.sizes, strict=True)),
        "ks": list(ks),
        "confidence": CONFIDENCE,
        "samples": SAMPLES,
        "systems": [_describe(system, names, resampled[system.name]) for system in systems],
        "differences": compare_pairs(systems, tested, of_tested),
        "fields_that_differ": _fields_that_differ(systems),
    }


def column_names(ks: Sequence[int], metrics: Sequence[str]) -> list[str]:
    """Returns the names of the columns of ``ComparedSystem.scores``.

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


def resample_system(system: ComparedSystem, ks: Sequence[int], metrics: Sequence[str]) -> Resampled:
    """Resamples the references for the retrieval metrics of a system, and the test images for its accuracies.

    Returns:
      The means: those of ``column_names``, and then both accuracies.
    """
    scores = resample_references(system.scores(ks, metrics), system.runs[0].scores.reference)
    right = system.right_answers()
    # All runs saw the same labels, so the accuracy of their mean answer is the mean of their accuracies.
    drawn = resampled_accuracies(right.mean(axis=0))
    if right.shape[1] == 1:
        drawn = np.full_like(drawn, np.nan)  # one image says nothing about others
    return Resampled(
        np.concatenate([scores.means, drawn], axis=1),
        np.concatenate([scores.by_seed, [accuracies(answers) for answers in right]], axis=1),
    )


def _describe(system: ComparedSystem, names: Sequence[str], resampled: Resampled) -> SystemRecord:
    """Returns the numbers of a system, and where they come from."""
    low, high = percentile_interval(seeds_samples(resampled))
    columns = zip(
        names,
        resampled.by_seed.mean(axis=0).tolist(),
        low.tolist(),
        high.tolist(),
        standard_deviations(resampled.by_seed),
        strict=True,
    )
    found: dict[str, MetricRecord] = {
        name: {"value": value, "low": json_number(lower), "high": json_number(upper), "seed_sd": deviation}
        for name, value, lower, upper, deviation in columns
    }
    for name in names[: -len(ACCURACIES)]:
        metric, k = name.split("@")
        runs = [run.metrics[metric][k] for run in system.runs]
        baselines = [run.metrics["baselines"][NO_MANIPULATION][metric][k] for run in system.runs]
        found[name] |= {"runs": runs, "no_manipulation": float(np.mean(baselines))}
    for mean in ACCURACIES:
        runs = [run.metrics["attribute_accuracy"][mean] for run in system.runs]
        majority = [run.metrics["majority_accuracy"][mean] for run in system.runs]
        found[f"accuracy_{mean}"] |= {"runs": runs, "majority": float(np.mean(majority))}
    matrices = np.array([run.metrics["cross_accuracy"]["matrix"] for run in system.runs], float)
    return {
        "name": system.name,
        "prototypes_of": system.prototypes_of,
        "runs": [str(run.shown) for run in system.runs],
        "seeds": list(system.seeds),
        "intervals_hold_seeds": len(system.runs) > 1,
        "what": describe_config(system.runs[0].config, prototypes_alone=system.prototypes_of is not None),
        "step": [run.metrics["step"] for run in system.runs],
        "representation": [run.metrics.get("representation") for run in system.runs],
        "normalize": [run.metrics.get("normalize") for run in system.runs],
        "look": [run.metrics.get("look") for run in system.runs],
        "edit": [run.metrics.get("edit") for run in system.runs],
        "strength": [run.metrics["strength"] for run in system.runs],
        "weights": [run.metrics.get("weights") for run in system.runs],
        "metrics": found,
        "leakage": _leakage(system),
        "baselines": _baselines(system, names),
        "cross_accuracy": [[json_number(cell) for cell in row] for row in matrices.mean(axis=0).tolist()],
    }


def _leakage(system: ComparedSystem) -> dict[str, list[float | None]]:
    """Returns the mean leakage of each run, by the name of the measurement; empty if it was not measured."""
    found: dict[str, list[float | None]] = {}
    for run in system.runs:
        leakage = run.metrics.get("leakage")
        if leakage is None:
            return {}
        numbers = {
            "own_accuracy": leakage["own_accuracy"],
            "mean": leakage["mean"],
            "conditional_mean": leakage["conditional_mean"],
            "mlp_mean": leakage["mlp"]["mean"],
            "mlp_conditional_mean": leakage["mlp"]["conditional_mean"],
        }
        for name, number in numbers.items():
            found.setdefault(name, []).append(number)
    return found


def _baselines(system: ComparedSystem, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns the mean hit rates of the baselines that all runs of a system have, by their names."""
    by_run = [run.metrics["baselines"] for run in system.runs]
    shared = [name for name in by_run[0] if all(name in baselines for baselines in by_run)]
    cutoffs = [name.split("@")[1] for name in names if name.startswith("hit_rate@")]
    return {
        name: {k: float(np.mean([baselines[name]["hit_rate"][k] for baselines in by_run])) for k in cutoffs}
        for name in shared
    }


def _fields_that_differ(systems: Sequence[ComparedSystem]) -> dict[str, dict[str, list[Any]]]:
    """Returns the config fields that differ between runs that use them, by field and system: one per run.

    Prototypes alone are evaluated on their own, so their ``protocol`` may be another; they use no memory.
    """
    fields = sorted({field for system in systems for run in system.runs for field in run.config})

    def uses(system: ComparedSystem, run: EvaluatedRun, field: str) -> bool:
        section = field.split(".")[0]
        if section in SYSTEMS:
            return run.config.get("model.system") == section
        return section != MEMORY or (MEMORY in run.config["stages"] and system.prototypes_of is None)

    def values(system: ComparedSystem, field: str) -> list[Any]:
        return [run.config.get(field) if uses(system, run, field) else None for run in system.runs]

    def differs(field: str) -> bool:
        used = {
            str(run.config.get(field))
            for system in systems
            for run in system.runs
            if uses(system, run, field)
        }
        return len(used) > 1

    return {
        field: {system.name: values(system, field) for system in systems}
        for field in fields
        if is_descriptive(field) and differs(field)
    }
