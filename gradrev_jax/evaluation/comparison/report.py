"""The report of a comparison: its numbers as JSON, tables and pictures to look at."""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.comparison.figures import SYSTEM, Curve, cross_accuracy_heat_maps, hit_rate_curves
from gradrev_jax.evaluation.comparison.numbers import nearest_k, pair_metrics
from gradrev_jax.evaluation.comparison.paper import PAPER, SHOPPING100K_SIZES
from gradrev_jax.evaluation.fonts import missing_note
from gradrev_jax.evaluation.markdown import code, plain, table
from gradrev_jax.evaluation.report import DPI, percent, replacing
from gradrev_jax.evaluation.short_text import shorten_all, text_width

NUMBERS, REPORT = "comparison.json", "comparison.md"
HIT_RATE_KS = (10, 20, 30, 40, 50)  # of Tables 3, 4 and 7
INDENT = "&nbsp;&nbsp;"


def check_replaceable(directory: pathlib.Path) -> None:
    """Raise where a folder holds anything but an earlier comparison, which alone may be replaced.

    Raises:
      WorkdirError: it does.
    """
    if directory.exists() and not directory.is_dir():
        raise WorkdirError(f"--out={directory} is a file; give a folder")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / NUMBERS).is_file():
        raise WorkdirError(
            f"--out={directory} holds other files, which would be lost; give a folder that does not exist yet"
        )


def write_comparison(
    directory: pathlib.Path,
    comparison: Mapping[str, Any],
    queries: Sequence[tuple[str, Figure]],
    *,
    no_queries: str,
) -> None:
    """Write comparison.json, comparison.md and pictures, in place of what an earlier comparison left.

    Args:
      directory: the folder. It changes when the new comparison is complete, and not before.
      comparison: from ``comparison.compare``.
      queries: for each query that is shown, its change in words and its picture.
      no_queries: why there is none.

    Raises:
      WorkdirError: the folder cannot be written to, or holds other files.
    """
    check_replaceable(directory)
    pictures = {f"query_{number}.png": figure for number, (_, figure) in enumerate(queries, start=1)}
    curves = [_curve(system, comparison["ks"]) for system in comparison["systems"]]
    matrices = {system["name"]: system["cross_accuracy"] for system in comparison["systems"]}
    pictures["hit_rate.png"] = hit_rate_curves(comparison["ks"], curves)
    pictures["cross_accuracy.png"] = cross_accuracy_heat_maps(matrices, list(comparison["attributes"]))
    note = missing_note(pictures.values(), again="compare again")
    with replacing(directory) as folder:
        (folder / NUMBERS).write_text(json.dumps(comparison, indent=2, allow_nan=False) + "\n")
        (folder / REPORT).write_text(
            _markdown(comparison, [change for change, _ in queries], no_queries, note), encoding="utf-8"
        )
        for name, figure in pictures.items():
            figure.savefig(folder / name, dpi=DPI)
    if note:
        print(f"note: {note}", file=sys.stderr)


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """The comparison for a terminal, in percent: a line a system, and which differences are significant."""
    ks = comparison["ks"]
    names = [*pair_metrics(ks), f"ndcg_others@{nearest_k(30, ks)}", "accuracy_macro", "accuracy_micro"]
    systems = comparison["systems"]
    short = shorten_all([system["name"] for system in systems], SYSTEM)
    by_name = dict(zip([system["name"] for system in systems], short, strict=True))
    width = max(map(text_width, ("%", *short)))
    lines = [_scale(comparison), "", f"{'%':{width}}" + "".join(f"  {name:>14}" for name in names)]
    for system, shown in zip(systems, short, strict=True):
        cells = "".join(f"  {percent(system['metrics'][name]['value']):>14}" for name in names)
        lines.append(f"{shown}{' ' * (width - text_width(shown))}{cells}")
    if comparison["differences"]:
        lines += ["", f"differences, in points, with {_confidence(comparison)} intervals (* 0 lies outside):"]
        lines += [
            f"  {each['metric']:15} {by_name[each['first']]} - {by_name[each['second']]}: {_signed(each)}"
            for each in comparison["differences"]
        ]
    return "\n".join(lines)


