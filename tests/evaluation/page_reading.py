from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text


class Shown(NamedTuple):
    """Represents what a page shows in one of its cells and around it."""

    images: list[np.ndarray]
    extent: tuple[float, ...]
    title: str
    caption: str
    boxes: list


def read_page(figure: Figure) -> list[list[Shown]]:
    """The pictures of a page, as they lie: rows from the top, each from the left."""
    (axes,) = figure.axes
    by_place: dict[tuple[float, ...], list] = {}
    for image in axes.images:
        by_place.setdefault(tuple(image.get_extent()), []).append(image.get_array())
    rows: dict[float, list[Shown]] = {}
    for extent in sorted(by_place, key=lambda extent: (extent[3], extent[0])):
        left, right, bottom, top = extent
        inside = [
            patch
            for patch in axes.patches
            if left - 1e-6 <= patch.get_x()
            and patch.get_x() + patch.get_width() <= right + 1e-6
            and top - 1e-6 <= patch.get_y() <= bottom
        ]
        near = [text for text in axes.texts if abs(text.get_position()[0] - (left + right) / 2) < 1e-6]
        title = [text for text in near if 0 <= top - text.get_position()[1] < 0.2]
        caption = [text for text in near if 0 <= text.get_position()[1] - bottom < 0.2]
        assert len(title) <= 1, title
        shown = Shown(by_place[extent], extent, _text(title), _text(caption), inside)
        rows.setdefault(round(top, 6), []).append(shown)
    return list(rows.values())


def _text(texts: list[Text]) -> str:
    return "\n---\n".join(text.get_text() for text in texts)
