"""Draws the pictures of a comparison as Matplotlib figures; nothing is written to files here."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.figures import (
    NAME_WIDTH,
    OTHER,
    WRITTEN_ATTRIBUTES,
    cell_size,
    color_bar,
    heat_map,
    legend_height,
    tidy,
    widest,
)
from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.picture_page import blank_page
from gradrev_jax.evaluation.retrieval_figure import (
    SIDE,
    RetrievalExample,
    change_title,
    show_neighbors,
    show_query,
    show_ranks,
    title_height,
)
from gradrev_jax.evaluation.short_text import left_to_right, shorten_all, wrap

MAPS_IN_A_ROW = 3
SYSTEM_WIDTH = 48  # the largest width of a system's name in a legend, in columns of text
NAMES = 1.3  # the room for names of systems beside their rows, in inches
FAMILY_STYLES = ("-", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Represents the hit rate of a system by K.

    Attributes:
      name: the name of the system.
      family: the name of its family; systems of one family have the same colour.
      values: the hit rate at each K.
      low: the lower bound of each, None if there is none.
      high: the upper bound of each.
      baseline: the hit rate of the same queries without manipulation.
    """

    name: str
    family: str
    values: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    baseline: Sequence[float]


def hit_rate_curves(ks: Sequence[int], curves: Sequence[Curve], band: str) -> Figure:
    """Draws hit_rate@K of all systems with their intervals, and of the queries without manipulation.

    Args:
      ks: the cut-offs.
      curves: the systems.
      band: what the intervals hold, in words, for the legend.
    """
    with lettered(curve.name for curve in curves) as spell:
        names = shorten_all((curve.name for curve in curves), SYSTEM_WIDTH, spell)
        baselines = "no manipulation, by colour"
        bands = wrap(band, SYSTEM_WIDTH, 3)
        beside = widest([*names, baselines, *bands.splitlines()], 8) + 0.6
        height = max(4.6, legend_height(len(curves) + 4, fontsize=8) + 0.2)
        figure = Figure(figsize=(5.4 + beside, height), layout="constrained")
        axes = figure.subplots()
        palette = list(matplotlib.color_sequences["tab10"])
        families = list(dict.fromkeys(curve.family for curve in curves))
        handles: list[Artist] = []
        for curve, name in zip(curves, names, strict=True):
            position = families.index(curve.family)
            color = palette[position % len(palette)]
            first = curve.family == curve.name
            style = FAMILY_STYLES[position // len(palette) % len(FAMILY_STYLES)] if first else "--"
            marker = "o" if first else "s"
            handles += axes.plot(
                ks, curve.values, color=color, label=name, linestyle=style, marker=marker, markersize=3
            )
            if None not in (*curve.low, *curve.high):
                axes.fill_between(
                    ks, np.array(curve.low, float), np.array(curve.high, float), color=color, alpha=0.15
                )
            if first:
                axes.plot(ks, curve.baseline, color=color, linestyle=":", linewidth=1)
        tidy(axes, "K (neighbours)", "hit_rate@K")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        # Of two seeds an interval reaches far beyond what a rate can be.
        axes.set_ylim(bottom=0, top=min(axes.get_ylim()[1], 1.02))
        handles.append(Line2D([], [], color=OTHER, linestyle=":", linewidth=1))
        # Labels are not taken from the lines, of which Matplotlib skips those named "_...".
        labels = [*map(left_to_right, names), baselines]
        if axes.collections:
            handles.append(Patch(color=OTHER, alpha=0.15))
            labels.append(bands)
        figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
    return figure


def cross_accuracy_heat_maps(
    matrices: Mapping[str, Sequence[Sequence[float | None]]], attributes: Sequence[str]
) -> Figure:
    """Draws the accuracy of each classifier (column) on each feature (row), Fig. 5, one map per system.

    Args:
      matrices: the accuracies of each system; None is grey.
      attributes: the names of the rows and the columns.

    Raises:
      ValueError: there is no system.
    """
    if not matrices:
        raise ValueError("heat maps need at least one system")
    rows = -(-len(matrices) // MAPS_IN_A_ROW)
    columns = -(-len(matrices) // rows)
    with lettered([*matrices, *attributes]) as spell:
        names = shorten_all(attributes, NAME_WIDTH, spell)
        fontsize = 8 if len(names) <= WRITTEN_ATTRIBUTES else 7
        side = max(1.4, cell_size(len(names), largest=0.4) * len(names))
        beside = widest(names, fontsize)
        width = columns * (side + 0.3) + beside + 1.6
        figure = Figure(figsize=(width, rows * (side + 0.75 * beside + 0.9) + 0.3))
        figure.set_layout_engine("compressed", h_pad=0.1)  # inches, between a title and the names above it
        grid = figure.subplots(rows, columns, squeeze=False)
        shown: list[Axes] = list(grid.ravel())
        columns_of_title = max(12, int(side * 10))
        titles = shorten_all(matrices, 2 * columns_of_title, spell)
        for axes, title, matrix in zip(shown, titles, matrices.values(), strict=False):
            heat_map(axes, matrix, names, fontsize=fontsize)
            axes.set_title(left_to_right(wrap(title, columns_of_title, 3)), fontsize=10)
            if axes in grid[:, 0]:
                axes.set_ylabel("feature")
            else:
                axes.set_yticks(range(len(names)), [""] * len(names))
        for axes in shown[len(matrices) :]:
            axes.axis("off")
        color_bar(figure, shown, "accuracy (%)", aspect=30)
    return figure


def query_grid(answers: Sequence[tuple[str, RetrievalExample]]) -> Figure:
    """Draws one query in all systems (Fig. 8): one row per system, neighbours in order, matches in green.

    Args:
      answers: the name of each system and its answer.

    Raises:
      ValueError: there is no system.
    """
    if not answers:
        raise ValueError("a query grid needs at least one system")
    columns = 1 + max(len(example.neighbor_images) for _, example in answers)
    with lettered(text for name, example in answers for text in (name, *example.texts)) as spell:
        query = answers[0][1]  # the same of all
        title = change_title(query, spell)
        titles = [title_height(title), *[0.0] * (len(answers) - 1)]
        page = blank_page(titles, columns, side=SIDE, before=NAMES)
        show_query(page.axes, page.rows[0][0], query, title, spell)
        names = shorten_all((name for name, _ in answers), SYSTEM_WIDTH, spell)
        for cells, name, (_, example) in zip(page.rows, names, answers, strict=True):
            label = left_to_right(wrap(name, 16, 5))
            middle = cells[0].top + SIDE / 2
            page.axes.text(NAMES - 0.05, middle, label, ha="right", va="center", fontsize=9)
            show_neighbors(page.axes, cells[1:], example, spell)
        show_ranks(page.axes, page.rows[0][1:])
    return page.figure
