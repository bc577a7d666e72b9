"""Draws the figures of docs/study.md from the records of studies, and from the log of one run.

python -m benchmarks.study_figures --systems benchmarks/results/systems_frozen_leakage.json ... \
        --log runs/frozen_features/tuned+shared_0/metrics.jsonl --out docs/images
"""

import argparse
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gradrev_jax.runs.metrics_log import read_records

DPI = 110


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes study_leakage.png and study_reversal.png."""
    options = _parser().parse_args(arguments)
    out = pathlib.Path(options.out)
    points = [point for path in options.systems for point in leakage_points(pathlib.Path(path))]
    leakage_figure(points).savefig(out / "study_leakage.png", dpi=DPI)
    if options.log:
        reversal_figure(read_records(pathlib.Path(options.log))).savefig(out / "study_reversal.png", dpi=DPI)


def leakage_points(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the mean numbers of each system and way of a record in which the leakage was measured.

    Args:
      path: the JSON file of ``benchmarks.systems``.
    """
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for way, numbers in run.items():
            if isinstance(numbers, dict) and numbers.get("conditional_leakage") is not None:
                found.setdefault(f"{run['system'].removeprefix('tuned+')}, {way}", []).append(numbers)
    wanted = ("hit_rate@10", "conditional_leakage", "mlp_conditional_leakage")
    return [
        {"name": name, **{key: float(np.mean([each[key] for each in numbers])) for key in wanted}}
        for name, numbers in found.items()
    ]


def leakage_figure(points: Sequence[dict[str, Any]]) -> Figure:
    """Draws the hit rate of systems over their conditional leakage, by linear probes and by MLPs."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    titles = {"conditional_leakage": "linear probes", "mlp_conditional_leakage": "small MLPs"}
    for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for point in points:
            position = 100 * point[key], 100 * point["hit_rate@10"]
            axes.plot(*position, "o", label=point["name"])
        axes.set_xlabel(f"conditional leakage by {title} (%)")
        axes.margins(x=0.1)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("hit_rate@10 (%)")
    # Beside the points and not at them, because some lie as good as on each other.
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def reversal_figure(records: Iterable[dict[str, Any]]) -> Figure:
    """Draws losses, the reversal's weight and features' norms over a training of the printed method."""
    steps = [record for record in records if "w_rev" in record]
    figure = Figure(figsize=(13, 3.5), layout="constrained")
    losses, weight, norms = figure.subplots(1, 3)
    step = [record["step"] for record in steps]
    losses.plot(step, [record["loss_cls"] for record in steps], label="L_cls")
    losses.plot(step, [record["loss_rev"] for record in steps], label="L_rev")
    losses.set_yscale("log")
    losses.set_ylabel("loss (nats)")
    losses.legend()
    weight.plot(step, [record["w_rev"] for record in steps], color="tab:green")
    weight.set_yscale("log")
    weight.set_ylabel("w_rev")
    for name in steps[0]["feature_norms"] if steps else ():
        norms.plot(step, [record["feature_norms"][name] for record in steps], label=name)
    norms.set_ylabel("mean norm of a feature")
    norms.legend(fontsize=8)
    for axes in (losses, weight, norms):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    return figure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Draws the figures of docs/study.md.")
    parser.add_argument("--systems", nargs="+", required=True, help="records of benchmarks.systems")
    parser.add_argument("--log", help="metrics.jsonl of a run of the printed method")
    parser.add_argument("--out", default="docs/images", help="folder of the figures")
    return parser


if __name__ == "__main__":
    main()
