"""Draws the pictures of a report as Matplotlib figures; nothing is written to files here."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from gradrev_jax.evaluation.fonts import lettered
from gradrev_jax.evaluation.short_text import left_to_right, shorten_all, shorten_path, text_width, wrap

OURS, OTHER, MATCH = "#1f6feb", "#8c959f", "#1a9850"
CAPTION_WIDTH, TITLE_WIDTH, NAME_WIDTH = 26, 20, 24  # widths in columns of text
# The largest number of attributes whose accuracies are written into the cells of a heat map.
WRITTEN_ATTRIBUTES = 30
LINE_STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))


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
        height = sum(row_height(change_title(example, spell)) for example in examples)
        figure = Figure(figsize=(1.75 * columns, height), layout="constrained")
        grid = figure.subplots(len(examples), columns, squeeze=False)
        for row, example in zip(grid, examples, strict=True):
            for axes in row:
                axes.axis("off")
            show_query(row[0], example, spell)
            show_neighbors(row[1:], example, spell)
        show_ranks(grid[0, 1:])
    return figure


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
                cell = axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7)
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


def show_query(axes: Axes, example: RetrievalExample, spell: Callable[[str], str]) -> None:
    """Shows the query image below the change that is asked for."""
    show_picture(axes, example.query_image, shorten_path(spell(example.query_name), CAPTION_WIDTH))
    axes.set_title(change_title(example, spell), fontsize=8, fontweight="bold")


def change_title(example: RetrievalExample, spell: Callable[[str], str]) -> str:
    """Returns the lines above a query image: the change that is asked for."""
    return left_to_right(wrap(spell(example.change), TITLE_WIDTH, 6))


def row_height(title: str) -> float:
    """Returns the height of a row of images with its title and captions, in inches."""
    return 2.3 + 0.15 * len(title.splitlines())


def show_ranks(row: Iterable[Axes]) -> None:
    """Numbers the columns of neighbours."""
    for rank, axes in enumerate(row, start=1):
        axes.set_title(f"{rank}", fontsize=9, color="#57606a")


def show_neighbors(row: Iterable[Axes], example: RetrievalExample, spell: Callable[[str], str]) -> None:
    """Shows the neighbours in a row of axes: matches framed in green, wrong labels below each."""
    neighbors = zip(
        row,
        example.neighbor_images,
        example.neighbor_names,
        example.neighbor_labels,
        example.matches,
        strict=False,
    )
    for axes, image, name, label, match in neighbors:
        wrong = left_to_right(wrap(spell(label), CAPTION_WIDTH, 2)) if label else ""
        show_picture(axes, image, "\n".join(filter(None, [shorten_path(spell(name), CAPTION_WIDTH), wrong])))
        _frame(axes, MATCH if match else "#d0d7de", width=4.0 if match else 1.0)


def show_picture(axes: Axes, image: np.ndarray, caption: str) -> None:
    """Shows an image with a small caption below it."""
    axes.imshow(image)
    axes.text(0.5, -0.06, caption, transform=axes.transAxes, ha="center", va="top", fontsize=6.5)


def _frame(axes: Axes, color: str, width: float) -> None:
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=width)


def tidy(axes: Axes, x: str, y: str) -> None:
    """Names both axes, adds a faint grid, and hides the frame at the top and the right."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _cut_offs(curve: Mapping[str, float]) -> list[int]:
    return [int(k) for k in curve]
