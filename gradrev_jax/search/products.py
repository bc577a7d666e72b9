"""Products of a gallery with references and prototypes, which rank it for manipulated features (Eq. 7).

A feature has P blocks of width d: those of the N attributes, and others after them, if any. A *part* is the
share of a feature that one factor normalises: one block if each block is normalised by itself (S = P parts),
otherwise the whole feature (S = 1 part). In part s, a manipulated and normalised feature is
``scales[s] * (f + sum of factors[c] * memory[values[c]])``, so its products with the gallery are sums of the
products of f and of the memory.

Weights per block that apply before the normalisation are multiplied into features and memory when these
are read; those that apply after it, into the scales and the gallery's rows. Everything below is therefore an
unweighted search over rescaled numbers, with the same error bounds. Scaled, the weights keep a normalised row
at a length of at most 1.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.normalization import Normalization, normalize_scaled, weigh_features
from gradrev_jax.core.vectors import length
from gradrev_jax.search.sums import short_sums, square_norms
from gradrev_jax.search.table_layout import nonzero_parts, pad_lists, place_parts

# The bytes of the gallery that are prepared per step. On a CPU a step fits its cache, and reuses its memory;
# another device waits for the transfer of each step, so its steps are few and large.
ROWS_BYTES, DEVICE_ROWS_BYTES = 2**22, 2**28


class NotComparableError(ValueError):
    """Features or prototypes cannot be compared: not finite, too small, or zero and to be normalised."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GalleryProducts:
    """Represents a gallery and a memory as a search reads them; the prototypes have E nonzero parts in all.

    Attributes:
      rows: [G, P, d], the normalised gallery.
      square_norms: [G], the squared norms of the rows.
      largest: the norm of the longest row.
      memory: [J, P, d], the prototypes, multiplied by the weights that apply before the normalisation.
      memory_norms: [J, P], the norms of the prototypes' blocks.
      table: [E + 1, G], the products of the prototypes' nonzero parts with the rows; the last row is zero.
      part: [E + 1], the part that each table row belongs to.
      entries: [J, L], the table rows of each prototype, padded with E.
      normalize: the normalisation of features after a manipulation, which was applied to the rows.
      weights: [P], the scaled weights of the blocks; None: all 1.
    """

    rows: Float[Array, "G P d"]
    square_norms: Float[Array, " G"]
    largest: Float[Array, ""]
    memory: Float[Array, "J P d"]
    memory_norms: Float[Array, "J P"]
    table: Float[Array, "E1 G"]
    part: Int[Array, " E1"]
    entries: Int[Array, "J L"]
    normalize: Normalization = dataclasses.field(metadata={"static": True})
    weights: Float[Array, " P"] | None = None


