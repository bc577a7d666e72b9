"""Changes that are asked of an item, and the edit that makes them."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.replacement import Edit
from gradrev_jax.errors import ConfigError, did_you_mean, join_names
from gradrev_jax.search.item_search import ItemEdit

# What Eq. 7 takes away of an item: the prototype of its label, or without one of its predicted value; of its
# predicted value in any case; or the mean of the prototypes, as likely as the classifier finds them.
Removes = Literal["label", "predicted", "expected"]
REMOVES: tuple[Removes, ...] = get_args(Removes)
LARGEST_STRENGTH = 10**6  # beyond it, squares of products would leave float32
# A value of an attribute, or several, that an item must be labelled with; None: not labelled.
Where = Mapping[str, str | Sequence[str | None] | None]


class Change(NamedTuple):
    """Represents one change of an item's attribute.

    Attributes:
      attribute: the name of the attribute.
      to: the value that it is to have; None: whatever it has is to be removed.
      strength: the factor of the edit, 1 as it was trained.
    """

    attribute: str
    to: str | None
    strength: float = 1.0


def check_changes(changes: Sequence[Change], schema: AttributeSchema) -> None:
    """Checks that changes name attributes and values that there are, and have finite strengths.

    Args:
      changes: the changes.
      schema: the attributes.

    Raises:
      ConfigError: one does not; the message has the nearest names.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> check_changes([Change("color", "redd")], schema)
      Traceback (most recent call last):
      gradrev_jax.errors.ConfigError: color has no value 'redd'; did you mean red?
    """
    for change in changes:
        n = attribute_position(change.attribute, schema)
        if change.to is not None:
            value_position(change.to, n, schema)
        if not abs(change.strength) <= LARGEST_STRENGTH:
            raise ConfigError(
                f"the strength of a change of {change.attribute} must be a number between "
                f"-{LARGEST_STRENGTH:,} and {LARGEST_STRENGTH:,}, got {change.strength}"
            )


def attribute_position(name: str, schema: AttributeSchema) -> int:
    """Returns the position of an attribute among the N.

    Args:
      name: its name.
      schema: the attributes.

    Raises:
      ConfigError: there is none of this name; the message has the nearest names.
    """
    if name not in schema.names:
        hint = did_you_mean(str(name), schema.names, otherwise=f"there are {', '.join(schema.names)}")
        raise ConfigError(f"no attribute is called {name!r}; {hint}")
    return schema.names.index(name)


def value_position(name: str, attribute: int, schema: AttributeSchema) -> int:
    """Returns the position of a value among those of its attribute.

    Args:
      name: its name.
      attribute: the position of the attribute among the N.
      schema: the attributes.

    Raises:
      ConfigError: there is none of this name; the message has the nearest names.
    """
    values = schema.values[attribute]
    if name not in values:
        hint = did_you_mean(str(name), values, otherwise=f"it has {join_names(values, most=20)}")
        raise ConfigError(f"{schema.names[attribute]} has no value {name!r}; {hint}")
    return values.index(name)


def wanted_values(where: Where, schema: AttributeSchema) -> dict[int, list[int]]:
    """Returns the labels that a filter lets pass, by the attribute's position.

    Args:
      where: the labels that items must have, by attribute: a value, or several; None: not labelled.
      schema: the attributes.

    Raises:
      ConfigError: an unknown attribute or value; the message has the nearest names.

    Example:
      >>> wanted_values({"size": ["m", None]}, AttributeSchema(("color", "size"), (("red",), ("s", "m"))))
      {1: [1, -1]}
    """
    wanted = {}
    for name, values in where.items():
        n = attribute_position(name, schema)
        several = [values] if values is None or isinstance(values, str) else list(values)
        wanted[n] = [NOT_LABELLED if x is None else value_position(x, n, schema) for x in several]
    return wanted


def last_changes(changes: Sequence[Change]) -> dict[str, Change]:
    """Returns the change of each attribute that counts, which is the last.

    Args:
      changes: the changes in the order in which they were asked for.

    Example:
      >>> list(last_changes([Change("color", "red"), Change("size", "m"), Change("color", None)]).values())
      [Change(attribute='color', to=None, strength=1.0), Change(attribute='size', to='m', strength=1.0)]
    """
    return {change.attribute: change for change in changes}


ANYTHING = -2  # the wanted label of an attribute of which nothing is asked


def wanted_labels(
    labels: Int[np.ndarray, " N"], changes: Sequence[Change], schema: AttributeSchema
) -> Int[np.ndarray, " N"]:
    """Returns the labels that are asked for; of an attribute whose value is removed, ``ANYTHING``.

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


