"""Pictures of a comparison; each function returns a Matplotlib figure, and nothing is written here."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.figures import (
    OTHER,
    RetrievalExample,
    plain_text,
    show_neighbors,
    show_picture,
    tidy,
)

MAPS_IN_A_ROW = 3


@dataclasses.dataclass(frozen=True)
class Curve:
    """hit_rate of a system by K.

    Attributes:
      name: of the system.
      family: systems of one family have one colour.
      values: hit_rate at each K.
      low: lower bound of each, None where there is none.
      high: upper bound.
      baseline: of the same queries without manipulation.
    """

    name: str
    family: str
    values: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    baseline: Sequence[float]


@plain_text
def hit_rate_curves(ks: Sequence[int], curves: Sequence[Curve]) -> Figure:
    """hit_rate@K of all systems with their intervals, over the same queries without manipulation."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    palette = list(matplotlib.color_sequences["tab10"])
    families = list(dict.fromkeys(curve.family for curve in curves))
    for curve in curves:
        position = families.index(curve.family)
        color = palette[position % len(palette)]
        first = curve.family == curve.name
        axes.plot(
            ks,
            curve.values,
            color=color,
            label=textwrap.shorten(curve.name, 48, placeholder="..."),
            linestyle=("-" if position < len(palette) else "-.") if first else "--",
            marker="o" if first else "s",
            markersize=3,
        )
        if None not in (*curve.low, *curve.high):
            axes.fill_between(
                ks, np.array(curve.low, float), np.array(curve.high, float), color=color, alpha=0.15
            )
        if first:
            axes.plot(ks, curve.baseline, color=color, linestyle=":", linewidth=1)
    tidy(axes, "K (neighbours)", "hit_rate@K")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(bottom=0)
    handles, _ = axes.get_legend_handles_labels()
    handles.append(
        Line2D([], [], color=OTHER, linestyle=":", linewidth=1, label="no manipulation, by colour")
    )
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside right upper")
    return figure


@plain_text
def cross_accuracy_heat_maps(
    matrices: Mapping[str, Sequence[Sequence[float | None]]], attributes: Sequence[str]
) -> Figure:
    """Fig. 5 of all systems, in one colour scale: accuracy of each classifier (column) on each feature (row).

    Args:
      matrices: by system; None stays blank.
      attributes: names of rows and columns.

    Raises:
      ValueError: no system.
    """
    if not matrices:
        raise ValueError("heat maps need at least one system")
    rows = -(-len(matrices) // MAPS_IN_A_ROW)
    columns = -(-len(matrices) // rows)
    side = 1.0 + 0.4 * len(attributes)
    figure = Figure(figsize=(columns * side + 2.2, rows * (side + 0.5) + 0.8))
    figure.set_layout_engine("constrained", h_pad=0.1)  # inches, between a title and the names above it
    grid = figure.subplots(rows, columns, squeeze=False)
    shown: list[Axes] = list(grid.ravel())
    for axes, (name, matrix) in zip(shown, matrices.items(), strict=False):
        accuracy = np.array(matrix, float)
        image = axes.imshow(100 * accuracy, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(accuracy):
            if np.isfinite(value):
                color = "white" if value > 0.6 else "black"
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        axes.set_title(textwrap.fill(name, max(12, int(side * 9))), fontsize=10)
        axes.set_xticks(range(len(attributes)), attributes, rotation=45, ha="right", fontsize=8)
        first = axes in grid[:, 0]
        axes.set_yticks(range(len(attributes)), attributes if first else [""] * len(attributes), fontsize=8)
        axes.tick_params(length=2)
        if first:
            axes.set_ylabel("feature")
        axes.set_xlabel("classifier")
    for axes in shown[len(matrices) :]:
        axes.axis("off")
    figure.colorbar(image, ax=shown, label="accuracy (%)", shrink=0.8, aspect=30)
    return figure


@plain_text
def query_grid(answers: Sequence[tuple[str, RetrievalExample]]) -> Figure:
    """One query in all systems (Fig. 8): a row a system, its neighbours in order, matches framed in green.

    Args:
      answers: each system's name and what it found.

    Raises:
      ValueError: no system.
    """
    if not answers:
        raise ValueError("a query grid needs at least one system")
    columns = 1 + max(len(example.neighbor_images) for _, example in answers)
    figure = Figure(figsize=(1.75 * columns + 1.2, 2.2 * len(answers) + 0.3), layout="constrained")
    grid = figure.subplots(len(answers), columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    query = answers[0][1]
    show_picture(grid[0, 0], query.query_image, query.query_name)
    grid[0, 0].set_title(textwrap.fill(query.change, 22), fontsize=9, fontweight="bold")
    for row, (name, example) in zip(grid, answers, strict=True):
        label = textwrap.fill(name, 16)
        row[0].text(-0.08, 0.5, label, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
        show_neighbors(row[1:], example)
    for rank, axes in enumerate(grid[0, 1:], start=1):
        axes.set_title(f"{rank}", fontsize=9, color="#57606a")
    return figure
