"""Sparse edits of references, and the manipulated features that they give (Eq. 7, or by replacement).

A search is asked with dense ``indicators`` [Q, J], of which ``Changes`` are made; ``Edits`` holds the nonzero
entries of these. For *parts*, see ``gradrev_jax.search.products``, and for blocks that an edit takes out,
``gradrev_jax.search.references``.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.vectors import length
from gradrev_jax.search.changes import Changes
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.references import References
from gradrev_jax.search.sums import (
    norm_operations,
    square_norms,
    sum_operations,
)

MAX_UNROLLED = 8  # edits per query up to which their additions are unrolled
FURTHER_ROUNDINGS = 8  # of a term of a score, at most: of factors, scales and the last difference


class Edits(NamedTuple):
    """The nonzero entries of ``Changes``: Q queries, each of which adds at most C rows of the memory.

    Attributes:
      position: [Q], the position of each query's reference among the ``References``.
      memory_rows: [Q, C], the memory's rows that are added.
      factors: [Q, C], the factor of each row that is added; 0 pads queries with fewer edits.
      replaced_blocks: [Q, B], the blocks that are taken out before; -1 pads queries with fewer of them. None:
        the edit takes nothing out.
    """

    position: Int[np.ndarray, " Q"]
    memory_rows: Int[np.ndarray, "Q C"]
    factors: Float[np.ndarray, "Q C"]
    replaced_blocks: Int[np.ndarray, "Q B"] | None = None

    def take(self, queries: Int[np.ndarray, " T"]) -> "Edits":
        """Returns the edits of some of the queries."""
        blocks = None if self.replaced_blocks is None else self.replaced_blocks[queries]
        return Edits(self.position[queries], self.memory_rows[queries], self.factors[queries], blocks)


def make_edits(position: Int[np.ndarray, " Q"], changes: Changes) -> Edits:
    """Collects the nonzero entries of changes.

    All queries get as many edits as the query with the most, rounded up to a power of two, so that few
    programs are compiled for any number of edits.

    Args:
      position: [Q], the position of each query's reference among the ``References``.
      changes: what the queries change.

    Example:
      >>> edits = make_edits(np.array([0, 0]), Changes(np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 1.0]])))
      >>> edits.memory_rows.tolist(), edits.factors.tolist()
      ([[1, 0], [0, 2]], [[2.0, 0.0], [-1.0, 1.0]])
    """
    additions, replaced = changes
    columns = _list_columns(additions != 0)
    rows = np.maximum(columns, 0)
    factors = np.where(columns < 0, 0, np.take_along_axis(additions, rows, axis=1)).astype(additions.dtype)
    return Edits(position, rows, factors, None if replaced is None else _list_columns(replaced))


def _list_columns(chosen: Bool[np.ndarray, "Q M"]) -> Int[np.ndarray, "Q C"]:
    """Returns the columns that each row chooses, ascending, padded with -1 to a power of two, or to M."""
    query, column = np.nonzero(chosen)
    counts = np.bincount(query, minlength=len(chosen))
    position = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = min(1 << max(int(counts.max(initial=0)) - 1, 0).bit_length(), chosen.shape[1])
    columns = np.full((len(chosen), most), -1, np.int32)
    columns[query, position] = column
    return columns


class ScoreTerms(NamedTuple):
    """Represents the terms whose sum is a query's product with each gallery row; several have a first axis.

    Attributes:
      scales: [S], the factor of the products of the reference's parts: that by which the normalisation
        multiplied each, or 0 where a part was taken out.
      entries: [E], the rows of ``GalleryProducts.table`` to add.
      entry_factors: [E], the factor of each of them.
      blocks: [B], the blocks whose products with the reference are added; None: there are no such blocks.
      block_factors: [B], the factor of each of them, below 0, because it takes the block out; 0 pads.
    """

    scales: Float[Array, "*Q S"]
    entries: Int[Array, "*Q E"]
    entry_factors: Float[Array, "*Q E"]
    blocks: Int[Array, "*Q B"] | None = None
    block_factors: Float[Array, "*Q B"] | None = None


class EditedFeatures(NamedTuple):
    """Manipulated references, and the terms of their products with a gallery.

    Attributes:
      vectors: [Q, P, d], the references, manipulated and normalised.
      square_norms: [Q], the squared norms of the vectors.
      terms: the terms of their products.
      errors: [Q], the error bound of |g|² - 2 q·g, computed from the terms, for any gallery row g.
    """

    vectors: Float[Array, "Q P d"]
    square_norms: Float[Array, " Q"]
    terms: ScoreTerms
    errors: Float[Array, " Q"]


@jax.jit
def apply_edits(products: GalleryProducts, references: References, edits: Edits) -> EditedFeatures:
    """Manipulates and normalises references.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edits: the blocks to take out, and the prototypes to add.
    """
    apply_one = functools.partial(_apply_one, products, references)
    if jax.default_backend() != "cpu" or len(edits.position) == 1:
        return jax.vmap(apply_one)(edits)
    return jax.lax.map(apply_one, edits)  # on a CPU, one query at a time stays in the cache


def _apply_one(products: GalleryProducts, references: References, edit: Edits) -> EditedFeatures:
    """Manipulates the reference of one query; ``edit`` and the result lack their first axis."""
    position, memory_rows, factors, replaced_blocks = edit
    features = references.weighted[position]
    is_kept = jnp.ones(len(features), bool)
    if replaced_blocks is not None:
        is_kept = (replaced_blocks[:, None] != jnp.arange(len(features))).all(axis=0)
        features = jnp.where(is_kept[:, None], features, 0)

    def add(c: Int[Array, ""], total: Float[Array, "P d"]) -> Float[Array, "P d"]:
        return total + factors[c] * products.memory[memory_rows[c]]

    features = jax.lax.fori_loop(0, len(factors), add, features, unroll=len(factors) <= MAX_UNROLLED)
    lengths = _part_lengths(features, products.normalize, products.weights)
    # One over such a length would be rounded to 0; NaN becomes an error. Memory and factors are finite.
    was_finite = jnp.isfinite(references.norms[position]).all()
    too_long = (lengths > longest(lengths.dtype, products.normalize)) & was_finite & _are_compared(products)
    lengths = jnp.where(too_long, jnp.nan, lengths)
    vector = (features.reshape(len(lengths), -1) / lengths[:, None]).reshape(features.shape)
    # A reference without edits keeps the bits of its gallery row, and so the distance 0 from it.
    untouched = is_kept.all() & (factors == 0).all()
    vector = jnp.where(untouched, references.normalized[position], vector)
    scales = jnp.where(untouched, references.scales[position], 1 / lengths)

    entries = products.entries[memory_rows].reshape(-1)
    entry_factors = jnp.repeat(factors, products.entries.shape[1]) * scales[products.part[entries]]
    part_scales, blocks, block_factors = scales, None, None
    if replaced_blocks is not None and references.blocks is None:
        part_scales = jnp.where(is_kept, scales, 0)
    elif replaced_blocks is not None:
        blocks = jnp.maximum(replaced_blocks, 0)
        block_factors = jnp.where(replaced_blocks < 0, 0, -scales[0])
    norm, error = square_norms(vector[None])[0], _error_bound(products, references, edit, is_kept, scales)
    terms = ScoreTerms(part_scales, entries, entry_factors, blocks, block_factors)
    return EditedFeatures(vector, norm, terms, error)


def _are_compared(products: GalleryProducts) -> Bool[Array, " S"] | bool:
    """Returns which parts are compared: those of weight 0 have an infinite length."""
    if products.normalize != "attribute" or products.weights is None:
        return True
    return products.weights > 0


def longest(dtype: DTypeLike, normalize: Normalization) -> float:
    """Returns the length up to which features can be manipulated: their squares, or one over it, are finite.

    Args:
      dtype: the dtype of the features.
      normalize: the normalisation of the features after the manipulation.
    """
    finfo = jnp.finfo(dtype)
    return float(finfo.max) ** 0.5 if normalize == "none" else 1 / float(finfo.tiny)


def _error_bound(
    products: GalleryProducts,
    references: References,
    edit: Edits,
    is_kept: Bool[Array, " P"],
    scales: Float[Array, " S"],
) -> Float[Array, ""]:
    r"""Bounds the rounding error of the score |g|² - 2 q·g of one query q, for any gallery row g.

    A sum of m products errs by at most m ε / 2 times the sum of their absolute values, whatever the order of
    the additions (Higham, 2002, 3.1). With L, the largest norm of a gallery row, and vectors over the blocks,

    .. math::
        \frac{\varepsilon}{2} \left(2 L \, \| s \, (m_f |f| + m_M |\Delta|) \| + m_g L^2\right)

    where f is the reference, Δ what the edit adds, s the scales, and each m counts roundings.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edit: the edit of one query.
      is_kept: [P], which blocks the edit does not take out.
      scales: [S], the factor by which the normalisation multiplied each part.
    """
    num_blocks, dim = references.weighted.shape[1:]
    # The absolute values before they cancel.
    of_reference, num_subtracted = references.norms[edit.position], 0
    if edit.replaced_blocks is not None and references.blocks is None:
        # Nothing of such a part is added, unless it is not finite: 0 times NaN is NaN, whatever bounds it.
        of_reference = jnp.where(is_kept | ~jnp.isfinite(of_reference), of_reference, 0)
    elif edit.replaced_blocks is not None:
        # A block whose product is subtracted from that of the whole counts twice.
        of_reference, num_subtracted = of_reference * (2 - is_kept), len(edit.replaced_blocks)
    factors = jnp.abs(edit.factors)
    of_additions = (factors[:, None] * products.memory_norms[edit.memory_rows]).sum(axis=0)

    num_terms = len(scales) + len(factors) * products.entries.shape[1] + num_subtracted
    shared_roundings = num_terms + len(factors) + FURTHER_ROUNDINGS
    block_roundings = sum_operations(dim) + num_blocks
    is_one_sum = len(scales) == 1 and references.blocks is None
    reference_roundings = sum_operations(num_blocks * dim) if is_one_sum else block_roundings
    reach = jnp.linalg.norm(
        (reference_roundings + shared_roundings) * (scales * of_reference)
        + (block_roundings + shared_roundings) * (scales * of_additions)
    )
    bound = 2 * reach * products.largest + (norm_operations(num_blocks, dim) + 4) * products.largest**2
    finfo = jnp.finfo(references.weighted.dtype)
    half_eps = 0.525 * finfo.eps  # 5 % more, for the rounding of the bound itself
    # Underflow may take the smallest normal number from each product, which matters to tiny features.
    num_sums = (1 + num_subtracted + factors.sum()) * (1 + jnp.abs(scales).max())
    return half_eps * bound + 4 * num_blocks * dim * float(finfo.tiny) * num_sums


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
