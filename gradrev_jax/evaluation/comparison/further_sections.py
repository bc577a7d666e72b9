"""The sections of a comparison that come after the results: baselines, leakage, and fields that differ."""

from typing import Any

import numpy as np

from gradrev_jax.evaluation.comparison.numbers import nearest_k
from gradrev_jax.evaluation.comparison.record import ComparisonRecord
from gradrev_jax.evaluation.markdown import code, escape, percent, table
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION

LEAKAGE_COLUMNS = {
    "own_accuracy": "own attribute",
    "mean": "leakage",
    "conditional_mean": "conditional",
    "mlp_mean": "leakage, MLP",
    "mlp_conditional_mean": "conditional, MLP",
}


def baseline_section(comparison: ComparisonRecord) -> list[str]:
    """Returns the table of the hit rates of baselines, of each system that was evaluated with some.

    Args:
      comparison: the numbers, from ``compare_systems``.
    """
    k = str(nearest_k(10, comparison["ks"]))
    names = list(dict.fromkeys(name for system in comparison["systems"] for name in system["baselines"]))
    if names == [NO_MANIPULATION]:
        return []
    rows: list[tuple[str, ...]] = [("system", "its own", *(name.replace("_", " ") for name in names))]
    for system in comparison["systems"]:
        by_k = (system["baselines"].get(name) for name in names)
        cells = ("" if rates is None else percent(rates[k]) for rates in by_k)
        rows.append((escape(system["name"]), percent(system["metrics"][f"hit_rate@{k}"]["value"]), *cells))
    return [
        "## Baselines",
        "",
        f"hit_rate@{k} of the same encoders, asked in the obvious ways; a report says what each is.",
        "",
        *table(rows),
        "",
    ]


def leakage_section(comparison: ComparisonRecord) -> list[str]:
    """Returns the table of the leakage of each system in which it was measured, the mean over its runs.

    Args:
      comparison: the numbers, from ``compare_systems``.
    """
    measured = [system for system in comparison["systems"] if system["leakage"]]
    if not measured:
        return []
    rows: list[tuple[str, ...]] = [("system", *LEAKAGE_COLUMNS.values())]
    for system in measured:
        columns = (system["leakage"][name] for name in LEAKAGE_COLUMNS)
        rows.append((escape(system["name"]), *map(_mean_and_range, columns)))
    return [
        "## Leakage",
        "",
        "What fresh classifiers read of other attributes from what a system compares of each attribute, such "
        "as its feature, on images that the encoder did not see: 0 is the majority class, 1 every label. "
        "Conditional: beyond what the own label tells. Own attribute: their accuracy on the "
        "attribute itself.",
        "",
        *table(rows),
        "",
    ]


def field_section(comparison: ComparisonRecord) -> list[str]:
    """Returns the section of the config fields that are not the same in all runs.

    Prototypes alone have a column only if they were evaluated by another protocol than their system.

    Args:
      comparison: the numbers, from ``compare_systems``.
    """
    fields = comparison["fields_that_differ"]
    if not fields:
        return []
    protocols = [values for field, values in fields.items() if field.startswith("protocol.")]
    whole = {system["name"]: system["prototypes_of"] or system["name"] for system in comparison["systems"]}
    names = [
        name
        for name in next(iter(fields.values()))
        if whole[name] == name or any(values[name] != values[whole[name]] for values in protocols)
    ]
    rows = [("field", *map(escape, names))]
    for field, values in fields.items():
        shown = [", ".join(dict.fromkeys(map(_field_value, values[name]))) for name in names]
        rows.append((code(field), *map(escape, shown)))
    return ["## Config fields that differ", "", *table(rows, numbers=False), ""]


def _mean_and_range(numbers: list[float | None]) -> str:
    """Returns the mean over runs, and with several the lowest and the highest."""
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    spread = f" ({percent(min(known))} to {percent(max(known))})" if len(known) > 1 else ""
    return percent(float(np.mean(known))) + spread


def _field_value(value: Any) -> str:
    return "–" if value is None else str(value)
