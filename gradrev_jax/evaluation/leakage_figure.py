"""Draws the leakage of a report as a Matplotlib figure; nothing is written to files here."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from gradrev_jax.evaluation.figures import (
    NAME_WIDTH,
    WRITTEN_ATTRIBUTES,
    cell_size,
    color_bar,
    heat_map,
    widest,
)
from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import shorten_all

TITLES = {
    "matrix": "above the majority rate",
    "conditional_matrix": "beyond the own label",
}
LOWEST = -25  # percent; what is less has the same colour


def leakage_heat_map(leakage: Mapping[str, Any]) -> Figure:
    """Draws what fresh probes find of each attribute (column) in what is compared of each (row).

    The left map has the leakage, the right one the conditional leakage. None is grey, what is below 0 orange,
    and all below -25 % alike. More than 30 attributes are shown by colour only.

    Args:
      leakage: the measurements as in ``Leakage.as_json``; of them ``attributes``, ``matrix`` and
        ``conditional_matrix`` are drawn.
    """
    attributes = leakage["attributes"]
    with lettered(attributes) as spell:
        names = shorten_all(attributes, NAME_WIDTH, spell)
        fontsize = 9 if len(names) <= WRITTEN_ATTRIBUTES else 7
        side = max(1.8, cell_size(len(names), largest=0.5) * len(names))
        beside = widest(names, fontsize)
        size = (2 * (side + 0.3) + beside + 1.6, side + 0.75 * beside + 0.9)
        figure = Figure(figsize=size, layout="compressed")
        maps = list(figure.subplots(1, len(TITLES)))
        for axes, (matrix, title) in zip(maps, TITLES.items(), strict=True):
            heat_map(axes, leakage[matrix], names, fontsize=fontsize, lowest=LOWEST)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("attribute")
        maps[0].set_ylabel("read from")
        maps[1].set_yticks(range(len(names)), [""] * len(names))
        color_bar(figure, maps, "leakage (%)", lowest=LOWEST)
    return figure
