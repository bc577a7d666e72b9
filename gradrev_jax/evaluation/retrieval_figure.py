"""Draws queries, and what was found for each, as a Matplotlib figure; nothing is written to files here."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.picture_page import (
    CAPTION_WIDTH,
    TITLE_SIZE,
    TITLE_WIDTH,
    Cell,
    blank_page,
    draw_frame,
    line_height,
    show_picture,
    show_title,
)
from gradrev_jax.evaluation.short_text import left_to_right, shorten_path, wrap

MATCH, NO_MATCH = "#1a9850", "#d0d7de"
SIDE = 1.65  # of a picture, in inches


@dataclasses.dataclass(frozen=True)
class RetrievalExample:
    """Represents one query and its nearest neighbours, for a picture.

    Attributes:
      query_image: the query image, uint8 [S, S, 3].
      query_name: the name of the query image.
      change: the manipulation in words, as ``"color: red -> blue"``.
      neighbor_images: the neighbours, nearest first, uint8 [K, S, S, 3].
      neighbor_names: the names of the neighbours.
      neighbor_labels: the wrong labels of each neighbour in words; empty if there is none.
      matches: whether all labels of each neighbour are those asked for, [K].
    """

    query_image: UInt8[np.ndarray, "S S 3"]
    query_name: str
    change: str
    neighbor_images: UInt8[np.ndarray, "K S S 3"]
    neighbor_names: tuple[str, ...]
    neighbor_labels: tuple[str, ...]
    matches: Bool[np.ndarray, " K"]

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that are written around the images."""
        return (self.query_name, self.change, *self.neighbor_names, *self.neighbor_labels)


def retrieval_grid(examples: Sequence[RetrievalExample]) -> Figure:
    """Draws one row per query: its image, the change asked for, and its neighbours, matches framed in green.

    Raises:
      ValueError: there is no example.
    """
    if not examples:
        raise ValueError("a retrieval grid needs at least one example")
    columns = 1 + max(len(example.neighbor_images) for example in examples)
    with lettered(text for example in examples for text in example.texts) as spell:
        titles = [change_title(example, spell) for example in examples]
        page = blank_page(list(map(title_height, titles)), columns, side=SIDE)
        for cells, example, title in zip(page.rows, examples, titles, strict=True):
            show_query(page.axes, cells[0], example, title, spell)
            show_neighbors(page.axes, cells[1:], example, spell)
        show_ranks(page.axes, page.rows[0][1:])
    return page.figure


def show_query(
    axes: Axes, cell: Cell, example: RetrievalExample, title: str, spell: Callable[[str], str]
) -> None:
    """Shows the query image below its title."""
    show_picture(axes, example.query_image, cell, shorten_path(spell(example.query_name), CAPTION_WIDTH))
    show_title(axes, cell, title, size=TITLE_SIZE)


def change_title(example: RetrievalExample, spell: Callable[[str], str]) -> str:
    """Returns the lines above a query image: the change that is asked for."""
    return left_to_right(wrap(spell(example.change), TITLE_WIDTH, 6))


def title_height(title: str) -> float:
    """Returns the height of the lines above a query image, in inches."""
    return len(title.splitlines()) * line_height(TITLE_SIZE)


def show_ranks(axes: Axes, cells: Iterable[Cell]) -> None:
    """Numbers the columns of neighbours."""
    for rank, cell in enumerate(cells, start=1):
        show_title(axes, cell, f"{rank}", size=9.0, weight="normal", color="#57606a")


def show_neighbors(
    axes: Axes, cells: Iterable[Cell], example: RetrievalExample, spell: Callable[[str], str]
) -> None:
    """Shows the neighbours in a row of cells: matches framed in green, wrong labels below each."""
    neighbors = zip(
        cells,
        example.neighbor_images,
        example.neighbor_names,
        example.neighbor_labels,
        example.matches,
        strict=False,
    )
    for cell, image, name, label, match in neighbors:
        wrong = left_to_right(wrap(spell(label), CAPTION_WIDTH, 2)) if label else ""
        caption = "\n".join(filter(None, [shorten_path(spell(name), CAPTION_WIDTH), wrong]))
        show_picture(axes, image, cell, caption)
        draw_frame(axes, cell, MATCH if match else NO_MATCH, width=4.0 if match else 1.0)
