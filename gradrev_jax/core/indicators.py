"""Indicators of changes, i in Eq. 7: made of words, checked, and described in words."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels


def make_indicator(
    schema: AttributeSchema, labels: Int[np.ndarray, " N"], changes: Mapping[str, str | None]
) -> Int[np.ndarray, " J"]:
    """Creates the indicator that changes some attributes of an item, for ``manipulate`` (Eq. 7).

    Args:
      schema: the attributes.
      labels: [N], the item's labels, -1 = not labelled.
      changes: the new value of each attribute to change, by name; None removes the present value.

    Returns:
      int32 [J]: +1 at each new value, and -1 at the value that it replaces, if the item is labelled.

    Raises:
      ValueError: an unknown name, a new value that equals the present one, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> make_indicator(schema, np.array([0, -1]), {"color": "red", "size": "m"}).tolist()
      [-1, 1, 0, 1]
    """
    if labels.ndim != 1:
        raise ValueError(f"labels must be those of one item, [{schema.num_attributes}], got {labels.shape}")
    check_labels(labels, schema)
    indicator = np.zeros(schema.num_values, np.int32)
    for attribute, value in changes.items():
        if attribute not in schema.names:
            schema.index(attribute, "")  # raises an error with the nearest name
        n = schema.names.index(attribute)
        present = None if labels[n] == NOT_LABELLED else schema.values[n][labels[n]]
        if value == present:
            raise ValueError(f"the item's {attribute} is {present or 'not labelled'} already")
        if value is not None:
            indicator[schema.index(attribute, value)] = 1
        if present is not None:
            indicator[schema.index(attribute, present)] = -1
    return indicator


def check_indicators(indicators: Int[np.ndarray, "*batch J"], schema: AttributeSchema) -> None:
    """Raises unless every indicator holds -1, 0 and 1 only, with at most one +1 and one -1 per attribute.

    Args:
      indicators: [..., J].
      schema: the attributes.

    Raises:
      ValueError: another shape, another number, or several values of one attribute; the message has the
        first such row and attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> check_indicators(np.array([[-1, 1, 0, 0], [1, 1, 0, 0]]), schema)
      Traceback (most recent call last):
      ValueError: row 1 has 2 values of attribute 'color' added; at most one is allowed
    """
    if np.shape(indicators)[-1:] != (schema.num_values,):
        raise ValueError(f"indicators need {schema.num_values} columns (values), got {np.shape(indicators)}")
    rows = np.asarray(indicators).reshape(-1, schema.num_values)
    if outside := sorted(set(np.unique(rows).tolist()) - {-1, 0, 1}):
        raise ValueError(f"indicators must hold -1, 0 and 1 only, got {outside}")
    for sign, word in ((1, "added"), (-1, "removed")):
        counts = (rows == sign) @ schema.membership
        bad = np.argwhere(counts > 1)
        if bad.size:
            row, n = bad[0]
            raise ValueError(
                f"row {row} has {int(counts[row, n])} values of attribute {schema.names[n]!r} {word}; "
                "at most one is allowed"
            )


def describe_change(indicator: Int[np.ndarray, " J"], schema: AttributeSchema) -> str:
    """Returns an indicator as text.

    A swap reads ``"color: blue -> red"``, an addition ``"+ size: m"``, a removal ``"- size: m"``.

    Args:
      indicator: [J], as from ``make_indicator``.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_indicators``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> describe_change(np.array([-1, 1, 0, 1]), schema)
      'color: blue -> red, + size: m'
    """
    check_indicators(indicator, schema)
    words = []
    for n, name in enumerate(schema.names):
        block = indicator[schema.offsets[n] : schema.offsets[n] + schema.sizes[n]]
        added = [schema.values[n][v] for v in np.flatnonzero(block > 0)]
        removed = [schema.values[n][v] for v in np.flatnonzero(block < 0)]
        if added and removed:
            words.append(f"{name}: {removed[0]} -> {added[0]}")
        elif added or removed:
            words.append(f"{'+' if added else '-'} {name}: {(added or removed)[0]}")
    return ", ".join(words)
