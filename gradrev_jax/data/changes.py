"""Which label rows of a catalogue lead to which others by changing attributes."""

import itertools
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema

Kind = Literal["swap", "add", "remove"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Changes(NamedTuple):
    """Changes that turn one distinct label row into another.

    Attributes:
      row: [C], the row that is changed.
      target: [C], the row it becomes.
    """

    row: Int[np.ndarray, " C"]
    target: Int[np.ndarray, " C"]


def existing_changes(
    rows: Int[np.ndarray, "R N"],
    schema: AttributeSchema,
    *,
    kinds: Collection[Kind] = ("swap", "add"),
    num_changes: int = 1,
) -> Changes:
    """Every change of so many attributes that turns one of the distinct rows into another of them.

    Two rows differ in some columns alone exactly where they agree once these are masked: grouping the masked
    rows finds all partners at once, without trying values that no image has. Changes are ordered by row,
    then by the attributes that change, then by their new values.

    Args:
      rows: [R, N], no two equal; -1 = not labelled.
      schema: the attributes.
      kinds: what may happen to an attribute: ``swap`` (one value for another), ``add`` (a value where none
        was labelled), ``remove`` (none where one was).
      num_changes: attributes that change at once, 1 to N.

    Raises:
      ValueError: an unknown kind or none, or num_changes out of range.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> existing_changes(np.array([[0, 0], [0, 1], [1, 1]]), schema, num_changes=2)
      Changes(row=array([0, 2]), target=array([2, 0]))
    """
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {tuple(kinds)!r}")
    if not 1 <= num_changes <= schema.num_attributes:
        raise ValueError(f"num_changes must lie in [1, {schema.num_attributes}], got {num_changes}")
    found = []
    for columns in itertools.combinations(range(schema.num_attributes), num_changes):
        masked = np.delete(rows, columns, axis=1)
        group = np.unique(masked, axis=0, return_inverse=True)[1] if masked.size else np.zeros(len(rows), int)
        members, start, count = group_members(group, len(rows))
        # All ordered pairs (source, target) within a group, rows in the order of the values they differ in.
        source, position = repeat_indices(count[group])
        target = members[start[group[source]] + position]
        before, after = rows[source][:, columns], rows[target][:, columns]
        valid = ((before != after) & _is_allowed(before, after, kinds)).all(axis=1)
        new_values = after[valid].T[::-1]
        order = np.lexsort((*new_values, source[valid]))
        found.append((source[valid][order], target[valid][order]))
    row, target = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(row, kind="stable")
    return Changes(row[order], target[order])


def _is_allowed(before: np.ndarray, after: np.ndarray, kinds: Collection[Kind]) -> np.ndarray:
    had, has = before != NOT_LABELLED, after != NOT_LABELLED
    of_kind = {"swap": had & has, "add": ~had & has, "remove": had & ~has}
    return np.any([of_kind[kind] for kind in kinds], axis=0)


def indicators_between(
    before: Int[np.ndarray, "Q N"], after: Int[np.ndarray, "Q N"], schema: AttributeSchema
) -> Int[np.ndarray, "Q J"]:
    """Indicators (int8, Eq. 7) that turn the labels before into those after.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> indicators_between(np.array([[0, -1]]), np.array([[1, -1]]), schema).tolist()
      [[-1, 1, 0, 0]]
    """
    indicators = np.zeros((len(before), schema.num_values), np.int8)
    offsets = np.asarray(schema.offsets)
    for labels, sign in ((before, -1), (after, 1)):
        query, n = np.nonzero((before != after) & (labels != NOT_LABELLED))
        indicators[query, offsets[n] + labels[query, n]] = sign
    return indicators


def group_members(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members in the order of their groups, and each group's start and count among them."""
    count = np.bincount(group, minlength=groups)
    return np.argsort(group, kind="stable"), np.cumsum(count) - count, count


def repeat_indices(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i ``counts[i]`` times, and a running position 0, 1, ... within each i."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
