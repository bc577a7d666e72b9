"""Draws the training of a run as a Matplotlib figure; nothing is written to files here."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.figures import (
    NAME_WIDTH,
    OTHER,
    OURS,
    legend_height,
    line_look,
    tidy,
    widest,
)
from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import shorten_all

LOSS_COLUMNS, LOSS_HEIGHT = 3, 2.7  # panels in a row, and their height in inches
# The quantities of the paper: name in the log, label, and scale.
PAPER_PANELS = (
    ("loss_cls", "L_cls (Eq. 1)", "linear"),
    ("loss_rev", "L_rev (Eq. 2)", "log"),
    ("w_rev", "w_rev (Eq. 5)", "log"),
)


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the losses, the reversal weight and the validation accuracy over the steps of a run.

    The steps of a second stage follow those of the first, behind a dotted line.

    Args:
      history: the records of metrics.jsonl; each may have any of these quantities, and other terms of a loss,
        ``loss_...``. What no record has is not drawn.
    """
    history, ends = _one_after_another(history)
    validation = [record for record in history if "validation_accuracy" in record]
    by_step = [(record["step"], record["validation_accuracy"]) for record in validation]
    panels = _loss_panels(history)
    losses_height = LOSS_HEIGHT * -(-len(panels) // LOSS_COLUMNS)
    attributes = list(dict.fromkeys(name for _, accuracy in by_step for name in accuracy["per_attribute"]))
    with lettered(attributes) as spell:
        names = shorten_all(attributes, NAME_WIDTH, spell)
        height = min(max(2.7, legend_height(len(names) + 1, fontsize=7) / 2), 6)
        columns = -(-legend_height(len(names) + 1, fontsize=7) // height)
        width = columns * (widest(["macro", *names], 7) + 0.5)
        figure = Figure(figsize=(9 + width, losses_height + height), layout="constrained")
        (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(losses_height, height))
        with rc_context({"text.parse_math": True}):  # the powers of ten beside a logarithm are formulas
            _show_losses(top, panels, history, ends)
        axes = bottom.subplots()
        for position, (attribute, name) in enumerate(zip(attributes, names, strict=True)):
            points = [
                (step, accuracy["per_attribute"][attribute])
                for step, accuracy in by_step
                if attribute in accuracy["per_attribute"]
            ]
            color, style = line_look(position)
            _plot(axes, points, linewidth=1, label=name, color=color, linestyle=style)
        macro = [(step, accuracy["macro"]) for step, accuracy in by_step]
        _plot(axes, macro, color="black", linewidth=2, label="macro")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        tidy(axes, "step", "validation accuracy")
        drawn = list(axes.lines)
        _mark_stages(axes, ends)
        axes.legend(
            drawn,
            [*names, "macro"],  # not taken from the lines, of which Matplotlib skips those named "_..."
            frameon=False,
            fontsize=7,
            ncols=int(columns),
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            labelspacing=0.4,
            columnspacing=1,
        )
    return figure


def _one_after_another(
    history: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[int]]:
    """Returns the records with steps that go on from stage to stage, and where stages but the last end."""
    last: dict[str | None, int] = {}
    for record in history:
        stage = record.get("stage")
        last[stage] = max(last.get(stage, 0), record["step"])
    ends = list(itertools.accumulate(last.values()))
    begins = dict(zip(last, [0, *ends], strict=False))
    moved = [{**record, "step": record["step"] + begins[record.get("stage")]} for record in history]
    return moved, ends[:-1]


def _loss_panels(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Returns the name, the label and the scale of each quantity that is drawn."""
    logged = dict.fromkeys(name for record in history for name in record)
    known = [panel for panel in PAPER_PANELS if panel[0] in logged] or PAPER_PANELS
    terms = [name for name in logged if name.startswith("loss_") and name not in ("loss_cls", "loss_rev")]
    return [*known, *((name, name.removeprefix("loss_").replace("_", " "), "linear") for name in terms)]


def _show_losses(
    figure: SubFigure,
    panels: Sequence[tuple[str, str, str]],
    history: Sequence[Mapping[str, Any]],
    ends: Sequence[int],
) -> None:
    rows = -(-len(panels) // LOSS_COLUMNS)
    for position, (name, label, scale) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, LOSS_COLUMNS, position)
        points = [(record["step"], record[name]) for record in history if name in record]
        if scale == "log" and not any(value > 0 for _, value in points):
            scale = "linear"  # nothing to show on a logarithm: the reversal is off
        _plot(axes, points, color=OURS, linewidth=1)
        axes.set_yscale(scale)
        tidy(axes, "step", label)
        _mark_stages(axes, ends)


def _mark_stages(axes: Axes, ends: Iterable[int]) -> None:
    """Draws a dotted line where a stage ends and the next one begins."""
    for end in ends:
        axes.axvline(end, color=OTHER, linewidth=1, linestyle=":")


def _plot(axes: Axes, points: Sequence[tuple[int, float]], **look: Any) -> None:
    """Draws a line through points, or a dot where there is one alone."""
    marker = "o" if len(points) == 1 else ""
    axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, **look)
