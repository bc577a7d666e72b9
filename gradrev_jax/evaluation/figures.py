"""Pictures of the report; each function returns a Matplotlib figure, and nothing is written here."""

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

# Names come from the user's table: a price in "$" is no formula.
plain_text = rc_context({"text.parse_math": False})
OURS, OTHER, MATCH = "#1f6feb", "#8c959f", "#1a9850"


@dataclasses.dataclass(frozen=True)
class RetrievalExample:
    """One query and its nearest neighbours.

    Attributes:
      query_image: uint8 [S, S, 3].
      query_name: what the query image is called.
      change: the manipulation in words, as ``"color: red -> blue"``.
      neighbor_images: uint8 [K, S, S, 3], nearest first.
      neighbor_names: K names.
      neighbor_labels: K lines on what is wrong with each neighbour; empty where nothing is.
      matches: [K], whether all labels are those asked for.
    """

    query_image: UInt8[np.ndarray, "S S 3"]
    query_name: str
    change: str
    neighbor_images: UInt8[np.ndarray, "K S S 3"]
    neighbor_names: tuple[str, ...]
    neighbor_labels: tuple[str, ...]
    matches: Bool[np.ndarray, " K"]


@plain_text
def retrieval_grid(examples: Sequence[RetrievalExample]) -> Figure:
    """A row an example: the query, the change asked for, and its neighbours, matches framed in green.

    Raises:
      ValueError: no example.
    """
    if not examples:
        raise ValueError("a retrieval grid needs at least one example")
    columns = 1 + max(len(example.neighbor_images) for example in examples)
    figure = Figure(figsize=(1.75 * columns, 2.4 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), columns, squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        for axes in row:
            axes.axis("off")
        show_picture(row[0], example.query_image, example.query_name)
        row[0].set_title(textwrap.fill(example.change, 22), fontsize=9, fontweight="bold")
        show_neighbors(row[1:], example)
    for rank, axes in enumerate(grid[0, 1:], start=1):
        axes.set_title(f"{rank}", fontsize=9, color="#57606a")
    return figure


@plain_text
def cross_accuracy_heat_map(matrix: Sequence[Sequence[float | None]], attributes: Sequence[str]) -> Figure:
    """Accuracy of each classifier (column) on each feature (row), Fig. 5; None stays blank."""
    accuracy = np.array(matrix, float)
    side = 1.6 + 0.62 * len(attributes)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * accuracy, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(accuracy):
        if np.isfinite(value):
            color = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(attributes)), attributes, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(attributes)), attributes, parse_math=False)
    axes.set_xlabel("classifier")
    axes.set_ylabel("feature")
    figure.colorbar(image, label="accuracy (%)", shrink=0.8)
    return figure


@plain_text
def hit_rate_curve(hit_rate: Mapping[str, float], baseline: Mapping[str, float]) -> Figure:
    """hit_rate@K beside that of the same queries without manipulation."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    curves = ((hit_rate, "with manipulation", OURS), (baseline, "no manipulation", OTHER))
    for curve, label, color in curves:
        axes.plot(_numbers(curve), list(curve.values()), marker="o", markersize=3, label=label, color=color)
    tidy(axes, "K (neighbours)", "hit_rate@K")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


@plain_text
def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses, reversal weight, learning rate and validation accuracy over the steps of a run.

    Args:
      history: records of metrics.jsonl; a record may have any of the quantities.
    """
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    grid = figure.subplots(2, 2)
    panels = (
        (grid[0, 0], "loss_cls", "L_cls (Eq. 1)", "linear"),
        (grid[0, 1], "loss_rev", "L_rev (Eq. 2)", "log"),
        (grid[1, 0], "w_rev", "w_rev (Eq. 5)", "log"),
    )
    for axes, name, label, scale in panels:
        points = [(record["step"], record[name]) for record in history if name in record]
        if scale == "log" and not any(value > 0 for _, value in points):
            scale = "linear"  # nothing to show on a logarithm: the reversal is off
        axes.plot(*_columns(points), color=OURS, linewidth=1)
        axes.set_yscale(scale)
        tidy(axes, "step", label)
    validation = [record for record in history if "validation_accuracy" in record]
    axes = grid[1, 1]
    names = sorted({name for record in validation for name in record["validation_accuracy"]["per_attribute"]})
    for name in names:
        axes.plot(
            *_columns(
                [
                    (record["step"], record["validation_accuracy"]["per_attribute"][name])
                    for record in validation
                    if name in record["validation_accuracy"]["per_attribute"]
                ]
            ),
            linewidth=1,
            label=name,
        )
    macro = [(record["step"], record["validation_accuracy"]["macro"]) for record in validation]
    axes.plot(*_columns(macro), color="black", linewidth=2, label="macro")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    tidy(axes, "step", "validation accuracy")
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def show_neighbors(row: Iterable[Axes], example: RetrievalExample) -> None:
    """What was found, in a row of axes: matches framed in green, below each what is wrong."""
    neighbors = zip(
        row,
        example.neighbor_images,
        example.neighbor_names,
        example.neighbor_labels,
        example.matches,
        strict=False,
    )
    for axes, image, name, label, match in neighbors:
        show_picture(axes, image, "\n".join(filter(None, [name, textwrap.shorten(label, 40)])))
        _frame(axes, MATCH if match else "#d0d7de", width=4.0 if match else 1.0)


def show_picture(axes: Axes, image: np.ndarray, caption: str) -> None:
    """An image with a small caption below."""
    axes.imshow(image)
    lines = [textwrap.shorten(line, 26, placeholder="...") for line in caption.splitlines()]
    axes.text(0.5, -0.06, "\n".join(lines), transform=axes.transAxes, ha="center", va="top", fontsize=6.5)


def _frame(axes: Axes, color: str, width: float) -> None:
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=width)


def tidy(axes: Axes, x: str, y: str) -> None:
    """Name both axes and leave out what is not needed to read them."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _numbers(curve: Mapping[str, float]) -> list[int]:
    return [int(k) for k in curve]


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Points as a list of x and a list of y."""
    return [x for x, _ in points], [y for _, y in points]
