"""Writes the report of a comparison: its numbers as JSON, tables and pictures."""

import json
import pathlib
import sys
import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.comparison.document import NUMBERS, comparison_markdown
from gradrev_jax.evaluation.comparison.figures import (
    SYSTEM_WIDTH,
    Curve,
    cross_accuracy_heat_maps,
    hit_rate_curves,
)
from gradrev_jax.evaluation.comparison.numbers import nearest_k, pair_metrics
from gradrev_jax.evaluation.comparison.record import ComparisonRecord, SystemRecord
from gradrev_jax.evaluation.comparison.words import (
    describe_band,
    describe_seeds,
    describe_size,
    format_confidence,
    format_difference,
)
from gradrev_jax.evaluation.fonts import missing_note
from gradrev_jax.evaluation.markdown import percent
from gradrev_jax.evaluation.report_folder import replace_folder, write_figure
from gradrev_jax.evaluation.short_text import shorten_all, text_width

REPORT = "comparison.md"
PROSE_WIDTH = 100  # of sentences for a terminal, in characters


def check_replaceable(directory: pathlib.Path) -> None:
    """Checks that a folder is new, empty, or holds an earlier comparison.

    Raises:
      WorkdirError: it holds other files, which would be lost, or is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise WorkdirError(f"--out={directory} is a file; give a folder")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / NUMBERS).is_file():
        raise WorkdirError(
            f"--out={directory} holds other files, which would be lost; give a folder that does not exist yet"
        )


def write_comparison(
    directory: pathlib.Path,
    comparison: ComparisonRecord,
    queries: Sequence[tuple[str, Figure]],
    *,
    no_queries: str,
) -> None:
    """Writes comparison.json, comparison.md and pictures in place of an earlier comparison.

    Args:
      directory: the folder, which is replaced as a whole when the new comparison is complete.
      comparison: the numbers, from ``numbers.compare_systems``.
      queries: the change of each query that is shown, in words, and its picture.
      no_queries: the reason why none is shown.

    Raises:
      WorkdirError: the folder cannot be written to, or holds other files.
    """
    check_replaceable(directory)
    pictures = {f"query_{number}.png": figure for number, (_, figure) in enumerate(queries, start=1)}
    curves = [_curve(system, comparison["ks"]) for system in comparison["systems"]]
    matrices = {system["name"]: system["cross_accuracy"] for system in comparison["systems"]}
    pictures["hit_rate.png"] = hit_rate_curves(comparison["ks"], curves, describe_band(comparison))
    pictures["cross_accuracy.png"] = cross_accuracy_heat_maps(matrices, list(comparison["attributes"]))
    note = missing_note(pictures.values(), again="compare again")
    with replace_folder(directory) as folder:
        (folder / NUMBERS).write_text(json.dumps(comparison, indent=2, allow_nan=False) + "\n")
        changes = [change for change, _ in queries]
        text = comparison_markdown(comparison, changes, no_queries=no_queries, note=note)
        (folder / REPORT).write_text(text, encoding="utf-8")
        for name, figure in pictures.items():
            write_figure(folder / name, figure)
    if note:
        print(f"note: {note}", file=sys.stderr)


def comparison_table(comparison: ComparisonRecord) -> str:
    """Returns the comparison for a terminal: one line per system, in percent, and the differences."""
    ks = comparison["ks"]
    names = [*pair_metrics(ks), f"ndcg_others@{nearest_k(30, ks)}", "accuracy_macro", "accuracy_micro"]
    systems = comparison["systems"]
    short = shorten_all([system["name"] for system in systems], SYSTEM_WIDTH)
    by_name = dict(zip([system["name"] for system in systems], short, strict=True))
    width = max(map(text_width, ("%", *short)))
    lines = [describe_size(comparison), "", f"{'%':{width}}" + "".join(f"  {name:>14}" for name in names)]
    for system, shown in zip(systems, short, strict=True):
        cells = "".join(f"  {percent(system['metrics'][name]['value']):>14}" for name in names)
        lines.append(f"{shown}{' ' * (width - text_width(shown))}{cells}")
    if comparison["differences"]:
        lines += [
            "",
            f"differences, in points, with {format_confidence(comparison)} intervals (* 0 lies outside, "
            "** also after Holm's correction):",
        ]
    for difference in comparison["differences"]:
        first, second = by_name[difference["first"]], by_name[difference["second"]]
        lines.append(f"  {difference['metric']:15} {first} - {second}: {format_difference(difference)}")
    lines += ["", *textwrap.wrap(f"Intervals: {describe_seeds(comparison, by_name)}", PROSE_WIDTH)]
    return "\n".join(lines)


def _curve(system: SystemRecord, ks: Sequence[int]) -> Curve:
    metrics = [system["metrics"][f"hit_rate@{k}"] for k in ks]
    return Curve(
        name=system["name"],
        family=system["prototypes_of"] or system["name"],
        values=[metric["value"] for metric in metrics],
        low=[metric["low"] for metric in metrics],
        high=[metric["high"] for metric in metrics],
        baseline=[metric["no_manipulation"] for metric in metrics],
    )
