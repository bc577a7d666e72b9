"""Draws where a network looks for each attribute as a Matplotlib figure; nothing is written to files here."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradrev_jax.evaluation.figures import CAPTION_WIDTH, TITLE_WIDTH, show_picture
from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import shorten, shorten_all, shorten_path

BOX, HEAT = "#00e5ff", "inferno"
MOST_ATTRIBUTES = 24  # columns of a figure that can still be read


@dataclasses.dataclass(frozen=True)
class AttentionExample:
    """Represents where a network looks for each attribute of one image, for a picture.

    Attributes:
      image: the image, uint8 [S, S, 3].
      name: the name of the image.
      values: the value of each attribute that the map is that of.
      maps: the activation map of each attribute, [N, h, w].
      boxes: the box of each map, in its cells: first row, first column, and those after the last, [N, 4].
    """

    image: UInt8[np.ndarray, "S S 3"]
    name: str
    values: tuple[str, ...]
    maps: Float[np.ndarray, "N h w"]
    boxes: Int[np.ndarray, "N 4"]


def attention_grid(examples: Sequence[AttentionExample], attributes: Sequence[str]) -> Figure:
    """Draws one row per image: the image, and for each attribute its activation map and box over the image.

    A map is bright where its attribute's value is seen, from 0 to the map's own maximum. Of more than 24
    attributes, the first 24 are drawn.

    Args:
      examples: the images.
      attributes: the names of the attributes.

    Raises:
      ValueError: there is no example.
    """
    if not examples:
        raise ValueError("an attention grid needs at least one example")
    shown = min(len(attributes), MOST_ATTRIBUTES)
    texts = [text for example in examples for text in (example.name, *example.values)]
    with lettered([*attributes, *texts]) as spell:
        names = shorten_all(attributes, TITLE_WIDTH, spell)[:shown]
        size = 1.5 * (1 + shown), 1.75 * len(examples) + 0.3
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(examples), 1 + shown, squeeze=False)
        for row, example in zip(grid, examples, strict=True):
            for axes in row:
                axes.axis("off")
            show_picture(row[0], example.image, shorten_path(spell(example.name), CAPTION_WIDTH))
            for n, axes in enumerate(row[1:]):
                show_picture(axes, example.image, shorten(spell(example.values[n]), CAPTION_WIDTH))
                show_attention(axes, example.maps[n], example.boxes[n], side=len(example.image))
        for axes, name in zip(grid[0, 1:], names, strict=True):
            axes.set_title(name, fontsize=8, fontweight="bold")
    return figure


def show_attention(
    axes: Axes, grid: Float[np.ndarray, "h w"], box: Int[np.ndarray, " 4"], *, side: int
) -> None:
    """Shows a map over an image, each of its cells over an equal part of it, and its box.

    Args:
      axes: the axes that show the image.
      grid: the map.
      box: the box, in cells of the map.
      side: the height and width of the image, in pixels.
    """
    most = float(grid.max())
    limits = (-0.5, side - 0.5)
    axes.imshow(
        grid,
        cmap=HEAT,
        alpha=0.5,
        vmin=0,
        vmax=most if most > 0 else 1,
        extent=(*limits, *limits[::-1]),
        interpolation="bilinear",
    )
    down, right = (side / cells for cells in grid.shape)
    top, left, bottom, end = box.tolist()
    corner = left * right - 0.5, top * down - 0.5
    axes.add_patch(
        Rectangle(
            corner, (end - left) * right, (bottom - top) * down, fill=False, edgecolor=BOX, linewidth=1.5
        )
    )
    axes.set(xlim=limits, ylim=limits[::-1])
