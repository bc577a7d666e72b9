"""Sparse edits of references, and the manipulated features that they give (Eq. 7).

A search is asked with dense ``indicators`` [Q, J]; ``Edits`` holds their nonzero entries. For *parts*, see
``gradrev_jax.search.products``.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.vectors import length
from gradrev_jax.search.products import GalleryProducts, norm_operations, part_products, square_norms

MAX_UNROLLED = 8  # edits per query up to which their additions are unrolled


class References(NamedTuple):
    """R features to manipulate, and what a search reads of them.

    Attributes:
      features: [R, N, d], the features, not normalised, but weighted as the memory is.
      rows: [R, N, d], the normalised features.
      scales: [R, S], the factor by which the normalisation multiplied each part.
      norms: [R, N], the norms of the features' blocks.
      products: [S, R, G], the products of the features with the gallery's rows.
    """

    features: Float[Array, "R N d"]
    rows: Float[Array, "R N d"]
    scales: Float[Array, "R S"]
    norms: Float[Array, "R N"]
    products: Float[Array, "S R G"]


def make_references(
    products: GalleryProducts,
    features: Float[Array, "R N d"],
    rows: Float[Array, "R N d"],
    normalize: Normalization,
) -> References:
    """Multiplies references with the gallery.

    Args:
      products: the products of the gallery.
      features: [R, N, d], the references, not normalised, but weighted as the memory is.
      rows: [R, N, d], the normalised references.
      normalize: the normalisation that was applied.
    """
    with_rows = part_products(features, products.rows, by_block=normalize == "attribute")
    scales, norms = _scales_and_norms(features, rows, len(with_rows))
    return References(features, rows, scales, norms, with_rows)


@functools.partial(jax.jit, static_argnames="parts")
def _scales_and_norms(
    features: Float[Array, "R N d"], rows: Float[Array, "R N d"], parts: int
) -> tuple[Float[Array, "R S"], Float[Array, "R N"]]:
    """Returns the factor that each part was in fact scaled by, with its rounding, and the blocks' norms."""
    before, after = (x.reshape(len(x), parts, -1) for x in (features, rows))
    position = jnp.abs(before).argmax(axis=-1, keepdims=True)  # the largest entry gives the best quotient
    largest = jnp.take_along_axis(before, position, axis=-1)[..., 0]
    scales = jnp.take_along_axis(after, position, axis=-1)[..., 0] / jnp.where(largest == 0, 1, largest)
    return scales, length(features)


class Edits(NamedTuple):
    """The nonzero entries of indicators: Q queries, each of which adds at most C prototypes to a reference.

    Attributes:
      reference: [Q], the position of each query's reference among the ``References``.
      values: [Q, C], the values whose prototypes are added.
      factors: [Q, C], the factor of each added prototype; 0 pads queries with fewer edits.
    """

    reference: Int[np.ndarray, " Q"]
    values: Int[np.ndarray, "Q C"]
    factors: Float[np.ndarray, "Q C"]

    def take(self, queries: Int[np.ndarray, " P"]) -> "Edits":
        """Returns the edits of some of the queries."""
        return Edits(*(field[queries] for field in self))


def make_edits(reference: Int[np.ndarray, " Q"], indicators: Float[np.ndarray, "Q J"]) -> Edits:
    """Collects the nonzero entries of indicators.

    All queries get as many edits as the query with the most, rounded up to a power of two, so that few
    programs are compiled for any number of edits.

    Args:
      reference: [Q], the position of each query's reference among the ``References``.
      indicators: [Q, J], the indicators, multiplied by the strength.

    Example:
      >>> edits = make_edits(np.array([0, 0]), np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 1.0]]))
      >>> edits.values.tolist(), edits.factors.tolist()
      ([[1, 0], [0, 2]], [[2.0, 0.0], [-1.0, 1.0]])
    """
    query, value = np.nonzero(indicators)
    counts = np.bincount(query, minlength=len(indicators))
    position = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = min(1 << max(int(counts.max(initial=0)) - 1, 0).bit_length(), indicators.shape[1])
    shape = len(indicators), most
    values, factors = np.zeros(shape, np.int32), np.zeros(shape, indicators.dtype)
    values[query, position], factors[query, position] = value, indicators[query, value]
    return Edits(reference, values, factors)


class EditedFeatures(NamedTuple):
    """Manipulated references, and the table rows whose sums are their products with a gallery.

    Attributes:
      vectors: [Q, N, d], the references, manipulated and normalised.
      square_norms: [Q], the squared norms of the vectors.
      scales: [Q, S], the factor by which the normalisation multiplied each part.
      entries: [Q, C * P], the rows of ``GalleryProducts.table`` to add.
      entry_factors: [Q, C * P], the factor of each row in ``entries``.
      errors: [Q], the error bound of |g|² - 2 q·g, computed from the table, for any gallery row g.
    """

    vectors: Float[Array, "Q N d"]
    square_norms: Float[Array, " Q"]
    scales: Float[Array, "Q S"]
    entries: Int[Array, "Q CP"]
    entry_factors: Float[Array, "Q CP"]
    errors: Float[Array, " Q"]


@functools.partial(jax.jit, static_argnames="normalize")
def apply_edits(
    products: GalleryProducts, references: References, edits: Edits, normalize: Normalization
) -> EditedFeatures:
    """Manipulates and normalises references.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edits: the prototypes to add.
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
    reference, values, factors = edits
    features = references.features[reference]
    num_blocks, dim = features.shape

    def add(c: Int[Array, ""], total: Float[Array, "N d"]) -> Float[Array, "N d"]:
        return total + factors[c] * products.memory[values[c]]

    features = jax.lax.fori_loop(0, len(values), add, features, unroll=len(values) <= MAX_UNROLLED)
    # A reference without edits keeps the bits of its gallery row, and so the distance 0 from it.
    untouched = (factors == 0).all()
    lengths = _part_lengths(features, normalize, products.weights)
    vector = features.reshape(len(lengths), -1) / lengths[:, None]
    vector = jnp.where(untouched, references.rows[reference], vector.reshape(features.shape))
    scales = jnp.where(untouched, references.scales[reference], 1 / lengths)

    entries = products.entries[values].reshape(-1)
    entry_factors = jnp.repeat(factors, products.entries.shape[1]) * scales[products.part[entries]]

    # A sum of m products errs by at most m eps / 2 times the sum of their absolute values, whatever the order
    # of the additions (Higham, 2002, 3.1). Here m counts the d products of a block, the N blocks, the parts,
    # a few roundings per edit, and a few more. ``reach`` bounds these absolute values, before they cancel.
    reach = references.norms[reference]
    reach += (jnp.abs(factors)[:, None] * products.memory_norms[values]).sum(axis=0)
    reach = jnp.linalg.norm(scales * reach)
    largest = products.largest
    operations = dim + num_blocks + len(scales) + 4 * len(values) + 16
    errors = 2 * operations * reach * largest + (norm_operations(num_blocks, dim) + 4) * largest**2
    half_eps = 0.525 * jnp.finfo(vector.dtype).eps  # 5 % more, for the rounding of the bound itself
    # Underflow may take the smallest normal number from each product, which matters to tiny features.
    terms = (1 + jnp.abs(factors).sum()) * (1 + jnp.abs(scales).max())
    errors = half_eps * errors + 4 * num_blocks * dim * float(jnp.finfo(vector.dtype).tiny) * terms
    return EditedFeatures(vector, square_norms(vector[None])[0], scales, entries, entry_factors, errors)


def _part_lengths(
    features: Float[Array, "N d"], normalize: Normalization, weights: Float[Array, " N"] | None
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
