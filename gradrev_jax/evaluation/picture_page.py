"""Places square pictures, and texts around them, on a page: a Matplotlib figure with one pair of axes.

Places are in inches from the page's left and top edges. A pair of axes for each picture, laid out by
Matplotlib, takes several times as long to draw.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

GAP = 0.1  # between pictures side by side, and between a picture and a text, in inches
CAPTION_SIZE, CAPTION_LINES = 6.5, 3  # points; a longer caption would reach into the next row
TITLE_SIZE = 8.0  # points
CAPTION_WIDTH, TITLE_WIDTH = 26, 20  # the largest widths of their lines, in columns of text


class Cell(NamedTuple):
    """Represents the place of a picture on a page.

    Attributes:
      left: the distance of its left edge from the page's, in inches.
      top: the distance of its top edge from the page's, in inches.
      side: its height and width, in inches.
    """

    left: float
    top: float
    side: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Its edges, as Matplotlib's ``imshow`` takes them: left, right, bottom, top."""
        return self.left, self.left + self.side, self.top + self.side, self.top

    @property
    def center(self) -> float:
        """The distance of its vertical axis from the page's left edge."""
        return self.left + self.side / 2


class Page(NamedTuple):
    """Represents a page with rows of cells.

    Attributes:
      figure: the figure.
      axes: its only axes, whose units are inches.
      rows: the cells of each row, from the left.
    """

    figure: Figure
    axes: Axes
    rows: list[list[Cell]]


def blank_page(titles: Sequence[float], columns: int, *, side: float, before: float = 0.0) -> Page:
    """Creates a page with rows of cells, and room for their captions.

    Args:
      titles: the height of the titles above each row, in inches.
      columns: the number of cells in a row.
      side: the height and width of a cell, in inches.
      before: the room before the first column, in inches.

    Example:
      >>> page = blank_page([0.5, 0.0], 3, side=1.0)
      >>> [[round(cell.left, 2) for cell in row] for row in page.rows]
      [[0.05, 1.15, 2.25], [0.05, 1.15, 2.25]]
      >>> f"{page.figure.get_figwidth():.1f} inches wide"
      '3.3 inches wide'
    """
    below = GAP + CAPTION_LINES * line_height(CAPTION_SIZE) + GAP
    ends = np.cumsum([GAP + title + side + below for title in titles])
    lefts = [before + GAP / 2 + column * (side + GAP) for column in range(columns)]
    width, height = before + columns * (side + GAP), float(ends[-1])
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(height, 0))  # what is drawn later leaves these as they are
    rows = [[Cell(left, float(end) - below - side, side) for left in lefts] for end in ends]
    return Page(figure, axes, rows)


def line_height(size: float) -> float:
    """Returns the height of a line of text in inches, of its font size in points."""
    return 1.25 * size / 72


def show_picture(axes: Axes, image: np.ndarray, cell: Cell, caption: str) -> None:
    """Shows an image with a small caption of up to three lines below it."""
    axes.imshow(image, extent=cell.extent, aspect="auto")
    below = cell.top + cell.side + GAP
    axes.text(cell.center, below, caption, ha="center", va="top", fontsize=CAPTION_SIZE)


def show_title(
    axes: Axes, cell: Cell, title: str, *, size: float, weight: str = "bold", color: str = "black"
) -> None:
    """Writes a title of one line or more above a cell.

    Args:
      axes: the axes of the page.
      cell: the cell.
      title: the title.
      size: the font size, in points.
      weight: the weight of the letters, as Matplotlib names it.
      color: their colour.
    """
    above = cell.top - GAP / 2
    axes.text(
        cell.center, above, title, ha="center", va="bottom", fontsize=size, fontweight=weight, color=color
    )


def draw_frame(axes: Axes, cell: Cell, color: str, width: float) -> None:
    """Draws a frame around a cell; its width is in points."""
    corner = cell.left, cell.top
    axes.add_patch(Rectangle(corner, cell.side, cell.side, fill=False, edgecolor=color, linewidth=width))
