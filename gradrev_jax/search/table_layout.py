"""The places of a memory's nonzero parts in the table of ``GalleryProducts``."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.normalization import Normalization


def nonzero_parts(
    memory: Float[Array | np.ndarray, "J P d"], normalize: Normalization
) -> tuple[Bool[np.ndarray, "J P"], Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """Returns which blocks of a memory are not zero; and of each nonzero part, the value and the part.

    Args:
      memory: [J, P, d], the prototypes.
      normalize: the normalisation of the features.
    """
    filled = np.asarray((memory != 0).any(axis=-1))
    if normalize == "attribute":
        part, value = np.nonzero(filled.T)
    else:
        value = np.flatnonzero(filled.any(axis=1))
        part = np.zeros_like(value)
    return filled, value, part


def table_layout(
    memory: Float[Array | np.ndarray, "J P d"], normalize: Normalization
) -> tuple[Int[np.ndarray, " E1"], Int[np.ndarray, "J L"]]:
    """Returns ``part`` and ``entries`` of the products of a memory, see ``GalleryProducts``.

    Args:
      memory: [J, P, d], the prototypes, multiplied by the weights that apply before the normalisation.
      normalize: the normalisation of the features.

    Example:
      >>> part, entries = table_layout(np.array([[[1.0], [0.0]], [[2.0], [3.0]]]), "attribute")
      >>> part.tolist(), entries.tolist()
      ([0, 0, 1, 0], [[0, 3], [1, 2]])
    """
    _, value, part = nonzero_parts(memory, normalize)
    return place_parts(value, part, len(memory))


def place_parts(
    value: Int[np.ndarray, " E"], part: Int[np.ndarray, " E"], count: int
) -> tuple[Int[np.ndarray, " E1"], Int[np.ndarray, "J L"]]:
    """Returns ``part`` and ``entries`` of the products of a memory whose nonzero parts are known.

    Args:
      value: [E], the value of each nonzero part.
      part: [E], its part.
      count: the number of values, J.

    Example:
      >>> part, entries = place_parts(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
      >>> part.tolist(), entries.tolist()
      ([0, 0, 1, 0], [[0, 3], [1, 2]])
    """
    return np.append(part, 0), pad_lists([np.flatnonzero(value == v) for v in range(count)], len(value))


def pad_lists(lists: Sequence[Int[np.ndarray, " _"]], fill: int) -> Int[np.ndarray, "M L"]:
    """Returns lists of different lengths as the rows of one array, padded with ``fill``.

    Args:
      lists: the lists.
      fill: what stands behind the items of a shorter list.

    Example:
      >>> pad_lists([np.array([1]), np.array([2, 3])], 9).tolist()
      [[1, 9], [2, 3]]
    """
    padded = np.full((len(lists), max(map(len, lists), default=0)), fill)
    for row, items in zip(padded, lists, strict=True):
        row[: len(items)] = items
    return padded
