"""Shows results: a table for a terminal, a picture, and JSON."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.files import decode_image
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.retrieval_figure import RetrievalExample, retrieval_grid
from gradrev_jax.evaluation.short_text import shorten_path, visible
from gradrev_jax.serving.changes import Change, last_changes
from gradrev_jax.serving.found import Found, name_labels
from gradrev_jax.serving.items import Edited
from gradrev_jax.serving.retriever import Retriever

NAME_WIDTH = 40  # columns
MOST_SHOWN = 10  # results in a picture
PICTURE = 224  # pixels
LIGHT_GREY = 235  # of a picture that cannot be read


def describe_edited(edited: Edited) -> str:
    """Returns the changes of an item as text: ``"color: blue -> red, - logo: yes, not pattern: striped"``.

    Args:
      edited: the item with its changes.
    """
    schema = edited.item.shop.schema
    known = np.where(edited.item.labels == NOT_LABELLED, edited.item.predicted, edited.item.labels)
    before = name_labels(known, schema)
    words = [
        _describe_change(change, before[change.attribute]) for change in last_changes(edited.asked).values()
    ]
    return visible(", ".join(words)) if words else "as it is"


def _describe_change(change: Change, before: str | None) -> str:
    if change.unwanted:
        return f"not {change.attribute}: {' or '.join(change.unwanted)}"
    if change.to is None:
        return f"- {change.attribute}: {before}"
    return f"{change.attribute}: {before} -> {change.to}"


def results_table(found: Found) -> str:
    """Formats results as lines for a terminal.

    Args:
      found: what was found.
    """
    lines = [f"{'':>4}  {'distance':>8}  match  {'image':{NAME_WIDTH}}  differs in"]
    for rank, result in enumerate(found, 1):
        differs = ", ".join(f"{name}: {result.labels[name] or 'not labelled'}" for name in result.differs)
        name = shorten_path(visible(result.name), NAME_WIDTH)
        line = f"{rank:>4}  {result.distance:8.4f}  {'yes' if result.matches else '':5}  {name:{NAME_WIDTH}}"
        lines.append(f"{line}  {visible(differs)}" if differs else line.rstrip())
    if not found.exact:
        lines.append("The engine searches approximately: others may be nearer.")
    return "\n".join(lines)


def results_json(found: Found) -> dict[str, Any]:
    """Converts results to the form of the JSON API, see docs/serving.md.

    Args:
      found: what was found.
    """
    items = [
        {
            "item": result.row,
            "name": result.name,
            "distance": result.distance,
            "labels": result.labels,
            "predicted": {
                name: {"value": value, "probability": probability}
                for name, (value, probability) in result.predicted.items()
            },
            "matches": result.matches,
            "differs": list(result.differs),
        }
        for result in found
    ]
    return {"items": items, "exact": found.exact, "milliseconds": found.milliseconds}


def results_picture(
    shop: Retriever, edited: Edited, found: Found, item_picture: UInt8[np.ndarray, "S S 3"], name: str
) -> Figure:
    """Draws an item, the change asked for, and the nearest garments; exact matches are framed in green.

    Args:
      shop: the run.
      edited: the item with its changes.
      found: what was found.
      item_picture: the picture of the item, of ``PICTURE`` pixels.
      name: the name of the item.
    """
    shown = list(found)[:MOST_SHOWN]
    example = RetrievalExample(
        query_image=item_picture,
        query_name=name,
        change=describe_edited(edited),
        neighbor_images=np.stack([picture_pixels(shop, result.row) for result in shown]),
        neighbor_names=tuple(result.name for result in shown),
        neighbor_labels=tuple(
            ", ".join(f"{name}: {result.labels[name] or 'not labelled'}" for name in result.differs)
            for result in shown
        ),
        matches=found.matches[:MOST_SHOWN],
    )
    return retrieval_grid([example])


def picture_pixels(shop: Retriever, row: int) -> UInt8[np.ndarray, "S S 3"]:
    """Returns the pixels of a picture of a garment; a grey square if its image cannot be read.

    Args:
      shop: the run.
      row: the row of the garment.
    """
    try:
        return decode_image(shop.picture(row, PICTURE), Transform(PICTURE, PICTURE))
    except DataError:
        return np.full((PICTURE, PICTURE, 3), LIGHT_GREY, np.uint8)
