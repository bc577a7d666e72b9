"""Products of a gallery with references and prototypes, and the search that adds them up (Eq. 7).

A *part* is what shares one factor of the normalisation: one attribute's block where each is normalised by
itself (S = N parts), else the whole feature (S = 1 part). A manipulated and normalised feature is, in part s,
``scales[s] * (f + sum of edits[v] * memory[v])``: its products with the gallery are sums of those of f and of
the memory.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.manipulation import Normalization, manipulate, normalize_features
from gradrev_jax.retrieval import SPARE_CANDIDATES, TILE_BYTES, nearest_of

CACHE_BYTES = 2**22  # a CPU measures candidates fastest while they are in its cache


class GalleryProducts(NamedTuple):
    """What a search reads of a gallery and a memory; E parts of prototypes are not zero.

    Attributes:
      rows: [G, N, d], normalised.
      square_norms: [G], of the rows.
      memory: [J, N, d].
      table: [E + 1, G], products of the prototypes' parts with the rows; the last is of none, and 0.
      part: [E + 1], which part of its prototype each is of.
      entries: [J, P], rows of the table that each prototype has, E where it has fewer.
    """

    rows: Float[Array, "G N d"]
    square_norms: Float[Array, " G"]
    memory: Float[Array, "J N d"]
    table: Float[Array, "E1 G"]
    part: Int[Array, " E1"]
    entries: Int[Array, "J P"]


class Edited(NamedTuple):
    """Manipulated references: before their normalisation [Q, N, d], and after it [Q, N * d]."""

    features: Float[Array, "Q N d"]
    vectors: Float[Array, "Q D"]


def gallery_products(
    features: Float[Array, "G N d"], memory: Float[Array, "J N d"], normalize: Normalization
) -> GalleryProducts:
    """Normalise a gallery and multiply it with a memory, whose zero blocks (most, in Eq. 6) are left out."""
    rows = _normalized(features, normalize)
    filled = np.asarray((memory != 0).any(axis=-1))
    if normalize == "attribute":
        part, value = np.nonzero(filled.T)
        tables = [
            part_products(memory[value[part == n], n][:, None], rows[:, n][:, None])[0]
            for n in np.unique(part)
        ]
    else:
        value = np.flatnonzero(filled.any(axis=1))
        part = np.zeros_like(value)
        tables = [part_products(memory[value], rows)[0]]
    table = jnp.concatenate([*tables, jnp.zeros((1, len(rows)), rows.dtype)])
    return GalleryProducts(
        rows,
        _square_norms(rows),
        memory,
        table,
        jnp.asarray(np.append(part, 0)),
        jnp.asarray(_entries(value, len(memory))),
    )


def _entries(value: Int[np.ndarray, " E"], num_values: int) -> Int[np.ndarray, "J P"]:
    """Positions of each value in the list, padded with one past its end."""
    positions = [np.flatnonzero(value == v) for v in range(num_values)]
    padded = np.full((num_values, max(map(len, positions), default=0)), len(value))
    for row, found in zip(padded, positions, strict=True):
        row[: len(found)] = found
    return padded


@functools.partial(jax.jit, static_argnames="how")
def _normalized(features: Float[Array, "G N d"], how: Normalization) -> Float[Array, "G N d"]:
    return normalize_features(features, how).reshape(features.shape)


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


@functools.partial(jax.jit, static_argnames="normalize")
def edit(
    features: Float[Array, "Q N d"],
    edits: Float[Array, "Q J"],
    memory: Float[Array, "J N d"],
    normalize: Normalization,
) -> Edited:
    """The manipulated features themselves. Their bits are final: what follows reads them as they are."""
    edited = manipulate(features, edits, memory)
    return Edited(edited, normalize_features(edited, normalize))


# Several threads search at a time (see ManipulationIndex), so on a CPU none needs helpers of its own.
@functools.partial(
    jax.jit,
    static_argnames=("k", "changes", "spare"),
    compiler_options={"xla_cpu_multi_thread_eigen": False},
)
def measure(
    products: GalleryProducts,
    references: Float[Array, "R N d"],
    reference_products: Float[Array, "S R G"],
    reference: Int[Array, " Q"],
    edits: Float[Array, "Q J"],
    edited: Edited,
    k: int,
    changes: int,
    spare: int = SPARE_CANDIDATES,
) -> tuple[Int[Array, "Q k"], Float[Array, "Q k"], Bool[Array, " Q"]]:
    """The k nearest rows of each edited reference, their distances, and whether they are certified.

    Args:
      products: of the gallery and the memory.
      references: [R, N, d].
      reference_products: [S, R, G], of the references with the rows.
      reference: [Q], which of them each query edits.
      edits: [Q, J], indicators times strength.
      edited: the result, see ``edit``.
      k: neighbours wanted.
      changes: how many values a query edits at most; each costs an addition a row.
      spare: how many candidates besides are measured; more of them certify more queries.
    """
    rows = products.rows.reshape(len(products.rows), -1)
    count, width = rows.shape
    eps = jnp.finfo(rows.dtype).eps
    num_candidates = min(count, k + spare)
    scales = _scales(edited, len(reference_products))
    entries, factors = _table_rows(products, edits, scales, changes)
    square_norms = _square_norms(edited.vectors.reshape(edited.features.shape))
    errors = _rounding_errors(products, references, reference, edits, scales)

    def search(
        query: tuple[Array, ...],
    ) -> tuple[Int[Array, " k"], Float[Array, " k"], Bool[Array, ""]]:
        vector, square_norm, scale, row, entry, factor, error = query
        terms = [scale[s] * reference_products[s, row] for s in range(len(scale))]
        terms += [factor[e] * products.table[entry[e]] for e in range(len(entry))]
        dots = functools.reduce(jnp.add, terms)
        scores = products.square_norms - 2 * dots
        scores = jnp.nan_to_num(scores, nan=jnp.inf, posinf=jnp.inf, neginf=-jnp.inf)
        negated, candidates = jax.lax.top_k(-scores, num_candidates)
        squares = jnp.square(rows[candidates] - vector).sum(axis=-1)
        indices, nearest = nearest_of(candidates, squares, k)
        if num_candidates == count:
            return indices, nearest, jnp.array(True)
        # The least that a row which is no candidate can measure, as in nearest_neighbors.
        # The minimum, not [-1]: XLA sorts the whole gallery where a slice other than the first k is read.
        bound = square_norm - negated.min() - error
        return indices, nearest, nearest[-1] < bound * (1 - (width + 4) * eps)

    tile = CACHE_BYTES if jax.default_backend() == "cpu" else TILE_BYTES
    at_once = max(1, tile // (rows.dtype.itemsize * max(num_candidates * width, scales.shape[1] * count)))
    queries = (edited.vectors, square_norms, scales, reference, entries, factors, errors)
    indices, squares, certified = jax.lax.map(search, queries, batch_size=at_once)
    return indices, jnp.sqrt(squares), certified


def _table_rows(
    products: GalleryProducts, edits: Float[Array, "Q J"], scales: Float[Array, "Q S"], changes: int
) -> tuple[Int[Array, "Q C"], Float[Array, "Q C"]]:
    """Which rows of the table each query adds, and how often: those of at most so many changed values."""
    values = jax.lax.top_k((edits != 0).astype(jnp.int32), changes)[1]
    entries = products.entries[values].reshape(len(edits), -1)
    factors = jnp.repeat(jnp.take_along_axis(edits, values, axis=1), products.entries.shape[1], axis=1)
    return entries, factors * jnp.take_along_axis(scales, products.part[entries], axis=1)


def _scales(edited: Edited, parts: int) -> Float[Array, "Q S"]:
    """The factor by which each part was really scaled: at its largest entry, whatever its norm's rounding."""
    before = edited.features.reshape(len(edited.features), parts, -1)
    after = edited.vectors.reshape(before.shape)
    at = jnp.abs(before).argmax(axis=-1, keepdims=True)
    largest = jnp.take_along_axis(before, at, axis=-1)[..., 0]
    return jnp.take_along_axis(after, at, axis=-1)[..., 0] / jnp.where(largest == 0, 1, largest)