def are_wanted(
    labels: Int[np.ndarray, "*batch N"], wanted: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, "*batch N"]:
    """Returns which labels are those asked for.

    Args:
      labels: the labels, [..., N], -1 = not labelled.
      wanted: the labels asked for, [N]; -1 is matched by -1, and ``ANYTHING`` by every label.

    Example:
      >>> are_wanted(np.array([[1, -1, 0], [0, 2, -1]]), np.array([1, ANYTHING, -1])).tolist()
      [[True, True, False], [False, True, True]]
    """
    return np.logical_or(labels == wanted, wanted == ANYTHING)


class Described(NamedTuple):
    """Represents what is known of the item that is edited.

    Attributes:
      labels: its labels, [N], -1 = not labelled.
      predicted: the value that each attribute's classifier finds likeliest, [N].
      probabilities: the probability of each value, [J].
    """

    labels: Int[np.ndarray, " N"]
    predicted: Int[np.ndarray, " N"]
    probabilities: Float[np.ndarray, " J"]


def make_edit(
    changes: Sequence[Change],
    item: Described,
    schema: AttributeSchema,
    edit: Edit,
    *,
    strength: float = 1.0,
    removes: Removes = "label",
) -> ItemEdit:
    """Returns the edit that makes changes of an item.

    An attribute that has its value already is not edited.

    Args:
      changes: the changes; of several of one attribute, the last counts.
      item: what is known of the item.
      schema: the attributes.
      edit: ``add`` (Eq. 7) or ``replace``.
      strength: the factor of all changes.
      removes: what ``add`` takes away.

    Raises:
      ConfigError: an unknown ``removes``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "green", "red"),))
      >>> item = Described(np.array([-1]), np.array([0]), np.array([0.75, 0.25, 0.0]))
      >>> make_edit([Change("color", "red")], item, schema, "add").factors.tolist()
      [-1.0, 0.0, 1.0]
      >>> make_edit([Change("color", "red")], item, schema, "add", removes="expected").factors.tolist()
      [-0.75, -0.25, 1.0]
    """
    if removes not in REMOVES:
        raise ConfigError(f"removes must be one of {', '.join(REMOVES)}, got {removes!r}")
    n = schema.num_attributes
    factors, replaced, emptied = np.zeros(schema.num_values), np.zeros(n, bool), np.zeros(n, bool)
    for change in last_changes(changes).values():
        attribute = schema.names.index(change.attribute)
        factor = strength * change.strength
        to = None if change.to is None else schema.values[attribute].index(change.to)
        offset, size = schema.offsets[attribute], schema.sizes[attribute]
        if to is not None and to == item.labels[attribute]:
            continue
        if edit == "add":
            factors[offset : offset + size] -= factor * _removed(
                item, attribute, slice(offset, offset + size), removes
            )
        else:
            replaced[attribute], emptied[attribute] = True, to is None
        if to is not None:
            factors[offset + to] += factor
    return ItemEdit(factors, replaced, emptied)


def _removed(item: Described, attribute: int, values: slice, removes: Removes) -> Float[np.ndarray, " v"]:
    """Returns how much of each value of an attribute is taken away; the sum is 1."""
    if removes == "expected":
        probabilities = item.probabilities[values]
        return probabilities / probabilities.sum()
    label = item.labels[attribute] if removes == "label" else NOT_LABELLED
    taken = item.predicted[attribute] if label == NOT_LABELLED else label
    return np.eye(values.stop - values.start)[taken]
