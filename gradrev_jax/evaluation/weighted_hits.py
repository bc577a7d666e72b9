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

from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.replacement import Edit
from gradrev_jax.core.vectors import unit_of_any_size
from gradrev_jax.data.queries import Queries
from gradrev_jax.search.batching import NUM_WORKERS

CHUNK = 256  # queries whose products are computed in one call


class HeldOut(NamedTuple):
    """Represents the images that a choice is made by, which are the gallery, and the queries asked of them.

    Attributes:
      features: the features of the images, [M, N, d].
      labels: their labels, [M, N], -1 = not labelled.
      memory: the prototypes, [J, N, d].
      queries: the queries whose gallery these images are.
      normalize: how features are normalised after the manipulation.
      exclude_query: whether the query image itself is left out of its result.
      edit: the kind of edits.
      attribute_of: the attribute of each value, [J]; ``replace`` alone needs it.
      absent: the block of an attribute whose value is removed without another, [N, d]; None: zeros.
    """

    features: Float[Array | np.ndarray, "M P d"]
    labels: Int[np.ndarray, "M N"]
    memory: Float[Array | np.ndarray, "J P d"]
    queries: Queries
    normalize: Normalization = "global"
    exclude_query: bool = False
    edit: Edit = "add"
    attribute_of: Int[np.ndarray, " J"] | None = None
    absent: Float[Array | np.ndarray, "N d"] | None = None


class _Chunk(NamedTuple):
    """Represents some queries: their products [C, N, M] with the gallery's blocks, and what they look for."""

    products: Float[Array, "C N M"]
    target: Int[np.ndarray, " C"]
    excluded: Int[np.ndarray, " C"]
    counts: Bool[np.ndarray, " C"]


@dataclasses.dataclass(frozen=True)
class WeightedHits:
    """The products of manipulated features with a gallery, kept apart by attribute.

    With squared weights they add up to the distances at any weights, up to rounding: a choice needs no more.
    Whether a query finds a match among the first k is seen from how many rows are nearer than its nearest
    match, so nothing is sorted.

    Attributes:
      chunks: the products, some queries each.
      square_norms: the squared norms of the gallery's blocks, [M, N].
      group: the number of each image's row of labels, [M]; queries look for one of these numbers.
      normalize: how features are normalised.
      k: the number of neighbours of which one has to match.
    """

    chunks: tuple[_Chunk, ...]
    square_norms: Float[Array, "M N"]
    group: Int[np.ndarray, " M"]
    normalize: Normalization
    k: int

    @classmethod
    def of(cls, held_out: HeldOut, strength: float, k: int) -> "WeightedHits":
        """Multiplies manipulated features with their gallery; takes 4 bytes per query, image and attribute.

        Args:
          held_out: the images and the queries.
          strength: the factor of the manipulations.
          k: the number of neighbours.
        """
        features, queries = np.asarray(held_out.features, np.float32), held_out.queries
        memory = jnp.asarray(held_out.memory, jnp.float32)
        gallery = _comparable(jnp.asarray(features), held_out.normalize)
        rows = np.concatenate([held_out.labels.astype(np.int32), queries.targets])
        group = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        target = group[len(features) :]
        chunks = []
        for start in range(0, len(queries), CHUNK):
            some = np.resize(np.arange(start, min(start + CHUNK, len(queries))), CHUNK)
            reference = queries.reference[some]
            indicators = (strength * queries.indicators[some]).astype(np.float32)
            products = _products(features[reference], indicators, memory, gallery, held_out.normalize)
            excluded = reference if held_out.exclude_query else np.full(CHUNK, -1)
            counts = start + np.arange(CHUNK) < len(queries)
            chunks.append(_Chunk(products, target[some], excluded, counts))
        square_norms = jnp.square(gallery).sum(axis=-1)
        return cls(tuple(chunks), square_norms, group[: len(features)], held_out.normalize, k)

    def count(self, weights: Float[np.ndarray, "T N"]) -> Int[np.ndarray, " T"]:
        """Returns the number of queries that find a match, at each of T weights.

        Args:
          weights: the weights to try, [T, N].
        """
        squares = jnp.asarray(np.square(weights), jnp.float32)
        count = functools.partial(
            _count, self.square_norms, self.group, squares, k=self.k, normalize=self.normalize
        )
        with ThreadPoolExecutor(NUM_WORKERS) as pool:
            counts: Iterable[np.ndarray] = pool.map(lambda chunk: np.asarray(count(chunk)), self.chunks)
            return np.sum(list(counts), axis=0)


def _comparable(features: Float[Array, "*batch N d"], normalize: Normalization) -> Float[Array, "*batch N d"]:
    """Returns features of which each block is normalised, if it is to be, or all together."""
    if normalize == "attribute":
        return unit_of_any_size(features)
    if normalize == "none":
        return features
    # At any weights, the length before does not matter. With a length of 1, no product overflows.
    return unit_of_any_size(features.reshape(*features.shape[:-2], -1)).reshape(features.shape)


@functools.partial(jax.jit, static_argnames="normalize")
def _products(
    features: Float[Array | np.ndarray, "C N d"],
    indicators: Float[Array | np.ndarray, "C J"],
    memory: Float[Array, "J N d"],
    gallery: Float[Array, "M N d"],
    normalize: Normalization,
) -> Float[Array, "C N M"]:
    """Returns the products of manipulated features with a gallery, block by block."""
    edited = _comparable(manipulate(features, indicators, memory), normalize)
    return jnp.einsum("cnd,mnd->cnm", edited, gallery, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=("k", "normalize"))
def _count(
    square_norms: Float[Array, "M N"],
    group: Int[Array | np.ndarray, " M"],
    squares: Float[Array, "T N"],
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
        return jnp.isfinite(nearest) & (nearer < k) & query.counts

    return jax.lax.map(is_hit, chunk).sum(axis=0)
