"""Changes that are asked of an item, and the edit that makes them."""

import numbers
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.replacement import Edit
from gradrev_jax.errors import ConfigError, did_you_mean, join_names
from gradrev_jax.search.item_search import ItemEdit

# What Eq. 7 takes away of an item: the prototype of its label, or without one of its predicted value; of its
# predicted value in any case; or the mean of the prototypes, as likely as the classifier finds them.
Removes = Literal["label", "predicted", "expected"]
REMOVES: tuple[Removes, ...] = get_args(Removes)
LARGEST_STRENGTH = 10**6  # beyond it, squares of products would leave float32


class Change(NamedTuple):
    """Represents one change of an item's attribute.

    Attributes:
      attribute: the name of the attribute.
      to: the value that it is to have; None: whatever it has, or what is unwanted of it, is to be removed.
      strength: the factor of the edit, 1 as it was trained.
      unwanted: the values that it is not to have, as in "anything but black"; only where ``to`` is None.
    """

    attribute: str
    to: str | None
    strength: float = 1.0
    unwanted: tuple[str, ...] = ()


def check_changes(changes: Sequence[Change], schema: AttributeSchema) -> None:
    """Checks that changes name attributes and values that there are, and have finite strengths.

    A change has a value that is wanted, or unwanted ones, but not both.

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
            if change.unwanted:
                raise ConfigError(
                    f"a change of {change.attribute} says both what it is to be, {change.to}, and what not, "
                    f"{join_names(change.unwanted)}; give one of the two"
                )
        for value in change.unwanted:
            value_position(value, n, schema)
        if not isinstance(change.strength, numbers.Real) or not abs(change.strength) <= LARGEST_STRENGTH:
            raise ConfigError(
                f"the strength of a change of {change.attribute} must be a number between "
                f"-{LARGEST_STRENGTH:,} and {LARGEST_STRENGTH:,}, got {change.strength!r}"
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


def last_changes(changes: Sequence[Change]) -> dict[str, Change]:
    """Returns the change of each attribute that counts, which is the last.

    Values that are unwanted one after the other are all unwanted; a value that was asked for before stays in
    place if it is none of them.

    Args:
      changes: the changes in the order in which they were asked for.

    Example:
      >>> last = last_changes([Change("color", "red"), Change("size", "m"), Change("color", "blue")])
      >>> {name: change.to for name, change in last.items()}
      {'color': 'blue', 'size': 'm'}
      >>> not_red, not_blue = (Change("color", None, unwanted=(value,)) for value in ("red", "blue"))
      >>> last_changes([not_red, not_blue])["color"].unwanted
      ('red', 'blue')
    """
    last: dict[str, Change] = {}
    for change in changes:
        before = last.get(change.attribute)
        if before is not None and change.unwanted:
            if before.to is not None and before.to not in change.unwanted:
                continue
            change = change._replace(unwanted=tuple(dict.fromkeys(before.unwanted + change.unwanted)))
        last[change.attribute] = change
    return last


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

    An attribute that has its value already is not edited, nor one that has none of the unwanted values,
    neither by its label nor by what is predicted.

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
        removable = [schema.values[attribute].index(value) for value in change.unwanted] or list(range(size))
        taken = _removed(item, attribute, slice(offset, offset + size), removable, removes)
        if not taken.any() or (to is not None and to == item.labels[attribute]):
            continue
        if edit == "add":
            factors[offset : offset + size] -= factor * taken
        else:
            replaced[attribute], emptied[attribute] = True, to is None
        if to is not None:
            factors[offset + to] += factor
    return ItemEdit(factors, replaced, emptied)


def own_values(item: Described, attribute: int, removes: Removes) -> list[int]:
    """Returns the values that an item has of an attribute, that which is removed first coming first.

    They are its label, if there is one, and the predicted value.

    Args:
      item: what is known of the item.
      attribute: the position of the attribute among the N.
      removes: what is removed.

    Example:
      >>> item = Described(np.array([0]), np.array([2]), np.array([0.25, 0.25, 0.5]))
      >>> own_values(item, 0, "label"), own_values(item, 0, "predicted")
      ([0, 2], [2, 0])
    """
    label, predicted = int(item.labels[attribute]), int(item.predicted[attribute])
    known = [label, predicted] if removes == "label" else [predicted, label]
    return [value for value in known if value != NOT_LABELLED]


def _removed(
    item: Described, attribute: int, values: slice, removable: Sequence[int], removes: Removes
) -> Float[np.ndarray, " v"]:
    """Returns how much of each value of an attribute is taken away; only of those that may be removed."""
    may_be_removed = np.isin(np.arange(values.stop - values.start), removable)
    own = [value for value in own_values(item, attribute, removes) if may_be_removed[value]]
    if not own:
        return np.zeros(len(may_be_removed))
    if removes == "expected":
        probabilities = item.probabilities[values]
        return np.where(may_be_removed, probabilities / probabilities.sum(), 0.0)
    return np.eye(len(may_be_removed))[own[0]]
