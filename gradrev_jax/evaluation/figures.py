"""Draws the pictures of a report as Matplotlib figures; nothing is written to files here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import shorten_all, text_width

OURS, OTHER = "#1f6feb", "#8c959f"
NAME_WIDTH = 24  # the largest width of a name, in columns of text
# The largest number of attributes whose accuracies are written into the cells of a heat map.
WRITTEN_ATTRIBUTES = 30
GREY = "#a8a8a8"
# The average width of a character, and the height of a line of a legend, relative to the font size.
CHARACTER_WIDTH, LEGEND_LINE = 0.62, 1.7
POINTS = 72  # per inch
LINE_STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))


def cross_accuracy_heat_map(matrix: Sequence[Sequence[float | None]], attributes: Sequence[str]) -> Figure:
    """Draws the accuracy of each classifier (column) on each feature (row), Fig. 5; None is grey.

    More than 30 attributes are shown by colour only.
    """
    with lettered(attributes) as spell:
        names = shorten_all(attributes, NAME_WIDTH, spell)
        fontsize = 9 if len(names) <= WRITTEN_ATTRIBUTES else 7
        side = max(1.6, cell_size(len(names), largest=0.62) * len(names))
        beside = widest(names, fontsize)
        figure = Figure(figsize=(side + beside + 1.6, side + 0.75 * beside + 0.6), layout="compressed")
        axes = figure.subplots()
        heat_map(axes, matrix, names, fontsize=fontsize)
        axes.set_ylabel("feature")
        color_bar(figure, [axes], "accuracy (%)")
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
    axes: Axes,
    matrix: Sequence[Sequence[float | None]],
    names: Sequence[str],
    *,
    fontsize: int,
    lowest: int = 0,
) -> None:
    """Draws a matrix of accuracies as coloured cells, with numbers in them if these can be read.

    Args:
      axes: the axes to draw in.
      matrix: the accuracy by feature (row) and classifier (column); None is grey, without a number.
      names: the names of the rows and the columns, already shortened.
      fontsize: the font size of the names, in points.
      lowest: the percentage below which all colours are alike; what is below 0 is orange.
    """
    accuracy = np.array(matrix, float)
    axes.imshow(100 * accuracy, cmap=_colors(lowest), vmin=lowest, vmax=100)
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


def color_bar(figure: Figure, maps: Sequence[Axes], label: str, *, aspect: int = 20, lowest: int = 0) -> None:
    """Draws the colour bar of heat maps that share their colours; it explains grey where there is any.

    Args:
      figure: the figure.
      maps: the axes of the heat maps; some may be empty.
      label: the text beside the bar.
      aspect: the length of the bar over its width.
      lowest: the percentage below which all colours are alike, as in ``heat_map``.
    """
    images = [image for axes in maps for image in axes.images]
    if any(np.ma.is_masked(image.get_array()) for image in images):
        label += "\ngrey: not measured"
    extend = "min" if lowest < 0 else "neither"
    figure.colorbar(images[0], ax=maps, label=label, shrink=0.8, aspect=aspect, extend=extend)


def _colors(lowest: int) -> Colormap:
    """Returns the colours of the percentages from the lowest to 100, four for each."""
    blue = matplotlib.colormaps["Blues"](np.linspace(0, 1, 4 * 100))
    orange = matplotlib.colormaps["Oranges"](np.linspace(0.7, 0.08, -4 * lowest))
    return ListedColormap(np.concatenate([orange, blue])).with_extremes(bad=GREY)


def cell_size(attributes: int, *, largest: float) -> float:
    """Returns the side of a heat map's cell in inches: room for a number or, without numbers, for a name."""
    if attributes > WRITTEN_ATTRIBUTES:
        return 0.14
    return min(largest, max(0.28, 12 * largest / attributes))


def widest(texts: Iterable[str], fontsize: int) -> float:
    """Returns the approximate width of the widest of some lines, in inches."""
    return max(map(text_width, texts), default=0) * CHARACTER_WIDTH * fontsize / POINTS


def legend_height(entries: int, *, fontsize: int) -> float:
    """Returns the approximate height of a legend of one column, in inches."""
    return entries * LEGEND_LINE * fontsize / POINTS


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
