"""Products of a gallery with references and prototypes, by which manipulated features are ranked (Eq. 7).

A *part* is what shares one factor of the normalisation: one attribute's block where each is normalised by
itself (S = N parts), else the whole feature (S = 1 part). A manipulated and normalised feature is, in part s,
``scales[s] * (f + sum of edits[v] * memory[v])``: its products with the gallery are sums of those of f and of
the memory.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.manipulation import Normalization, normalize_features
from gradrev_jax.core.vectors import length

LANES = 16  # sums that run beside each other in a squared norm
# Of a gallery prepared at once. A CPU's cache holds the first, and memory is reused; other devices wait for
# each portion to be sent, so that few and large ones serve them.
ROWS_BYTES, DEVICE_ROWS_BYTES = 2**22, 2**28


class GalleryProducts(NamedTuple):
    """What a search reads of a gallery and a memory; E parts of prototypes are not zero.

    Attributes:
      rows: [G, N, d], normalised.
      square_norms: [G], of the rows.
      largest: the largest row's norm.
      memory: [J, N, d].
      memory_norms: [J, N], of the memory's blocks.
      table: [E + 1, G], products of the prototypes' parts with the rows; the last is of none, and 0.
      part: [E + 1], which part of its prototype each is of.
      entries: [J, P], rows of the table that each prototype has, E where it has fewer.
    """

    rows: Float[Array, "G N d"]
    square_norms: Float[Array, " G"]
    largest: Float[Array, ""]
    memory: Float[Array, "J N d"]
    memory_norms: Float[Array, "J N"]
    table: Float[Array, "E1 G"]
    part: Int[Array, " E1"]
    entries: Int[Array, "J P"]


def gallery_products(
    features: Float[Array | np.ndarray, "G N d"],
    memory: Float[Array | np.ndarray, "J N d"],
    normalize: Normalization,
) -> GalleryProducts:
    """Normalise a gallery and multiply it with a memory, whose zero blocks (most, in Eq. 6) are left out.

    The gallery passes through once, some rows at a time: of a NumPy array, or a file mapped into memory,
    only the normalised rows are held besides.
    """
    dtype = jnp.promote_types(jnp.result_type(features, memory), jnp.float32)
    memory = jnp.asarray(memory, dtype)
    filled = np.asarray((memory != 0).any(axis=-1))
    if normalize == "attribute":
        part, value = np.nonzero(filled.T)
    else:
        value = np.flatnonzero(filled.any(axis=1))
        part = np.zeros_like(value)
    # The prototypes that are not zero in a block, block by block, and which of them add up to a row.
    prototypes = tuple(memory[some, n] for n, some in enumerate(filled.T))
    block, of_value = np.nonzero(filled.T)
    terms = [
        np.flatnonzero((of_value == v) & ((normalize != "attribute") | (block == n)))
        for v, n in zip(value, part, strict=True)
    ]
    sources = _padded([*terms, np.zeros(0, int)], len(block))

    count = len(features)
    made = (
        jnp.zeros((count, *memory.shape[1:]), dtype),
        jnp.zeros(count, dtype),
        jnp.zeros((len(value) + 1, count), dtype),
    )
    allowed = ROWS_BYTES if jax.default_backend() == "cpu" else DEVICE_ROWS_BYTES
    at_once = min(count, max(1, allowed // (memory[0].nbytes or 1)))
    for start in range(0, count, at_once):
        start = min(start, count - at_once)  # the last rows, some of them once more: one program for all
        rows = jnp.asarray(features[start : start + at_once], dtype)
        made = _with_rows(made, rows, start, prototypes, sources, normalize)
    rows, norms, table = made
    return GalleryProducts(
        rows,
        norms,
        jnp.sqrt(norms.max()),
        memory,
        length(memory),
        table,
        jnp.asarray(np.append(part, 0)),
        jnp.asarray(_padded([np.flatnonzero(value == v) for v in range(len(memory))], len(value))),
    )


def check_rows(square_norms: Float[Array, " G"], normalize: Normalization, *, num_blocks: int) -> None:
    """Raise unless all rows of a gallery could be normalised.

    Args:
      square_norms: [G], of the normalised rows.
      normalize: how.
      num_blocks: N.

    Raises:
      ValueError: with the first such row's number, and how many there are.
    """
    norms: np.ndarray = np.asarray(square_norms)
    # Each attribute that is not zero adds 1 / N.
    least = {"global": 0.5, "attribute": 1 - 0.5 / num_blocks, "none": 0.0}[normalize]
    most = float(np.finfo(norms.dtype).max) ** 0.5
    limit = f"; without a normalisation, none may be longer than {most:.2g}" if normalize == "none" else ""
    for bad, what in ((~np.isfinite(norms), "not finite"), (norms < least, "zero")):
        if bad.any():
            where = " for an attribute" if what == "zero" and normalize == "attribute" else ""
            hint = ", so it has no direction to normalise" if what == "zero" else ""
            raise ValueError(
                f"the gallery's features are {what}{where} in row {int(bad.argmax())}{hint} "
                f"({int(bad.sum())} such rows of {len(norms)}){limit if what == 'not finite' else ''}"
            )


def check_sizes(products: GalleryProducts, normalize: Normalization) -> None:
    """Raises unless a memory is finite, and a gallery that is not normalised not too small.

    Normalised features may be of any size. Those that are not are compared as they are: below the limit the
    squares of their differences vanish, and above that of ``check_rows`` they overflow.

    Args:
      products: of the gallery and the memory.
      normalize: how.

    Raises:
      ValueError: with the first value whose prototype is not finite; or with the limit.
    """
    bad = ~np.isfinite(np.asarray(products.memory_norms)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"the memory is not finite in the prototype of value {int(bad.argmax())} "
            f"({int(bad.sum())} such values of {len(bad)})"
        )
    if normalize != "none":
        return
    least = float(jnp.finfo(products.rows.dtype).tiny) ** 0.25
    if products.largest < least and (products.rows != 0).any():
        raise ValueError(
            f"the gallery's features are at most {float(products.largest):.2g} long; without a normalisation "
            f"the longest must have {least:.2g}: multiply features and memory by one factor"
        )


@functools.partial(jax.jit, static_argnames="normalize", donate_argnames="made")
def _with_rows(
    made: tuple[Float[Array, "G N d"], Float[Array, " G"], Float[Array, "E1 G"]],
    features: Float[Array, "B N d"],
    start: Int[Array, ""] | int,
    prototypes: tuple[Float[Array, "_ d"], ...],
    sources: Int[Array | np.ndarray, "E1 T"],
    normalize: Normalization,
) -> tuple[Float[Array, "G N d"], Float[Array, " G"], Float[Array, "E1 G"]]:
    """What is made of a gallery, with that of some more rows."""
    rows = normalize_features(features, normalize).reshape(features.shape)
    by_block = [
        jnp.matmul(some, rows[:, n].T, precision=jax.lax.Precision.HIGHEST)
        for n, some in enumerate(prototypes)
    ]
    products = jnp.concatenate([*by_block, jnp.zeros((1, len(rows)), rows.dtype)])
    # One after the other: XLA would hold them all to sum them in one go.
    table = sum((products[some] for some in sources.T), jnp.zeros((len(sources), len(rows)), rows.dtype))
    update = jax.lax.dynamic_update_slice_in_dim
    return (
        update(made[0], rows, start, axis=0),
        update(made[1], square_norms(rows), start, axis=0),
        update(made[2], table, start, axis=1),
    )


def _padded(lists: Sequence[Int[np.ndarray, " _"]], fill: int) -> Int[np.ndarray, "M L"]:
    """Lists of different length as one array."""
    padded = np.full((len(lists), max(map(len, lists), default=0)), fill)
    for row, given in zip(padded, lists, strict=True):
        row[: len(given)] = given
    return padded


@functools.partial(jax.jit, static_argnames="by_block")
def part_products(
    vectors: Float[Array, "M N d"], rows: Float[Array, "G N d"], *, by_block: bool = False
) -> Float[Array, "S M G"]:
    """Products of every vector with every row: of each block (S = N), or of the whole (S = 1).

    Block after block either way: a sum of N sums of d products errs less than one of N * d.
    """

    def block(n: Int[Array, ""]) -> Float[Array, "M G"]:
        # Highest precision: TF32, a GPU's default, would need a bound a thousand times as wide.
        return jnp.matmul(vectors[:, n], rows[:, n].T, precision=jax.lax.Precision.HIGHEST)

    blocks = jnp.arange(rows.shape[1])
    if by_block:
        return jax.lax.map(block, blocks)
    start = jnp.zeros((len(vectors), len(rows)), rows.dtype)
    return jax.lax.scan(lambda total, n: (total + block(n), None), start, blocks)[0][None]


def square_norms(rows: Float[Array, "M N d"]) -> Float[Array, " M"]:
    """Squared norms, in three short sums instead of a long one, so that each errs by few roundings."""
    lanes = jnp.pad(jnp.square(rows), ((0, 0), (0, 0), (0, -rows.shape[-1] % LANES)))
    # XLA would make one sum of them, without the barriers.
    lanes = jax.lax.optimization_barrier(lanes.reshape(*rows.shape[:2], -1, LANES).sum(axis=2))
    blocks = jax.lax.optimization_barrier(lanes.sum(axis=2))
    return blocks.sum(axis=1)


def norm_operations(num_blocks: int, dim: int) -> int:
    """How many roundings a sum of ``square_norms`` passes through at most.

    Args:
      num_blocks: N.
      dim: d.

    Example:
      >>> norm_operations(12, 340)
      50
    """
    return LANES + -(-dim // LANES) + num_blocks
