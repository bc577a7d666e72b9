"""Generates manipulation queries: a reference image, a change of its attributes, and the target labels."""

import dataclasses
from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.data.changes import Kind, existing_changes, group_members, indicators_between, repeat_indices
from gradrev_jax.errors import DataError

# In bytes; an indicator has a number for each value. Search and report hold more than one copy of some of the
# arrays, and a machine with 16 GiB has room for this one. With 100 values, it is 60 million queries.
LARGEST_QUERIES = 2**33


@dataclasses.dataclass(frozen=True)
class Queries:
    """Represents Q manipulation queries against a gallery.

    Attributes:
      reference: [Q], the gallery row of the image that is manipulated.
      indicators: int8 [Q, J], +1 at the value that is added, -1 at the one that it replaces (Eq. 7).
      targets: int32 [Q, N], the labels that the results should have.
      changed: bool [Q, N], the attributes that change.
    """

    reference: Int[np.ndarray, " Q"]
    indicators: Int[np.ndarray, "Q J"]
    targets: Int[np.ndarray, "Q N"]
    changed: Bool[np.ndarray, "Q N"]

    def __len__(self) -> int:
        return len(self.reference)

    def sample_references(self, count: int | None, seed: int) -> "Queries":
        """Returns all queries of a number of reference images.

        Args:
          count: the number of reference images, which are drawn with the seed; None: all.
          seed: the seed of the draw.

        Raises:
          ValueError: count is below 1.
        """
        if count is None:
            return self
        if count < 1:
            raise ValueError(f"num_references must be at least 1, got {count}")
        chosen = np.random.default_rng(seed).permutation(np.unique(self.reference))[:count]
        return self.take(np.flatnonzero(np.isin(self.reference, chosen)))

    def take(self, chosen: Int[np.ndarray, " K"]) -> "Queries":
        """Returns some of the queries, by their numbers."""
        return Queries(
            self.reference[chosen], self.indicators[chosen], self.targets[chosen], self.changed[chosen]
        )


def generate_queries(
    labels: Int[np.ndarray, "G N"],
    schema: AttributeSchema,
    *,
    kinds: Collection[Kind] = ("swap", "add"),
    num_changes: int = 1,
    num_references: int | None = None,
    seed: int = 0,
) -> Queries:
    """Generates a query for every gallery image and change whose target labels some gallery image has.

    By default a change sets one attribute to another value; an image that is not labelled for the attribute
    gives queries that only add. Queries are ordered by reference image, attributes and values.

    Args:
      labels: [G, N], the labels of the gallery; -1: not labelled.
      schema: the attributes.
      kinds: the kinds of changes: ``swap``, ``add`` and ``remove`` (the target is not labelled for the
        attribute).
      num_changes: the number of attributes that change at once.
      num_references: the number of reference images, which are drawn with the seed from those that have a
        query; None: all.
      seed: the seed of the draw.

    Raises:
      DataError: there are too many queries for the memory.
      ValueError: num_references is below 1, a kind is unknown, num_changes is out of range, or the labels do
        not fit the schema.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> queries = generate_queries(np.array([[0, 0], [1, 0], [1, 1]]), schema)
      >>> queries.reference.tolist(), queries.targets.tolist()
      ([0, 1, 1, 2], [[1, 0], [0, 0], [1, 1], [1, 0]])
    """
    if num_references is not None and num_references < 1:
        raise ValueError(f"num_references must be at least 1, got {num_references}")
    check_labels(labels, schema)
    # Thousands of images share few distinct label rows, and only those decide which targets exist.
    rows, row_of_image = np.unique(labels.astype(np.int32), axis=0, return_inverse=True)
    changes = existing_changes(rows, schema, kinds=kinds, num_changes=num_changes)
    _, start, count = group_members(changes.row, len(rows))
    references = np.flatnonzero(count[row_of_image])
    if num_references is not None:
        references = np.sort(np.random.default_rng(seed).permutation(references)[:num_references])
    # From (image, its row) to (image, each change of its row).
    of_row = row_of_image[references]
    _check_fits(int(count[of_row].sum()), len(references), schema)
    which, position = repeat_indices(count[of_row])
    reference = references[which]
    targets = rows[changes.target[start[of_row[which]] + position]]
    before = labels[reference].astype(np.int32)
    return Queries(reference, indicators_between(before, targets, schema), targets, before != targets)


def _check_fits(num_queries: int, num_references: int, schema: AttributeSchema) -> None:
    """Raises a DataError if the arrays of so many queries would be too large for the memory."""
    # An indicator; the labels before and after, and which of them change; three numbers of rows.
    of_one = schema.num_values + schema.num_attributes * (4 + 4 + 1) + 3 * 8
    if num_queries * of_one > LARGEST_QUERIES:
        raise DataError(
            f"{num_queries:,} queries of {num_references:,} reference images, with {schema.num_values:,} "
            f"values each, take {num_queries * of_one / 2**30:,.1f} GiB of memory, and at most "
            f"{LARGEST_QUERIES / 2**30:g} are used; draw fewer reference images (`num_references`), or use "
            "fewer attributes or values (`schema`): a column that tells images apart, or a value of few of "
            "them, makes queries of little use",
            arguments=("num_references", "schema"),
        )
