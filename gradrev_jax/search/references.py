"""References of a search: features to manipulate, and their products with the gallery.

A block that an edit takes out has to leave the products of the reference, too. If each block is a part of its
own, its product is not added. Otherwise the product of the whole is f · g, and that of the block, which is
kept beside it, is subtracted again.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gradrev_jax.core.vectors import length
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.sums import (
    part_products,
    part_products_by_one_thread,
    whole_and_block_products,
    whole_and_block_products_by_one_thread,
)


class ReferenceRows(NamedTuple):
    """Represents R features in the two forms that a search reads them in.

    Attributes:
      weighted: [R, P, d], the features, not normalised, but weighted as the memory is.
      normalized: [R, P, d], the features as they are compared with the gallery's rows.
    """

    weighted: Float[Array, "R P d"]
    normalized: Float[Array, "R P d"]


class References(NamedTuple):
    """R features to manipulate, and what a search reads of them.

    Attributes:
      weighted: [R, P, d], the features, not normalised, but weighted as the memory is.
      normalized: [R, P, d], the features as they are compared with the gallery's rows.
      scales: [R, S], the factor by which the normalisation multiplied each part.
      norms: [R, P], the norms of the features' blocks.
      products: [S, R, G], the products of the features with the gallery's rows.
      blocks: [N, R, G], the products of the blocks that an edit may take out; None: they are parts of their
        own, or no edit takes any out.
    """

    weighted: Float[Array, "R P d"]
    normalized: Float[Array, "R P d"]
    scales: Float[Array, "R S"]
    norms: Float[Array, "R P"]
    products: Float[Array, "S R G"]
    blocks: Float[Array, "N R G"] | None = None


def make_references(
    products: GalleryProducts,
    rows: ReferenceRows,
    num_replaceable: int = 0,
    *,
    by_one_thread: bool = False,
) -> References:
    """Multiplies references with the gallery.

    Args:
      products: the products of the gallery.
      rows: the references.
      num_replaceable: the number of blocks, the first ones, that an edit may take out.
      by_one_thread: whether a CPU leaves other cores to other threads.
    """
    blocks, is_by_block = None, products.normalize == "attribute"
    if is_by_block or not num_replaceable:
        multiply = part_products_by_one_thread if by_one_thread else part_products
        with_gallery = multiply(rows.weighted, products.rows, by_block=is_by_block)
    else:
        multiply = whole_and_block_products_by_one_thread if by_one_thread else whole_and_block_products
        with_gallery, blocks = multiply(rows.weighted, products.rows, num_blocks=num_replaceable)
    scales, norms = _scales_and_norms(rows, len(with_gallery))
    return References(rows.weighted, rows.normalized, scales, norms, with_gallery, blocks)


@functools.partial(jax.jit, static_argnames="parts")
def _scales_and_norms(rows: ReferenceRows, parts: int) -> tuple[Float[Array, "R S"], Float[Array, "R P"]]:
    """Returns the factor that each part was in fact scaled by, with its rounding, and the blocks' norms."""
    before, after = (x.reshape(len(x), parts, -1) for x in rows)
    position = jnp.abs(before).argmax(axis=-1, keepdims=True)  # the largest entry gives the best quotient
    largest = jnp.take_along_axis(before, position, axis=-1)[..., 0]
    scales = jnp.take_along_axis(after, position, axis=-1)[..., 0] / jnp.where(largest == 0, 1, largest)
    return scales, length(rows.weighted)
