"""Manipulation queries: a reference image, a change of one attribute, and the labels asked for."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.attributes import NOT_LABELLED, AttributeSchema


@dataclasses.dataclass(frozen=True)
class Queries:
    """Q manipulation queries against a gallery.

    Attributes:
      reference: [Q] gallery row of the image that is manipulated.
      indicators: int8 [Q, J], +1 at the value asked for, -1 at the one it replaces (Eq. 7).
      targets: int32 [Q, N], labels asked for.
      changed: [Q] the attribute that changes.
    """

    reference: Int[np.ndarray, " Q"]
    indicators: Int[np.ndarray, "Q J"]
    targets: Int[np.ndarray, "Q N"]
    changed: Int[np.ndarray, " Q"]

    def __len__(self) -> int:
        return len(self.reference)


def generate_queries(
    labels: Int[np.ndarray, "G N"],
    schema: AttributeSchema,
    *,
    num_references: int | None = None,
    seed: int = 0,
) -> Queries:
    """Every gallery image x attribute x other value whose target labels some gallery image has exactly.

    An image that is not labelled for an attribute gives add-only queries: no value is removed. Queries are
    ordered by reference image, attribute and value.

    Args:
      labels: [G, N], labels of the gallery, -1 = not labelled.
      schema: the attributes.
      num_references: how many reference images are kept, drawn with the seed from those that have a
        query; None keeps all.
      seed: of that choice.

    Raises:
      ValueError: num_references below 1.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> queries = generate_queries(np.array([[0, 0], [1, 0], [1, 1]]), schema)
      >>> queries.reference.tolist(), queries.targets.tolist()
      ([0, 1, 1, 2], [[1, 0], [0, 0], [1, 1], [1, 0]])
    """
    if num_references is not None and num_references < 1:
        raise ValueError(f"num_references must be at least 1, got {num_references}")
    # Thousands of images share few distinct label rows, and only those decide which targets exist.
    rows, row_of_image = np.unique(labels.astype(np.int32), axis=0, return_inverse=True)
    row, changed, value, _ = existing_changes(rows, schema)
    # From (distinct row, target) to (image, target).
    images, start, count = grouped(row_of_image, len(rows))
    candidate, position = _repeated(count[row])
    reference = images[start[row[candidate]] + position]
    by_reference = np.lexsort((value[candidate], changed[candidate], reference))
    reference, candidate = reference[by_reference], candidate[by_reference]
    if num_references is not None:
        available = np.unique(reference)
        chosen = np.random.default_rng(seed).permutation(available)[:num_references]
        kept = np.isin(reference, chosen)
        reference, candidate = reference[kept], candidate[kept]
    changed, value = changed[candidate], value[candidate]
    indicators, targets = single_changes(labels[reference], changed, value, schema)
    return Queries(reference, indicators, targets, changed)


class Changes(NamedTuple):
    """Single changes that turn one distinct label row into another.

    Attributes:
      row: [C], the row that is changed.
      attribute: [C], what of it.
      value: [C], to which value.
      target: [C], the row it becomes.
    """

    row: Int[np.ndarray, " C"]
    attribute: Int[np.ndarray, " C"]
    value: Int[np.ndarray, " C"]
    target: Int[np.ndarray, " C"]


def existing_changes(rows: Int[np.ndarray, "R N"], schema: AttributeSchema) -> Changes:
    """Every single change that turns one of the distinct rows into another of them.

    Two rows differ in attribute n alone exactly where they agree once column n is masked: grouping the
    masked rows finds all partners at once, without trying values that no image has.
    """
    found = []
    for n in range(schema.num_attributes):
        masked = np.delete(rows, n, axis=1)
        group = np.unique(masked, axis=0, return_inverse=True)[1] if masked.size else np.zeros(len(rows), int)
        members, start, count = grouped(group, len(rows))
        # All ordered pairs (source, target) within a group.
        source, position = _repeated(count[group])
        target = members[start[group[source]] + position]
        value = rows[target, n]
        valid = (source != target) & (value != NOT_LABELLED)
        found.append((source[valid], np.full(valid.sum(), n), value[valid], target[valid]))
    return Changes(*(np.concatenate(column) for column in zip(*found, strict=True)))


def grouped(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members in the order of their groups, and each group's start and count among them."""
    count = np.bincount(group, minlength=groups)
    return np.argsort(group, kind="stable"), np.cumsum(count) - count, count


def _repeated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i ``counts[i]`` times, and a running position 0, 1, ... within each i."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)


def single_changes(
    labels: Int[np.ndarray, "Q N"],
    changed: Int[np.ndarray, " Q"],
    value: Int[np.ndarray, " Q"],
    schema: AttributeSchema,
) -> tuple[Int[np.ndarray, "Q J"], Int[np.ndarray, "Q N"]]:
    """Indicators (int8) and target labels of one change to each row of labels."""
    query = np.arange(len(labels))
    targets = labels.astype(np.int32)  # a copy
    present = targets[query, changed]
    targets[query, changed] = value
    offsets = np.asarray(schema.offsets)
    indicators = np.zeros((len(labels), schema.num_values), np.int8)
    indicators[query, offsets[changed] + value] = 1
    removed = present != NOT_LABELLED
    indicators[query[removed], (offsets[changed] + present)[removed]] = -1
    return indicators, targets
