"""The hit rates of a search at many weights per attribute, without a search for each."""

import dataclasses
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.replacement import replace_blocks
from gradrev_jax.core.vectors import unit_of_any_size
from gradrev_jax.core.workers import NUM_WORKERS
from gradrev_jax.evaluation.searching import HeldOut, Way

CHUNK = 256  # queries whose products are computed in one call


class _Chunk(NamedTuple):
    """Represents C queries; those of the last chunk that only fill it up are not real.

    Attributes:
      products: the products of each query with the gallery, by weight.
      target: the number of the labels that it asks for.
      excluded: the row of the gallery that is left out; -1: none.
      is_real: whether it counts.
    """

    products: Float[Array, "C W M"]
    target: Int[np.ndarray, " C"]
    excluded: Int[np.ndarray, " C"]
    is_real: Bool[np.ndarray, " C"]


@dataclasses.dataclass(frozen=True)
class WeightedHits:
    """The products of manipulated features with a gallery, kept apart by weight: W attributes, and the rest.

    With squared weights they add up to the distances at any weights, up to rounding: a choice needs no more.
    Whether a query finds a match among the first k is seen from how many rows are nearer than its nearest
    match, so nothing is sorted.

    Attributes:
      chunks: the products, some queries each.
      square_norms: the squared norms of the gallery's blocks, those of the rest added up, [M, W].
      group: the number of each image's row of labels, [M]; queries look for one of these numbers.
      normalize: how features are normalised.
      k: the number of neighbours of which one has to match.
    """

    chunks: tuple[_Chunk, ...]
    square_norms: Float[Array, "M W"]
    group: Int[np.ndarray, " M"]
    normalize: Normalization
    k: int

    @classmethod
    def of(cls, held_out: HeldOut, way: Way, k: int) -> "WeightedHits":
        """Multiplies manipulated features with their gallery; takes 4 bytes per query, image and weight.

        Args:
          held_out: the images and the queries.
          way: how they are compared and edited, whatever the weights.
          k: the number of neighbours.
        """
        features, queries = np.asarray(held_out.images, np.float32), held_out.queries
        num_attributes = held_out.schema.num_attributes
        gallery = _comparable(jnp.asarray(features), way.normalize)
        label_rows = np.concatenate([held_out.labels.astype(np.int32), queries.targets])
        group = np.unique(label_rows, axis=0, return_inverse=True)[1].reshape(-1)
        target = group[len(features) :]
        chunks = []
        size = max(1, min(CHUNK, len(queries)))  # all chunks alike, so that they share one program
        for start in range(0, len(queries), size):
            members = np.resize(np.arange(start, min(start + size, len(queries))), size)
            reference = queries.reference[members]
            edited = _edit(held_out, way, features[reference], queries.indicators[members])
            products = _products(_comparable(edited, way.normalize), gallery, num_attributes)
            excluded = reference if held_out.exclude_query else np.full(size, -1)
            is_real = start + np.arange(size) < len(queries)
            chunks.append(_Chunk(products, target[members], excluded, is_real))
        square_norms = _add_rest(jnp.square(gallery).sum(axis=-1), num_attributes)
        return cls(tuple(chunks), square_norms, group[: len(features)], way.normalize, k)

    def count(self, weights: Float[np.ndarray, "T W"]) -> Int[np.ndarray, " T"]:
        """Returns the number of queries that find a match, at each of T weights.

        Args:
          weights: the weights to try, [T, W]; see ``HeldOut.num_weights``.
        """
        squares = jnp.asarray(np.square(weights), jnp.float32)
        count = functools.partial(
            _count, self.square_norms, self.group, squares, k=self.k, normalize=self.normalize
        )
        with ThreadPoolExecutor(NUM_WORKERS) as pool:
            counts: Iterable[np.ndarray] = pool.map(lambda chunk: np.asarray(count(chunk)), self.chunks)
            return np.sum(list(counts), axis=0)


@functools.partial(jax.jit, static_argnames="normalize")
def _comparable(features: Float[Array, "*batch P d"], normalize: Normalization) -> Float[Array, "*batch P d"]:
    """Returns features of which each block is normalised, if it is to be, or all together."""
    if normalize == "attribute":
        return unit_of_any_size(features)
    if normalize == "none":
        return features
    # At any weights, the length before does not matter. With a length of 1, no product overflows.
    return unit_of_any_size(features.reshape(*features.shape[:-2], -1)).reshape(features.shape)


def _edit(
    held_out: HeldOut, way: Way, features: Float[np.ndarray, "C P d"], indicators: Int[np.ndarray, "C J"]
) -> Float[Array, "C P d"]:
    """Returns features edited as the images are to be."""
    if isinstance(way.edit, LearnedEdit):
        return way.edit(features, indicators, strength=way.strength)
    memory, absent = (jnp.asarray(x, jnp.float32) for x in held_out.prototypes)
    if way.edit == "add":
        return _manipulate(features, (way.strength * indicators).astype(np.float32), memory)
    return _replace_blocks(
        features,
        indicators.astype(np.float32),
        memory,
        held_out.schema.attribute_of,
        strength=way.strength,
        absent=absent,
    )


_manipulate, _replace_blocks = jax.jit(manipulate), jax.jit(replace_blocks)


@functools.partial(jax.jit, static_argnames="num_attributes")
def _products(
    edited: Float[Array, "C P d"], gallery: Float[Array, "M P d"], num_attributes: int
) -> Float[Array, "C W M"]:
    """Returns the products of manipulated features with a gallery, per attribute, and of all of the rest."""
    einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    own = einsum("cnd,mnd->cnm", edited[:, :num_attributes], gallery[:, :num_attributes])
    if edited.shape[1] == num_attributes:
        return own
    rest = einsum("cnd,mnd->cm", edited[:, num_attributes:], gallery[:, num_attributes:])
    return jnp.concatenate([own, rest[:, None]], axis=1)


def _add_rest(by_block: Float[Array, "M P"], num_attributes: int) -> Float[Array, "M W"]:
    """Returns the numbers of the attributes' blocks, and the sum of all of the rest, if there is any."""
    if by_block.shape[1] == num_attributes:
        return by_block
    own, rest = by_block[:, :num_attributes], by_block[:, num_attributes:]
    return jnp.concatenate([own, rest.sum(axis=1, keepdims=True)], axis=1)


@functools.partial(jax.jit, static_argnames=("k", "normalize"))
def _count(
    square_norms: Float[Array, "M W"],
    group: Int[Array | np.ndarray, " M"],
    squares: Float[Array, "T W"],
    chunk: _Chunk,
    *,
    k: int,
    normalize: Normalization,
) -> Int[Array, " T"]:
    """Returns the number of queries with a match among the first k, at each of T squared weights."""
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    norms = multiply(squares, square_norms.T)
    lengths = jnp.sqrt(jnp.where(norms > 0, norms, 1))
    position = jnp.arange(len(group))

    def is_hit(query: _Chunk) -> Bool[Array, " T"]:
        dots = multiply(squares, query.products)
        # What the squared distance adds to these is the same for all rows of a query.
        scores = -dots / lengths if normalize == "global" else norms - 2 * dots
        scores = jnp.where(position == query.excluded, jnp.inf, scores)
        nearest = jnp.where(group == query.target, scores, jnp.inf).min(axis=1)
        nearer = (scores < nearest[:, None]).sum(axis=1)
        return jnp.isfinite(nearest) & (nearer < k) & query.is_real

    return jax.lax.map(is_hit, chunk).sum(axis=0)
