"""Sparse edits of references, and the manipulated features that they give (Eq. 7, or by replacement).

A search is asked with dense ``indicators`` [Q, J], of which ``Changes`` are made; ``Edits`` holds the nonzero
entries of these. For *parts*, see ``gradrev_jax.search.products``.

A block that an edit takes out has to leave the products of the reference, too. If each block is a part of its
own, its product is not added. Otherwise the product of the whole is f · g, and that of the block, which is
kept beside it, is subtracted again.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.vectors import length
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.sums import (
    norm_operations,
    part_products,
    part_products_by_one_thread,
    square_norms,
    sum_operations,
    whole_and_block_products,
    whole_and_block_products_by_one_thread,
)

MAX_UNROLLED = 8  # edits per query up to which their additions are unrolled


class References(NamedTuple):
    """R features to manipulate, and what a search reads of them.

    Attributes:
      features: [R, P, d], the features, not normalised, but weighted as the memory is.
      rows: [R, P, d], the normalised features.
      scales: [R, S], the factor by which the normalisation multiplied each part.
      norms: [R, P], the norms of the features' blocks.
      products: [S, R, G], the products of the features with the gallery's rows.
      blocks: [N, R, G], the products of the blocks that an edit may take out; None: they are parts of their
        own, or no edit takes any out.
    """

    features: Float[Array, "R P d"]
    rows: Float[Array, "R P d"]
    scales: Float[Array, "R S"]
    norms: Float[Array, "R P"]
    products: Float[Array, "S R G"]
    blocks: Float[Array, "N R G"] | None = None


def make_references(
    products: GalleryProducts,
    features: Float[Array, "R P d"],
    rows: Float[Array, "R P d"],
    normalize: Normalization,
    num_replaceable: int = 0,
    *,
    by_one_thread: bool = False,
) -> References:
    """Multiplies references with the gallery.

    Args:
      products: the products of the gallery.
      features: [R, P, d], the references, not normalised, but weighted as the memory is.
      rows: [R, P, d], the normalised references.
      normalize: the normalisation that was applied.
      num_replaceable: the number of blocks, the first ones, that an edit may take out.
      by_one_thread: whether a CPU leaves other cores to other threads.
    """
    blocks = None
    if normalize == "attribute" or not num_replaceable:
        multiply = part_products_by_one_thread if by_one_thread else part_products
        with_rows = multiply(features, products.rows, by_block=normalize == "attribute")
    else:
        multiply = whole_and_block_products_by_one_thread if by_one_thread else whole_and_block_products
        with_rows, blocks = multiply(features, products.rows, num_blocks=num_replaceable)
    scales, norms = _scales_and_norms(features, rows, len(with_rows))
    return References(features, rows, scales, norms, with_rows, blocks)


@functools.partial(jax.jit, static_argnames="parts")
def _scales_and_norms(
    features: Float[Array, "R P d"], rows: Float[Array, "R P d"], parts: int
) -> tuple[Float[Array, "R S"], Float[Array, "R P"]]:
    """Returns the factor that each part was in fact scaled by, with its rounding, and the blocks' norms."""
    before, after = (x.reshape(len(x), parts, -1) for x in (features, rows))
    position = jnp.abs(before).argmax(axis=-1, keepdims=True)  # the largest entry gives the best quotient
    largest = jnp.take_along_axis(before, position, axis=-1)[..., 0]
    scales = jnp.take_along_axis(after, position, axis=-1)[..., 0] / jnp.where(largest == 0, 1, largest)
    return scales, length(features)


class Edits(NamedTuple):
    """The nonzero entries of ``Changes``: Q queries, each of which adds at most C rows of the memory.

    Attributes:
      reference: [Q], the position of each query's reference among the ``References``.
      values: [Q, C], the memory's rows that are added: values, by their prototypes, most often.
      factors: [Q, C], the factor of each row that is added; 0 pads queries with fewer edits.
      replaced: [Q, B], the blocks that are taken out before; -1 pads queries with fewer of them. None: the
        edit takes nothing out.
    """

    reference: Int[np.ndarray, " Q"]
    values: Int[np.ndarray, "Q C"]
    factors: Float[np.ndarray, "Q C"]
    replaced: Int[np.ndarray, "Q B"] | None = None

    def take(self, queries: Int[np.ndarray, " T"]) -> "Edits":
        """Returns the edits of some of the queries."""
        replaced = None if self.replaced is None else self.replaced[queries]
        return Edits(self.reference[queries], self.values[queries], self.factors[queries], replaced)


