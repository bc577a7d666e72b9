"""A class of its own for images that are not labelled: that a label is missing may tell something, too.

In a catalogue of garments, most of those without a ``pattern`` have none.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Array, Int

from gradrev_jax.core.arguments import array_namespace
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels

Missing = Literal["ignore", "value"]
MISSING: tuple[Missing, ...] = get_args(Missing)
NAME = "not labelled"


def classes_of(schema: AttributeSchema, missing: Missing) -> AttributeSchema:
    """Returns the classes that classifiers tell apart: the values, and with ``value`` one for missing labels.

    It is the last of each attribute, so the number of a value within its attribute stays as it is.

    Args:
      schema: the attributes.
      missing: what becomes of missing labels.

    Raises:
      ValueError: another word.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> classes_of(schema, "value").values
      (('blue', 'red', 'not labelled'), ('s', 'm', 'not labelled'))
    """
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}, got {missing!r}")
    if missing == "ignore":
        return schema
    return AttributeSchema(schema.names, tuple((*values, _new_name(values)) for values in schema.values))


def class_labels(
    labels: Int[Array | np.ndarray, "*batch N"], schema: AttributeSchema, missing: Missing
) -> Int[Array | np.ndarray, "*batch N"]:
    """Converts labels to numbers of classes: with ``value``, a missing label becomes the last class.

    Args:
      labels: [..., N], -1 = not labelled.
      schema: the attributes.
      missing: what becomes of missing labels.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> class_labels(np.array([1, -1]), schema, "value").tolist()
      [1, 2]
    """
    if missing == "ignore":
        return labels
    labels = sanitize_labels(labels, schema)
    xp = array_namespace(labels)
    return xp.where(labels == NOT_LABELLED, np.asarray(schema.sizes, np.int32), labels)


def value_positions(schema: AttributeSchema, missing: Missing) -> Int[np.ndarray, " J"]:
    """Returns the position of each of the J values among all classes.

    Args:
      schema: the attributes.
      missing: what becomes of missing labels.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> value_positions(schema, "value").tolist()
      [0, 1, 3, 4]
    """
    return np.arange(schema.num_values) + (schema.attribute_of if missing == "value" else 0)


def _new_name(values: tuple[str, ...]) -> str:
    """Returns the name of the class for missing labels, which no value has."""
    name = NAME
    while name in values:
        name += "*"
    return name
