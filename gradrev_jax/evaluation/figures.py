"""Draws the pictures of a report as Matplotlib figures; nothing is written to files here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import shorten_all, text_width

OURS, OTHER = "#1f6feb", "#8c959f"
NAME_WIDTH = 24  # the largest width of a name, in columns of text
# The largest number of attributes whose accuracies are written into the cells of a heat map.
WRITTEN_ATTRIBUTES = 30
LINE_STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))


def cross_accuracy_heat_map(matrix: Sequence[Sequence[float | None]], attributes: Sequence[str]) -> Figure:
    """Draws the accuracy of each classifier (column) on each feature (row), Fig. 5; None stays blank.

    More than 30 attributes are shown by colour only.
    """
    with lettered(attributes) as spell:
        names = shorten_all(attributes, NAME_WIDTH, spell)
        fontsize = 9 if len(names) <= WRITTEN_ATTRIBUTES else 7
        side = max(1.6, cell_size(len(names), largest=0.62) * len(names))
        beside = inches(names, fontsize)
        figure = Figure(figsize=(side + beside + 1.6, side + 0.75 * beside + 0.6), layout="compressed")
        axes = figure.subplots()
        image = heat_map(axes, matrix, names, fontsize=fontsize)
        axes.set_ylabel("feature")
        figure.colorbar(image, label="accuracy (%)", shrink=0.8)
    return figure


def hit_rate_curve(hit_rate: Mapping[str, float], baseline: Mapping[str, float]) -> Figure:
    """Draws hit_rate@K beside that of the same queries without manipulation."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    curves = ((hit_rate, "with manipulation", OURS), (baseline, "no manipulation", OTHER))
    for curve, label, color in curves:
        axes.plot(_cut_offs(curve), list(curve.values()), marker="o", markersize=3, label=label, color=color)
    tidy(axes, "K (neighbours)", "hit_rate@K")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def heat_map(
    axes: Axes, matrix: Sequence[Sequence[float | None]], names: Sequence[str], *, fontsize: int
) -> AxesImage:
    """Draws a matrix of accuracies as coloured cells, with numbers in them if these can be read.

    Args:
      axes: the axes to draw in.
      matrix: the accuracy by feature (row) and classifier (column); None stays blank.
      names: the names of the rows and the columns, already shortened.
      fontsize: the font size of the names, in points.

    Returns:
      The image, for which a colour bar can be made.
    """
    accuracy = np.array(matrix, float)
    image = axes.imshow(100 * accuracy, cmap="Blues", vmin=0, vmax=100)
    if len(names) <= WRITTEN_ATTRIBUTES:
        for (row, column), value in np.ndenumerate(accuracy):
            if np.isfinite(value):
                color = "white" if value > 0.6 else "black"
                cell = axes.text(column, row, f"{round(100 * value)}", ha="center", va="center", fontsize=7)
                cell.set(color=color, in_layout=False)  # measuring thousands of them takes long
    rotation = 45 if len(names) <= WRITTEN_ATTRIBUTES else 90
    right = "right" if rotation == 45 else "center"
    axes.set_xticks(range(len(names)), names, rotation=rotation, ha=right, fontsize=fontsize)
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.tick_params(length=2)
    axes.set_xlabel("classifier")
    return image


def cell_size(attributes: int, *, largest: float) -> float:
    """Returns the side of a heat map's cell in inches: room for a number or, without numbers, for a name."""
    if attributes > WRITTEN_ATTRIBUTES:
        return 0.14
    return min(largest, max(0.28, 12 * largest / attributes))


def inches(texts: Iterable[str], fontsize: int) -> float:
    """Returns the approximate width of the widest line, in inches."""
    return max(map(text_width, texts), default=0) * 0.62 * fontsize / 72


def legend_height(entries: int, *, fontsize: int) -> float:
    """Returns the approximate height of a legend of one column, in inches."""
    return entries * 1.7 * fontsize / 72


def line_look(position: int) -> tuple[Any, Any]:
    """Returns the colour and the style of a line; the first 100 differ, the first 10 by colour."""
    palette = matplotlib.color_sequences["tab10"]
    others = position // len(palette)
    shade = 0.55 if others // len(LINE_STYLES) % 2 else 1.0
    color = tuple(shade * part for part in to_rgb(palette[position % len(palette)]))
    return color, LINE_STYLES[others % len(LINE_STYLES)]


def tidy(axes: Axes, x: str, y: str) -> None:
    """Names both axes, adds a faint grid, and hides the frame at the top and the right."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _cut_offs(curve: Mapping[str, float]) -> list[int]:
    return [int(k) for k in curve]
