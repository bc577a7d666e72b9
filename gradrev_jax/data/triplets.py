"""Generates training triplets for the memory: a reference, a change, a match of the result and a mismatch."""

import dataclasses
from collections.abc import Collection

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.data.changes import (
    Kind,
    count_in_words,
    existing_changes,
    group_members,
    indicators_between,
)
from gradrev_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Triplets:
    """Represents T training triplets.

    Attributes:
      reference: [T], the row of the image that is manipulated.
      positive: [T], the row of an image with exactly the labels that the manipulation leads to.
      negative: [T], the row of an image with other labels.
      indicators: int8 [T, J], +1 at the value that is added, -1 at the one that it replaces (Eq. 7).
    """

    reference: Int[np.ndarray, " T"]
    positive: Int[np.ndarray, " T"]
    negative: Int[np.ndarray, " T"]
    indicators: Int[np.ndarray, "T J"]

    def __len__(self) -> int:
        return len(self.reference)

    def first(self, count: int) -> "Triplets":
        """Returns the first ``count`` triplets, or all if there are fewer."""
        return Triplets(*(column[:count] for column in self._columns()))

    def restrict_to(self, rows: Int[np.ndarray, " M"]) -> "Triplets":
        """Returns the triplets whose three images are among ``rows``, as positions in ``rows``."""
        size = 1 + max(int(column.max(initial=-1)) for column in (rows, *self._columns()[:3]))
        position = np.full(size, -1)
        position[rows] = np.arange(len(rows))
        images = [position[column] for column in self._columns()[:3]]
        kept = np.all([column >= 0 for column in images], axis=0)
        return Triplets(*(column[kept] for column in (*images, self.indicators)))

    def renumber(self, rows: Int[np.ndarray, " M"]) -> "Triplets":
        """Returns triplets whose images are positions in ``rows`` with the rows themselves instead."""
        return Triplets(rows[self.reference], rows[self.positive], rows[self.negative], self.indicators)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.reference, self.positive, self.negative, self.indicators


def generate_triplets(
    labels: Int[np.ndarray, "M N"],
    schema: AttributeSchema,
    *,
    count: int,
    kinds: Collection[Kind] = ("swap", "add"),
    num_changes: int = 1,
    seed: int = 0,
) -> Triplets:
    """Generates random triplets whose change leads to labels that some image has.

    The reference is drawn uniformly from the images that have such a change, the change uniformly from the
    changes of the reference, the positive uniformly from the images with the labels that the change leads
    to, and the negative uniformly from the images with any other labels.

    Args:
      labels: [M, N], the labels of the images; -1: not labelled.
      schema: the attributes.
      count: T, the number of triplets.
      kinds: the kinds of changes, see ``generate_queries``.
      num_changes: the number of attributes that change at once.
      seed: the seed of all draws.

    Raises:
      DataError: no image has the labels of another with that many attributes changed.
      ValueError: a kind is unknown, num_changes is out of range, or the labels do not fit the schema.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> triplets = generate_triplets(np.array([[0], [0], [1]]), schema, count=2)
      >>> triplets.indicators.shape
      (2, 2)
    """
    check_labels(labels, schema)
    rows, row_of_image = np.unique(labels.astype(np.int32), axis=0, return_inverse=True)
    changes = existing_changes(rows, schema, kinds=kinds, num_changes=num_changes)
    if not len(changes.row):
        changed = count_in_words(num_changes)
        raise DataError(
            f"no triplet can be made: no training image has the labels of another with {changed} changed; "
            "use more images, fewer attributes (`schema`) or other `kinds` of changes, or train no memory",
            arguments=("schema", "kinds"),
        )
    rng = np.random.default_rng(seed)
    _, first, number = group_members(changes.row, len(rows))
    images, start, size = group_members(row_of_image, len(rows))

    sources = np.flatnonzero(number[row_of_image])
    reference = rng.choice(sources, count)
    of_row = row_of_image[reference]
    target = changes.target[first[of_row] + rng.integers(0, number[of_row])]
    positive = images[start[target] + rng.integers(0, size[target])]
    # Of the images in the order of their rows, all but the target's: a draw behind them skips them.
    other = rng.integers(0, len(labels) - size[target])
    negative = images[other + np.where(other >= start[target], size[target], 0)]

    indicators = indicators_between(rows[of_row], rows[target], schema)
    return Triplets(reference, positive, negative, indicators)
