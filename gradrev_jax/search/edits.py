"""Manipulated features, and what their products with a gallery are made of (Eq. 7).

*Parts* are as in ``manipulation_products``.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.manipulation import Normalization
from gradrev_jax.core.vectors import length
from gradrev_jax.search.products import GalleryProducts, norm_operations, part_products, square_norms

UNROLLED = 8  # changes of a query, above it a loop adds them


class References(NamedTuple):
    """Features to manipulate, R of them, and what a search reads of them.

    Attributes:
      features: [R, N, d], not normalised.
      rows: [R, N, d], normalised.
      scales: [R, S], what the normalisation multiplied each part with.
      norms: [R, N], of the features' blocks.
      products: [S, R, G], of the features with the gallery's rows.
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
    """Multiply references with the gallery.

    Args:
      products: of the gallery.
      features: [R, N, d], not normalised.
      rows: [R, N, d], normalised.
      normalize: how.
    """
    found = part_products(features, products.rows, by_block=normalize == "attribute")
    scales, norms = _scales_and_norms(features, rows, len(found))
    return References(features, rows, scales, norms, found)


@functools.partial(jax.jit, static_argnames="parts")
def _scales_and_norms(
    features: Float[Array, "R N d"], rows: Float[Array, "R N d"], parts: int
) -> tuple[Float[Array, "R S"], Float[Array, "R N"]]:
    """The factor by which each part was really scaled, whatever its norm's rounding; and norms."""
    before, after = (x.reshape(len(x), parts, -1) for x in (features, rows))
    at = jnp.abs(before).argmax(axis=-1, keepdims=True)  # the largest entry tells it best
    largest = jnp.take_along_axis(before, at, axis=-1)[..., 0]
    scales = jnp.take_along_axis(after, at, axis=-1)[..., 0] / jnp.where(largest == 0, 1, largest)
    return scales, length(features)


class Changes(NamedTuple):
    """What queries do to their references, C changes each.

    Attributes:
      reference: [Q], the number of the reference.
      values: [Q, C], which prototypes are added.
      weights: [Q, C], how often; 0 where a query has fewer changes.
    """

    reference: Int[np.ndarray, " Q"]
    values: Int[np.ndarray, "Q C"]
    weights: Float[np.ndarray, "Q C"]

    def of(self, queries: Int[np.ndarray, " P"]) -> "Changes":
        """Those of some queries."""
        return Changes(*(each[queries] for each in self))


def make_changes(reference: Int[np.ndarray, " Q"], edits: Float[np.ndarray, "Q J"]) -> Changes:
    """The entries of edits that are not zero, as many for all as the fullest has, up to a power of two.

    Args:
      reference: [Q], the number of the reference that each query edits.
      edits: [Q, J], indicators times strength.

    Example:
      >>> changes = make_changes(np.array([0, 0]), np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 1.0]]))
      >>> changes.values.tolist(), changes.weights.tolist()
      ([[1, 0], [0, 2]], [[2.0, 0.0], [-1.0, 1.0]])
    """
    query, value = np.nonzero(edits)
    counts = np.bincount(query, minlength=len(edits))
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Few programs for any number of changes.
    most = min(1 << max(int(counts.max(initial=0)) - 1, 0).bit_length(), edits.shape[1])
    values, weights = np.zeros((len(edits), most), np.int32), np.zeros((len(edits), most), edits.dtype)
    values[query, place], weights[query, place] = value, edits[query, value]
    return Changes(reference, values, weights)


class Edited(NamedTuple):
    """Manipulated references, and what their products with a gallery are made of.

    Attributes:
      vectors: [Q, N, d], manipulated and normalised.
      square_norms: [Q], of the vectors.
      scales: [Q, S], what the normalisation multiplied each part with.
      entries: [Q, C], rows of ``GalleryProducts.table`` to add,
      factors: [Q, C], so often.
      errors: [Q], how far |g|² - 2 q·g computed of them can lie from that of the vector, for any row g.
    """

    vectors: Float[Array, "Q N d"]
    square_norms: Float[Array, " Q"]
    scales: Float[Array, "Q S"]
    entries: Int[Array, "Q C"]
    factors: Float[Array, "Q C"]
    errors: Float[Array, " Q"]


@functools.partial(jax.jit, static_argnames="normalize")
def edit(
    products: GalleryProducts, references: References, changes: Changes, normalize: Normalization
) -> Edited:
    """Manipulate and normalise references.

    Args:
      products: of the gallery and the memory.
      references: what is manipulated.
      changes: how; each costs an addition a row of the gallery.
      normalize: how features are normalised after the manipulation.
    """
    one = functools.partial(_edit_one, products, references, normalize)
    if jax.default_backend() != "cpu" or len(changes.reference) == 1:
        return jax.vmap(one)(changes)
    return jax.lax.map(one, changes)  # a CPU takes one after the other, in its cache


def _edit_one(
    products: GalleryProducts, references: References, normalize: Normalization, change: Changes
) -> Edited:
    """One manipulated reference; ``change`` and what is returned without their first axis."""
    reference, values, weights = change
    features = references.features[reference]
    num_blocks, dim = features.shape

    def add(c: Int[Array, ""], total: Float[Array, "N d"]) -> Float[Array, "N d"]:
        return total + weights[c] * products.memory[values[c]]

    features = jax.lax.fori_loop(0, len(values), add, features, unroll=len(values) <= UNROLLED)
    # What is not edited is the gallery's row to the bit, and so is 0 from it.
    untouched = (weights == 0).all()
    lengths = _lengths(features, normalize)
    vector = features.reshape(len(lengths), -1) / lengths[:, None]
    vector = jnp.where(untouched, references.rows[reference], vector.reshape(features.shape))
    scales = jnp.where(untouched, references.scales[reference], 1 / lengths)

    entries = products.entries[values].reshape(-1)
    factors = jnp.repeat(weights, products.entries.shape[1]) * scales[products.part[entries]]

    # Sums of m products err by at most m eps / 2 of their largest terms, in whatever order they are added
    # (Higham, 2002, 3.1). Here m counts a block's d products, the N blocks, the parts, a few roundings for
    # each change, and a few more. What a block's terms can amount to before they cancel:
    reach = references.norms[reference]
    reach += (jnp.abs(weights)[:, None] * products.memory_norms[values]).sum(axis=0)
    reach = jnp.linalg.norm(scales * reach)
    largest = products.largest
    operations = dim + num_blocks + len(scales) + 4 * len(values) + 16
    errors = 2 * operations * reach * largest + (norm_operations(num_blocks, dim) + 4) * largest**2
    unit = 0.525 * jnp.finfo(vector.dtype).eps  # half an eps, and room for the rounding of the bound itself
    # And each product may lose as much as the smallest number, which counts where features are as small.
    terms = (1 + jnp.abs(weights).sum()) * (1 + jnp.abs(scales).max())
    errors = unit * errors + 4 * num_blocks * dim * float(jnp.finfo(vector.dtype).tiny) * terms
    return Edited(vector, square_norms(vector[None])[0], scales, entries, factors, errors)


def _lengths(features: Float[Array, "N d"], normalize: Normalization) -> Float[Array, " S"]:
    """What each part is divided by, as ``normalize_features`` does."""
    if normalize == "none":
        return jnp.ones(1, features.dtype)
    parts = features if normalize == "attribute" else features.reshape(1, -1)
    norms = length(parts)
    return jnp.where(norms > 0, norms, 1) * len(parts) ** 0.5