def gallery_products(
    features: Float[Array | np.ndarray, "G P d"],
    memory: Float[Array | np.ndarray, "J P d"],
    normalize: Normalization,
    weights: Float[np.ndarray, " P"] | None = None,
) -> GalleryProducts:
    """Normalises a gallery and multiplies it with a memory, leaving out zero blocks (most, in Eq. 6).

    The gallery is read once, some rows at a time: of a NumPy array or a memory-mapped file, only the
    normalised rows are held in addition.

    Args:
      features: [G, P, d], the gallery, not normalised.
      memory: [J, P, d], the prototypes.
      normalize: the normalisation of the features; see ``normalize_features``.
      weights: [P], the scaled weights of the blocks; None: all 1.
    """
    dtype = jnp.promote_types(jnp.result_type(features, memory), jnp.float32)
    factors = None if weights is None else jnp.asarray(weights, dtype)
    memory = weigh_features(jnp.asarray(memory, dtype), normalize, factors)
    on_host: np.ndarray = np.asarray(memory)  # where no choice of rows takes a program of its own
    filled, value, part = nonzero_parts(on_host, normalize)
    # The nonzero blocks of the prototypes, attribute after attribute, and which of them each table row sums.
    prototypes = tuple(on_host[is_filled, n] for n, is_filled in enumerate(filled.T))
    block, block_value = np.nonzero(filled.T)
    summands = [
        np.flatnonzero((block_value == v) & ((normalize != "attribute") | (block == n)))
        for v, n in zip(value, part, strict=True)
    ]
    sources = pad_lists([*summands, np.zeros(0, int)], len(block))

    count = len(features)
    arrays = _zeros(((count, *memory.shape[1:]), (count,), (len(value) + 1, count)), dtype)
    step_bytes = ROWS_BYTES if jax.default_backend() == "cpu" else DEVICE_ROWS_BYTES
    step = min(count, max(1, step_bytes // (memory.nbytes // len(memory) or 1)))
    for start in range(0, count, step):
        # The last step repeats rows of the one before, so that all have one size and share one program.
        start = min(start, count - step)
        rows = jnp.asarray(features[start : start + step], dtype)
        arrays = _add_rows(arrays, rows, start, prototypes, sources, normalize, factors)
    rows, norms, table = arrays
    layout = place_parts(value, part, len(memory))
    return GalleryProducts(
        rows,
        norms,
        jax.device_put(np.sqrt(np.asarray(norms).max())),
        memory,
        jax.jit(length)(memory),
        table,
        jax.device_put(layout[0]),
        jax.device_put(layout[1]),
        normalize,
        factors,
    )


def check_gallery(shards: Sequence[GalleryProducts]) -> None:
    """Raises unless a gallery and its memory can be compared.

    All rows must have been normalised, save for attributes of weight 0, and the memory must be finite.
    Without a normalisation features are compared as they are, so the squares of their differences must
    neither overflow nor underflow; features that are normalised may be as long as ``edits.longest`` says.

    Args:
      shards: the products of the gallery, or of its parts in order, with the same memory.

    Raises:
      NotComparableError: some rows are zero or not finite (the message has the first row of the gallery, and
        their number), a prototype is not finite (the first value), or the features are too small (the limit).
    """
    normalize = shards[0].normalize
    norms = np.concatenate([np.asarray(products.square_norms) for products in shards])
    most = float(np.finfo(norms.dtype).max) ** 0.5
    limit = f"; without a normalisation, none may be longer than {most:.2g}" if normalize == "none" else ""
    check_rows(np.isfinite(norms), np.concatenate([*map(_are_zero, shards)]), normalize, limit)
    bad = ~np.isfinite(np.asarray(shards[0].memory_norms)).all(axis=1)
    if bad.any():
        raise NotComparableError(
            f"the memory is not finite in the prototype of value {int(bad.argmax())} "
            f"({int(bad.sum())} such values of {len(bad)})"
        )
    least = float(np.finfo(norms.dtype).tiny) ** 0.25
    largest = max(float(products.largest) for products in shards)
    if normalize == "none" and largest < least and any((products.rows != 0).any() for products in shards):
        raise NotComparableError(
            f"the gallery's features are at most {largest:.2g} long; without a normalisation "
            f"the longest must have {least:.2g}: multiply features and memory by one factor"
        )


def _are_zero(products: GalleryProducts) -> Bool[np.ndarray, " G"]:
    """Returns which rows could not be normalised because they are zero."""
    norms, normalize = np.asarray(products.square_norms), products.normalize
    if normalize == "attribute" and products.weights is not None:
        # A block that is not zero adds w² / P, which may be less than the rounding error of the norm.
        return np.asarray(_have_zero_blocks(products.rows, products.weights))
    # Each block that is not zero adds 1 / P.
    least = {"global": 0.5, "attribute": 1 - 0.5 / products.rows.shape[1], "none": 0.0}[normalize]
    return norms < least


def check_rows(
    is_finite: Bool[np.ndarray, " G"], is_zero: Bool[np.ndarray, " G"], normalize: Normalization, limit: str
) -> None:
    """Raises if a row of a gallery is not finite, or is zero and was to be normalised.

    Args:
      is_finite: [G], which rows are finite.
      is_zero: [G], which rows could not be normalised.
      normalize: the normalisation that was applied.
      limit: the words on what is finite, at the end of that message.

    Raises:
      NotComparableError: there is one; the message has the first row and their number.
    """
    for bad, what in ((~is_finite, "not finite"), (is_zero, "zero")):
        if bad.any():
            where = " for an attribute" if what == "zero" and normalize == "attribute" else ""
            hint = ", so it has no direction to normalise" if what == "zero" else ""
            raise NotComparableError(
                f"the gallery's features are {what}{where} in row {int(bad.argmax())}{hint} "
                f"({int(bad.sum())} such rows of {len(bad)}){limit if what == 'not finite' else ''}"
            )


@jax.jit
def _have_zero_blocks(rows: Float[Array, "G P d"], weights: Float[Array, " P"]) -> Bool[Array, " G"]:
    """Returns which rows are zero for an attribute whose weight is not."""
    return ((rows == 0).all(axis=-1) & (weights > 0)).any(axis=-1)


@functools.partial(jax.jit, static_argnames=("shapes", "dtype"))
def _zeros(shapes: tuple[tuple[int, ...], ...], dtype: DTypeLike) -> tuple[Float[Array, "..."], ...]:
    """Returns arrays of zeros, by one program for all."""
    return tuple(jnp.zeros(shape, dtype) for shape in shapes)


@functools.partial(jax.jit, static_argnames="normalize", donate_argnames="arrays")
def _add_rows(
    arrays: tuple[Float[Array, "G P d"], Float[Array, " G"], Float[Array, "E1 G"]],
    features: Float[Array, "B P d"],
    start: Int[Array, ""] | int,
    prototypes: tuple[Float[Array, "_ d"], ...],
    sources: Int[Array | np.ndarray, "E1 T"],
    normalize: Normalization,
    weights: Float[Array, " P"] | None,
) -> tuple[Float[Array, "G P d"], Float[Array, " G"], Float[Array, "E1 G"]]:
    """Writes the normalised rows, their squared norms and their products from ``start`` on."""
    rows = normalize_scaled(features, normalize, weights).reshape(features.shape)
    by_block = [short_sums(blocks, rows[:, n]) for n, blocks in enumerate(prototypes)]
    products = jnp.concatenate([*by_block, jnp.zeros((1, len(rows)), rows.dtype)])
    # One after the other, because XLA would hold all of them to add them in one go.
    table = sum((products[source] for source in sources.T), jnp.zeros((len(sources), len(rows)), rows.dtype))
    update = jax.lax.dynamic_update_slice_in_dim
    return (
        update(arrays[0], rows, start, axis=0),
        update(arrays[1], square_norms(rows), start, axis=0),
        update(arrays[2], table, start, axis=1),
    )
