"""Says which garments have what is asked for, by their labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.changes import (
    Change,
    Described,
    Removes,
    attribute_position,
    last_changes,
    own_values,
    value_position,
)

# A value of an attribute, or several, that an item must be labelled with; None: not labelled.
Where = Mapping[str, str | Sequence[str | None] | None]
LIKELY = 0.5  # the probability from which an item is taken to have a value
ANYTHING = -2  # the wanted label of an attribute of which no value is asked for


def wanted_values(where: Where, schema: AttributeSchema) -> dict[int, list[int]]:
    """Returns the labels that a filter lets pass, by the attribute's position.

    Args:
      where: the labels that items must have, by attribute: a value, or several; None: not labelled.
      schema: the attributes.

    Raises:
      ConfigError: an unknown attribute or value, with the nearest names; or no filter at all.

    Example:
      >>> wanted_values({"size": ["m", None]}, AttributeSchema(("color", "size"), (("red",), ("s", "m"))))
      {1: [1, -1]}
    """
    if not isinstance(where, Mapping):
        raise ConfigError(f"where must be values by attribute, as {{'color': 'red'}}; got {where!r}")
    wanted = {}
    for name, values in where.items():
        n = attribute_position(name, schema)
        wanted[n] = [NOT_LABELLED if x is None else value_position(x, n, schema) for x in _listed(values)]
    return wanted


def without_unwanted(where: Where | None, changes: Sequence[Change], schema: AttributeSchema) -> Where:
    """Returns a filter that lets nothing pass that is labelled with an unwanted value of a change.

    Args:
      where: the labels that items must have; None: any.
      changes: the changes.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
      >>> without_unwanted({"size": "m"}, [Change("color", None, unwanted=("red",))], schema)
      {'size': 'm', 'color': [None, 'blue', 'green']}
    """
    where = where or {}
    wanted_values(where, schema)  # for its errors
    filters = dict(where)
    for change in last_changes(changes).values():
        if change.unwanted:
            all_values = (None, *schema.values[schema.names.index(change.attribute)])
            passing = _listed(filters.get(change.attribute, all_values))
            filters[change.attribute] = [value for value in passing if value not in change.unwanted]
    return filters


def wanted_labels(
    labels: Int[np.ndarray, " N"], changes: Sequence[Change], schema: AttributeSchema
) -> Int[np.ndarray, " N"]:
    """Returns the labels that are asked for; of an attribute that loses a value, ``ANYTHING``.

    Args:
      labels: the labels of the item, [N].
      changes: the changes.
      schema: the attributes.
    """
    wanted = labels.copy()
    for change in last_changes(changes).values():
        n = schema.names.index(change.attribute)
        wanted[n] = ANYTHING if change.to is None else schema.values[n].index(change.to)
    return wanted


def wanted_where(
    labels: Int[np.ndarray, " N"], where: Where, schema: AttributeSchema
) -> Int[np.ndarray, " N"]:
    """Returns the labels of an item, with a filter by one value in their place.

    Args:
      labels: the labels of the item, [N].
      where: the labels that results must have.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> wanted_where(np.array([0, ANYTHING]), {"size": "m"}, schema).tolist()
      [0, 1]
    """
    wanted = labels.copy()
    for n, values in wanted_values(where, schema).items():
        if len(values) == 1 and values[0] != NOT_LABELLED:
            wanted[n] = values[0]
    return wanted


def unwanted_values(
    changes: Sequence[Change], item: Described, schema: AttributeSchema, removes: Removes = "label"
) -> Bool[np.ndarray, " J"]:
    """Returns the values that a garment must not have: the unwanted ones, and those that are removed.

    Where a change removes whatever the item has, that is its label, and what ``removes`` takes away.

    Args:
      changes: the changes.
      item: what is known of the item.
      schema: the attributes.
      removes: what an edit takes away.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "green", "red"),))
      >>> item = Described(np.array([0]), np.array([2]), np.array([0.25, 0.25, 0.5]))
      >>> unwanted_values([Change("color", None, unwanted=("green",))], item, schema).tolist()
      [False, True, False]
      >>> unwanted_values([Change("color", None)], item, schema).tolist()
      [True, False, False]
    """
    unwanted = np.zeros(schema.num_values, bool)
    for change in last_changes(changes).values():
        n = schema.names.index(change.attribute)
        if change.to is None:
            own = own_values(item, n, removes)
            removed = own[:1] if removes == "label" else own
            values = [schema.values[n].index(value) for value in change.unwanted] or removed
            unwanted[schema.offsets[n] + np.asarray(values)] = True
    return unwanted


def are_likely(item: Described, schema: AttributeSchema) -> Bool[np.ndarray, " N"]:
    """Returns whether the predicted value of each attribute is likelier than all others together.

    Args:
      item: what is known of the item.
      schema: the attributes.
    """
    return item.probabilities[np.asarray(schema.offsets) + item.predicted] >= LIKELY


def unlikely_values(
    changes: Sequence[Change], item: Described, schema: AttributeSchema
) -> Bool[np.ndarray, " J"]:
    """Returns all values but the likely one, of attributes without a label that are not changed.

    Args:
      changes: the changes.
      item: what is known of the item.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> item = Described(np.array([-1, 1]), np.array([1, 1]), np.array([0.25, 0.75, 0.0, 1.0]))
      >>> unlikely_values([], item, schema).tolist()
      [True, False, False, False]
    """
    unchanged = np.isin(schema.names, list(last_changes(changes)), invert=True)
    guessed = (item.labels == NOT_LABELLED) & are_likely(item, schema) & unchanged
    attribute_of = np.asarray(schema.attribute_of)
    return guessed[attribute_of] & (np.asarray(schema.position_of) != item.predicted[attribute_of])


def are_wanted(
    labels: Int[np.ndarray, "*batch N"],
    wanted: Int[np.ndarray, " N"],
    unwanted: Bool[np.ndarray, " J"],
    schema: AttributeSchema,
) -> Bool[np.ndarray, "*batch N"]:
    """Returns which labels are those asked for.

    Args:
      labels: the labels, [..., N], -1 = not labelled.
      wanted: the labels asked for, [N]; -1 is matched by -1, and ``ANYTHING`` by every label.
      unwanted: the values that match in no case, [J].
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels, not_red = np.array([[0, 1], [1, 1], [-1, 0]]), np.array([False, True, False, False])
      >>> are_wanted(labels, np.array([ANYTHING, 1]), not_red, schema).tolist()
      [[True, True], [False, True], [True, False]]
    """
    is_unwanted = unwanted[np.asarray(schema.offsets) + np.maximum(labels, 0)] & (labels != NOT_LABELLED)
    return np.logical_or(labels == wanted, wanted == ANYTHING) & ~is_unwanted


def _listed(values: str | Sequence[str | None] | None) -> Sequence[str | None]:
    if values is None or not isinstance(values, Sequence | set | frozenset) or isinstance(values, str):
        return [values]  # what is no name is refused as one
    return list(values)