def _rounding_errors(
    products: GalleryProducts,
    references: Float[Array, "R N d"],
    reference: Int[Array, " Q"],
    edits: Float[Array, "Q J"],
    scales: Float[Array, "Q S"],
) -> Float[Array, " Q"]:
    """How far a computed |g|² - 2 q·g can lie from that of the measured q, for any row of the gallery.

    Sums of m products err by at most m eps / 2 of their largest terms, in whatever order they are added
    (Higham, 2002, 3.1). Here m counts a block's d products, the N blocks, the parts, a few roundings for
    each change, and a few more; eps, not its half, leaves room for the rounding of the bound itself.
    """
    _, num_blocks, dim = references.shape
    changes = (edits != 0).sum(axis=1)
    operations = dim + num_blocks + scales.shape[1] + 4 * changes + 16
    # The most that each block's terms can amount to before they cancel.
    reach = jnp.linalg.norm(references, axis=-1)[reference] + jnp.matmul(
        jnp.abs(edits), jnp.linalg.norm(products.memory, axis=-1), precision=jax.lax.Precision.HIGHEST
    )
    reach = jnp.linalg.norm(
        (scales[:, :, None] * reach.reshape(*scales.shape, -1)).reshape(reach.shape), axis=-1
    )
    largest = jnp.square(reach + jnp.sqrt(products.square_norms.max()))
    return operations.astype(largest.dtype) * jnp.finfo(largest.dtype).eps * largest


@jax.jit
def _square_norms(rows: Float[Array, "G N d"]) -> Float[Array, " G"]:
    """Squared norms, block after block as in ``part_products``."""
    start = jnp.zeros(len(rows), rows.dtype)

    def add(total: Float[Array, " G"], n: Int[Array, ""]) -> tuple[Float[Array, " G"], None]:
        return total + jnp.square(rows[:, n]).sum(axis=-1), None

    return jax.lax.scan(add, start, jnp.arange(rows.shape[1]))[0]