def _markdown(
    comparison: Mapping[str, Any], queries: Sequence[str], no_queries: str, missing: str | None
) -> str:
    """Text of comparison.md."""
    names = [system["name"] for system in comparison["systems"]]
    ks = comparison["ks"]
    hit_rates = [f"hit_rate@{k}" for k in HIT_RATE_KS if k in ks] or [f"hit_rate@{k}" for k in ks]
    gains = [f"{metric}@{nearest_k(30, ks)}" for metric in ("ndcg", "ndcg_target", "ndcg_others")]
    note = _paper_note(comparison)
    return "\n".join(
        [
            f"# Comparison of {', '.join(map(plain, names))}",
            "",
            f"{_scale(comparison)}. All numbers are percentages; every one, at every K, is in "
            f"[{NUMBERS}]({NUMBERS}). In brackets: {_confidence(comparison)} bootstrap intervals of "
            f"{comparison['samples']:,} samples, over reference images for retrieval, because queries of one "
            "reference depend on each other, and over test images for accuracy. They say how far other test "
            "images would give other numbers, and nothing of training again: for that, several runs of one "
            "name are averaged query by query, and the lowest and highest of them stand below.",
            "",
            *([plain(missing, width=len(missing)), ""] if missing else []),
            "## Systems",
            "",
            *table(_system_rows(comparison), numbers=False),
            "",
            "## Hit rate",
            "",
            "Queries with at least one image among K that has exactly the labels asked for. No manipulation: "
            "the query image's own neighbours, which is what manipulating has to beat.",
            "",
            *table(_score_rows(comparison, hit_rates, "no_manipulation", "no manipulation")),
            "",
            *note,
            "![Hit rate](hit_rate.png)",
            "",
            "## NDCG",
            "",
            "Graded by the labels that are right: of all attributes, of the changed one (target), and of "
            "those kept (others). A near neighbour has most labels right without any manipulation: compare "
            "target.",
            "",
            *table(_score_rows(comparison, gains, "no_manipulation", "no manipulation")),
            "",
            *note,
            "## Attribute accuracy",
            "",
            "Macro: mean over attributes; micro: over labelled cells. Majority class: always naming the "
            "commonest training value.",
            "",
            *table(
                _score_rows(comparison, ["accuracy_macro", "accuracy_micro"], "majority", "majority class")
            ),
            "",
            *note,
            "## Differences",
            "",
            *_difference_lines(comparison),
            "## Cross accuracy",
            "",
            "Each classifier (column) on each attribute's feature (row). Off the diagonal, below chance does "
            "not mean that the information is gone: a classifier that is reliably wrong has been fooled, not "
            "starved.",
            "",
            "![Cross accuracy](cross_accuracy.png)",
            "",
            "## The same queries in all systems",
            "",
            *_query_lines(queries, no_queries),
            *_field_lines(comparison),
        ]
    )


def _system_rows(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("system", "what it is", "runs", "checkpoint of step", "strength")]
    for system in comparison["systems"]:
        steps = ", ".join(f"{step:,}" for step in dict.fromkeys(system["step"]))
        strengths = ", ".join(f"{strength:g}" for strength in dict.fromkeys(system["strength"]))
        folders = ", ".join(map(code, system["runs"]))
        rows.append((plain(system["name"]), system["what"], folders, steps, strengths))
    return rows


def _score_rows(
    comparison: Mapping[str, Any], names: Sequence[str], baseline: str, baseline_name: str
) -> list[tuple[str, ...]]:
    """Header and rows: each system's numbers with intervals, the spread over its runs, and the baseline."""
    rows: list[tuple[str, ...]] = [("system", *names)]
    for system in comparison["systems"]:
        metrics = [system["metrics"][name] for name in names]
        rows.append((f"**{plain(system['name'])}**", *map(_with_interval, metrics)))
        if len(system["runs"]) > 1:
            spread = [f"{percent(min(each['runs']))} to {percent(max(each['runs']))}" for each in metrics]
            rows.append((f"{INDENT}lowest and highest of {len(system['runs'])} runs", *spread))
        rows.append((f"{INDENT}{baseline_name}", *(percent(each[baseline]) for each in metrics)))
    if _is_shopping100k(comparison):
        for system_name, numbers in PAPER.items():
            if any(name in numbers for name in names):
                cells = [numbers.get(name, "") for name in names]
                rows.append((f"*paper: {system_name}*", *cells))
    return rows