def make_edits(
    reference: Int[np.ndarray, " Q"],
    additions: Float[np.ndarray, "Q M"],
    replaced: Bool[np.ndarray, "Q N"] | None = None,
) -> Edits:
    """Collects the nonzero entries of the fields of ``Changes``.

    All queries get as many edits as the query with the most, rounded up to a power of two, so that few
    programs are compiled for any number of edits.

    Args:
      reference: [Q], the position of each query's reference among the ``References``.
      additions: [Q, M], the factor of each row of the memory: for Eq. 7, indicators times the strength.
      replaced: [Q, N], the blocks that are taken out; None: the edit takes nothing out.

    Example:
      >>> edits = make_edits(np.array([0, 0]), np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 1.0]]))
      >>> edits.values.tolist(), edits.factors.tolist()
      ([[1, 0], [0, 2]], [[2.0, 0.0], [-1.0, 1.0]])
    """
    columns = _list_columns(additions != 0)
    values = np.maximum(columns, 0)
    factors = np.where(columns < 0, 0, np.take_along_axis(additions, values, axis=1)).astype(additions.dtype)
    return Edits(reference, values, factors, None if replaced is None else _list_columns(replaced))


def _list_columns(chosen: Bool[np.ndarray, "Q M"]) -> Int[np.ndarray, "Q C"]:
    """Returns the columns that each row chooses, ascending, padded with -1 to a power of two, or to M."""
    query, column = np.nonzero(chosen)
    counts = np.bincount(query, minlength=len(chosen))
    position = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = min(1 << max(int(counts.max(initial=0)) - 1, 0).bit_length(), chosen.shape[1])
    columns = np.full((len(chosen), most), -1, np.int32)
    columns[query, position] = column
    return columns


class EditedFeatures(NamedTuple):
    """Manipulated references, and the table rows whose sums are their products with a gallery.

    Attributes:
      vectors: [Q, P, d], the references, manipulated and normalised.
      square_norms: [Q], the squared norms of the vectors.
      scales: [Q, S], the factor of the products of the reference's parts: that by which the normalisation
        multiplied each, or 0 where a part was taken out.
      entries: [Q, C * L], the rows of ``GalleryProducts.table`` to add.
      entry_factors: [Q, C * L], the factor of each row in ``entries``.
      errors: [Q], the error bound of |g|² - 2 q·g, computed from the table, for any gallery row g.
      blocks: [Q, B], the blocks whose products with the reference are added; None: there are no such blocks.
      block_factors: [Q, B], the factor of each of them, below 0, because it takes the block out; 0 pads.
    """

    vectors: Float[Array, "Q P d"]
    square_norms: Float[Array, " Q"]
    scales: Float[Array, "Q S"]
    entries: Int[Array, "Q CL"]
    entry_factors: Float[Array, "Q CL"]
    errors: Float[Array, " Q"]
    blocks: Int[Array, "Q B"] | None = None
    block_factors: Float[Array, "Q B"] | None = None


@functools.partial(jax.jit, static_argnames="normalize")
def apply_edits(
    products: GalleryProducts, references: References, edits: Edits, normalize: Normalization
) -> EditedFeatures:
    """Manipulates and normalises references.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edits: the blocks to take out, and the prototypes to add.
      normalize: the normalisation of the features after the manipulation.
    """
    apply_one = functools.partial(_apply_one, products, references, normalize)
    if jax.default_backend() != "cpu" or len(edits.reference) == 1:
        return jax.vmap(apply_one)(edits)
    return jax.lax.map(apply_one, edits)  # on a CPU, one query at a time stays in the cache


