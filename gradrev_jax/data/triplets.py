"""Training triplets for the memory: a reference, a change, an image that has it and one that has not."""

import dataclasses

import numpy as np
from jaxtyping import Int

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.data.queries import existing_changes, grouped, single_changes
from gradrev_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Triplets:
    """T training triplets.

    Attributes:
      reference: [T] row of the image that is manipulated.
      positive: [T] row of an image with exactly the labels that the manipulation asks for.
      negative: [T] row of an image with other labels.
      indicators: int8 [T, J], +1 at the value that is added, -1 at the one it replaces (Eq. 7).
    """

    reference: Int[np.ndarray, " T"]
    positive: Int[np.ndarray, " T"]
    negative: Int[np.ndarray, " T"]
    indicators: Int[np.ndarray, "T J"]

    def __len__(self) -> int:
        return len(self.reference)


def generate_triplets(
    labels: Int[np.ndarray, "M N"], schema: AttributeSchema, *, count: int, seed: int = 0
) -> Triplets:
    """Random triplets whose change leads to labels that some image has.

    The reference is drawn uniformly from the images that have such a change, the change uniformly from the
    reference's, the positive uniformly from the images with the labels asked for, and the negative
    uniformly from all whose labels are others.

    Args:
      labels: [M, N], -1 = not labelled.
      schema: the attributes.
      count: T.
      seed: of all draws.

    Raises:
      DataError: no image has the labels of another with one attribute changed.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> triplets = generate_triplets(np.array([[0], [0], [1]]), schema, count=2)
      >>> triplets.indicators.shape
      (2, 2)
    """
    rows, row_of_image = np.unique(labels.astype(np.int32), axis=0, return_inverse=True)
    changes = existing_changes(rows, schema)
    if not len(changes.row):
        raise DataError(
            "no triplet can be made: no training image has the labels of another with one attribute changed; "
            "use more images or fewer attributes (data.attributes), or leave 'memory' out of stages"
        )
    rng = np.random.default_rng(seed)
    by_row, first, number = grouped(changes.row, len(rows))
    images, start, size = grouped(row_of_image, len(rows))

    sources = np.flatnonzero(number[row_of_image])
    reference = rng.choice(sources, count)
    of_row = row_of_image[reference]
    change = by_row[first[of_row] + rng.integers(0, number[of_row])]
    target = changes.target[change]
    positive = images[start[target] + rng.integers(0, size[target])]
    # Of the images in the order of their rows, all but the target's: a draw behind them skips them.
    other = rng.integers(0, len(labels) - size[target])
    negative = images[other + np.where(other >= start[target], size[target], 0)]

    indicators, _ = single_changes(
        labels[reference], changes.attribute[change], changes.value[change], schema
    )
    return Triplets(reference, positive, negative, indicators)