def _difference_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Table of pairs by metric, and how to read it."""
    differences = comparison["differences"]
    if not differences:
        return ["There is only one system.", ""]
    metrics = list(dict.fromkeys(each["metric"] for each in differences))
    pairs = list(dict.fromkeys((each["first"], each["second"]) for each in differences))
    by_key = {(each["first"], each["second"], each["metric"]): each for each in differences}
    rows = [
        (f"{plain(a)} − {plain(b)}", *(_signed(by_key[a, b, metric]) for metric in metrics)) for a, b in pairs
    ]
    return [
        "In percentage points, both systems on the same queries and the same drawn reference images (test "
        f"images for accuracy). A star: 0 lies outside the {_confidence(comparison)} interval. No correction "
        f"is made for the {len(differences)} comparisons: of as many without any difference, "
        f"{(1 - comparison['confidence']) * len(differences):.1f} would have a star by chance.",
        "",
        *table([("pair", *metrics), *rows]),
        "",
    ]


def _query_lines(queries: Sequence[str], no_queries: str) -> list[str]:
    if not queries:
        return [f"Left out: {plain(no_queries, width=len(no_queries))}", ""]
    lines = ["Drawn with a seed, half of them where the systems differ; green frames are matches.", ""]
    for number, change in enumerate(queries, start=1):
        lines += [f"![{plain(change)}](query_{number}.png)", ""]
    return lines


def _field_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Config fields that are not the same in all runs."""
    fields = comparison["fields_that_differ"]
    if not fields:
        return []
    names = list(next(iter(fields.values())))
    rows = [("field", *map(plain, names))]
    for field, values in fields.items():
        shown = [", ".join(dict.fromkeys(map(_field_value, values[name]))) for name in names]
        rows.append((code(field), *map(plain, shown)))
    return ["## Config fields that differ", "", *table(rows, numbers=False), ""]


def _field_value(value: Any) -> str:
    return "–" if value is None else str(value)


def _paper_note(comparison: Mapping[str, Any]) -> list[str]:
    if not _is_shopping100k(comparison):
        return []
    return [
        "Paper: its Tables 3, 4 and 7 (hit rate), 5 (NDCG@30) and 6 (accuracy), measured as the literature "
        "does: the best epoch on the test images, and the query image among the gallery. † printed as 61.64, "
        "which its neighbours contradict.",
        "",
    ]


def _is_shopping100k(comparison: Mapping[str, Any]) -> bool:
    return tuple(comparison["attributes"].values()) == SHOPPING100K_SIZES


def _curve(system: Mapping[str, Any], ks: Sequence[int]) -> Curve:
    metrics = [system["metrics"][f"hit_rate@{k}"] for k in ks]
    return Curve(
        name=system["name"],
        family=system["prototypes_of"] or system["name"],
        values=[each["value"] for each in metrics],
        low=[each["low"] for each in metrics],
        high=[each["high"] for each in metrics],
        baseline=[each["no_manipulation"] for each in metrics],
    )


def _scale(comparison: Mapping[str, Any]) -> str:
    return (
        f"{comparison['queries']:,} queries of {comparison['references']:,} reference images, "
        f"gallery of {comparison['gallery']:,}"
    )


def _confidence(comparison: Mapping[str, Any]) -> str:
    return f"{100 * comparison['confidence']:g} %"


def _with_interval(metric: Mapping[str, Any]) -> str:
    if metric["low"] is None:
        return percent(metric["value"])
    return f"{percent(metric['value'])} [{percent(metric['low'])}, {percent(metric['high'])}]"


def _signed(difference: Mapping[str, Any]) -> str:
    """A difference with its interval, and a star where 0 lies outside."""
    bounds = [difference[name] for name in ("difference", "low", "high")]
    value, *interval = ["" if bound is None else f"{100 * bound:+.2f}" for bound in bounds]
    between = f" [{', '.join(interval)}]" if all(interval) else ""
    return f"{value}{between}{' *' if difference['significant'] else ''}"
