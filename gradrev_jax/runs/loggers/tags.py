"""Names the numbers of a record."""

import re
from collections.abc import Mapping
from typing import Any


def scalar_tags(tree: Mapping[str, Any], prefix: str = "") -> dict[str, int | float]:
    """Returns the numbers among nested fields under their path, as ``pathways/color/size``.

    TensorBoard writes one underscore for whatever is no letter, digit, underscore or hyphen, so that names
    could meet; each such character becomes its code point between dots instead.

    Example:
      >>> scalar_tags({"loss": 0.5, "accuracy": {"size (EU)": 0.25}, "stage": "encoder"})
      {'loss': 0.5, 'accuracy/size.20..28.EU.29.': 0.25}
    """
    tags: dict[str, int | float] = {}
    for name, value in tree.items():
        tag = prefix + re.sub(r"[^\w-]", lambda found: f".{ord(found[0]):x}.", name)
        if isinstance(value, Mapping):
            tags |= scalar_tags(value, f"{tag}/")
        elif isinstance(value, int | float):
            tags[tag] = value
    return tags