def _apply_one(
    products: GalleryProducts, references: References, normalize: Normalization, edits: Edits
) -> EditedFeatures:
    """Manipulates the reference of one query; ``edits`` and the result lack their first axis."""
    reference, values, factors, replaced = edits
    features = references.features[reference]
    num_blocks, dim = features.shape
    # A reference without edits keeps the bits of its gallery row, and so the distance 0 from it.
    untouched = (factors == 0).all()
    if replaced is not None:
        is_kept = (replaced[:, None] != jnp.arange(num_blocks)).all(axis=0)
        features = jnp.where(is_kept[:, None], features, 0)
        untouched = is_kept.all()

    def add(c: Int[Array, ""], total: Float[Array, "P d"]) -> Float[Array, "P d"]:
        return total + factors[c] * products.memory[values[c]]

    features = jax.lax.fori_loop(0, len(values), add, features, unroll=len(values) <= MAX_UNROLLED)
    lengths = _part_lengths(features, normalize, products.weights)
    vector = features.reshape(len(lengths), -1) / lengths[:, None]
    vector = jnp.where(untouched, references.rows[reference], vector.reshape(features.shape))
    scales = jnp.where(untouched, references.scales[reference], 1 / lengths)

    entries = products.entries[values].reshape(-1)
    entry_factors = jnp.repeat(factors, products.entries.shape[1]) * scales[products.part[entries]]

    # A sum of m products errs by at most m eps / 2 times the sum of their absolute values, whatever the order
    # of the additions (Higham, 2002, 3.1). Here m counts the roundings of the products of the reference or of
    # a prototype, one per term that a score adds and per edit of the vector, and a few of the factors.
    # ``reach`` bounds these absolute values, before they cancel: a block whose product is subtracted from
    # that of the whole counts twice.
    reach, num_terms = references.norms[reference], len(scales) + len(entries)
    part_scales, blocks, block_factors = scales, None, None
    if replaced is not None and references.blocks is None:
        # Nothing of such a part is added, unless it is not finite: 0 times NaN is NaN, whatever bounds it.
        reach = jnp.where(is_kept | ~jnp.isfinite(reach), reach, 0)
        part_scales = jnp.where(is_kept, scales, 0)
    elif replaced is not None:
        reach = reach * (2 - is_kept)
        num_terms += len(replaced)
        blocks, block_factors = jnp.maximum(replaced, 0), jnp.where(replaced < 0, 0, -scales[0])
    added = (jnp.abs(factors)[:, None] * products.memory_norms[values]).sum(axis=0)
    by_block, few = sum_operations(dim) + num_blocks, num_terms + len(values) + 8
    is_whole = len(scales) == 1 and references.blocks is None
    operations = sum_operations(num_blocks * dim) if is_whole else by_block
    reach = jnp.linalg.norm((operations + few) * (scales * reach) + (by_block + few) * (scales * added))
    largest = products.largest
    errors = 2 * reach * largest + (norm_operations(num_blocks, dim) + 4) * largest**2
    half_eps = 0.525 * jnp.finfo(vector.dtype).eps  # 5 % more, for the rounding of the bound itself
    # Underflow may take the smallest normal number from each product, which matters to tiny features.
    num_blocks_out = 0 if blocks is None else len(blocks)
    terms = (1 + num_blocks_out + jnp.abs(factors).sum()) * (1 + jnp.abs(scales).max())
    errors = half_eps * errors + 4 * num_blocks * dim * float(jnp.finfo(vector.dtype).tiny) * terms
    norm = square_norms(vector[None])[0]
    return EditedFeatures(vector, norm, part_scales, entries, entry_factors, errors, blocks, block_factors)


def _part_lengths(
    features: Float[Array, "P d"], normalize: Normalization, weights: Float[Array, " P"] | None
) -> Float[Array, " S"]:
    """Returns the number that each part is divided by, as in ``normalize_scaled``."""
    if normalize == "none":
        return jnp.ones(1, features.dtype)
    parts = features if normalize == "attribute" else features.reshape(1, -1)
    norms = length(parts)
    lengths = jnp.where(norms > 0, norms, 1) * len(parts) ** 0.5
    if normalize == "attribute" and weights is not None:
        # Its rounding does not set vectors and scales apart, because both are computed from this quotient.
        return jnp.where(weights > 0, lengths / weights, jnp.inf)
    return lengths
