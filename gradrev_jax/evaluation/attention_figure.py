"""Draws where a network looks for each attribute as a Matplotlib figure; nothing is written to files here."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.picture_page import (
    CAPTION_WIDTH,
    TITLE_SIZE,
    TITLE_WIDTH,
    Cell,
    blank_page,
    line_height,
    show_picture,
    show_title,
)
from gradrev_jax.evaluation.short_text import shorten, shorten_all, shorten_path

BOX, HEAT = "#00e5ff", "inferno"
MOST_ATTRIBUTES = 24  # columns of a figure that can still be read
SIDE = 1.4  # of a picture, in inches


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
        titles = [line_height(TITLE_SIZE), *[0.0] * (len(examples) - 1)]
        page = blank_page(titles, 1 + shown, side=SIDE)
        for (first, *others), example in zip(page.rows, examples, strict=True):
            show_picture(page.axes, example.image, first, shorten_path(spell(example.name), CAPTION_WIDTH))
            for n, cell in enumerate(others):
                caption = shorten(spell(example.values[n]), CAPTION_WIDTH)
                show_picture(page.axes, example.image, cell, caption)
                show_attention(page.axes, cell, example.maps[n], example.boxes[n])
        for cell, name in zip(page.rows[0][1:], names, strict=True):
            show_title(page.axes, cell, name, size=TITLE_SIZE)
    return page.figure


def show_attention(
    axes: Axes, cell: Cell, grid: Float[np.ndarray, "h w"], box: Int[np.ndarray, " 4"]
) -> None:
    """Shows a map over an image, each of its cells over an equal part of it, and its box.

    Args:
      axes: the axes of the page.
      cell: the cell of the image.
      grid: the map.
      box: the box, in cells of the map.
    """
    most = float(grid.max())
    axes.imshow(
        grid,
        cmap=HEAT,
        alpha=0.5,
        vmin=0,
        vmax=most if most > 0 else 1,
        extent=cell.extent,
        aspect="auto",
        interpolation="bilinear",
    )
    down, right = (cell.side / cells for cells in grid.shape)
    top, left, bottom, end = box.tolist()
    corner = cell.left + left * right, cell.top + top * down
    size = (end - left) * right, (bottom - top) * down
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=BOX, linewidth=1.5))
