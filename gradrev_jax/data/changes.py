"""Finds which label rows of a catalogue become others of them when attributes change."""

import itertools
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema

Kind = Literal["swap", "add", "remove"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class LabelChanges(NamedTuple):
    """C changes that turn one distinct label row into another.

    Attributes:
      row: [C], the row that is changed.
      target: [C], the row that it becomes.
    """

    row: Int[np.ndarray, " C"]
    target: Int[np.ndarray, " C"]


def existing_changes(
    rows: Int[np.ndarray, "R N"],
    schema: AttributeSchema,
    *,
    kinds: Collection[Kind] = ("swap", "add"),
    num_changes: int = 1,
) -> LabelChanges:
    """Finds all changes of a number of attributes that turn one of the distinct rows into another of them.

    Two rows differ in certain columns alone if and only if they are equal once these are masked: grouping
    the masked rows finds all partners at once, without trying values that no image has. The changes are
    ordered by row, then by the attributes that change, then by their new values.

    Args:
      rows: [R, N], no two of them equal; -1: not labelled.
      schema: the attributes.
      kinds: the changes allowed: ``swap`` (one value for another), ``add`` (a value for "not labelled") and
        ``remove`` ("not labelled" for a value).
      num_changes: the number of attributes that change at once, 1 to N.

    Raises:
      ValueError: a kind is unknown, no kind is given, or num_changes is out of range.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> existing_changes(np.array([[0, 0], [0, 1], [1, 1]]), schema, num_changes=2)
      LabelChanges(row=array([0, 2]), target=array([2, 0]))
    """
    if isinstance(kinds, str):
        raise ValueError(f"kinds must be a collection of names, got the string {kinds!r}")
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
    return LabelChanges(row[order], target[order])


def _is_allowed(before: np.ndarray, after: np.ndarray, kinds: Collection[Kind]) -> np.ndarray:
    had, has = before != NOT_LABELLED, after != NOT_LABELLED
    of_kind = {"swap": had & has, "add": ~had & has, "remove": had & ~has}
    return np.any([of_kind[kind] for kind in kinds], axis=0)


def count_in_words(num_changes: int) -> str:
    """Returns how many attributes change, for messages.

    Example:
      >>> count_in_words(1), count_in_words(3)
      ('one attribute', '3 attributes')
    """
    return "one attribute" if num_changes == 1 else f"{num_changes} attributes"


def indicators_between(
    before: Int[np.ndarray, "Q N"], after: Int[np.ndarray, "Q N"], schema: AttributeSchema
) -> Int[np.ndarray, "Q J"]:
    """Returns the indicators (int8, Eq. 7) that turn some labels into others.

    Args:
      before: [Q, N], the labels to be changed; -1: not labelled.
      after: [Q, N], the labels that they become.
      schema: the attributes.

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


def group_members(
    group: Int[np.ndarray, " M"], num_groups: int
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " G"], Int[np.ndarray, " G"]]:
    """Sorts members by their groups.

    Args:
      group: [M], the group of each member.
      num_groups: G, the number of groups.

    Returns:
      The members in the order of their groups, and for each group the position of its first member among
      them and the number of its members.

    Example:
      >>> group_members(np.array([1, 0, 1]), 2)
      (array([1, 0, 2]), array([0, 1]), array([1, 2]))
    """
    count = np.bincount(group, minlength=num_groups)
    return np.argsort(group, kind="stable"), np.cumsum(count) - count, count


def repeat_indices(
    counts: Int[np.ndarray, " M"],
) -> tuple[Int[np.ndarray, " total"], Int[np.ndarray, " total"]]:
    """Repeats each index i ``counts[i]`` times.

    Returns:
      The repeated indices, and a running position 0, 1, ... within the repetitions of each.

    Example:
      >>> repeat_indices(np.array([2, 0, 1]))
      (array([0, 0, 2]), array([0, 1, 0]))
    """
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
