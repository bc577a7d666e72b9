"""Exact search for manipulated features by the linearity of Eq. 7."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.manipulation import NORMALIZATIONS, Normalization
from gradrev_jax.manipulation_products import (
    GalleryProducts,
    edit,
    gallery_products,
    measure,
    part_products,
)
from gradrev_jax.retrieval import SPARE_CANDIDATES, Neighbors, nearest_neighbors

# Queries, and references, are padded to one of these numbers, so that few programs are compiled; more
# references than the last are taken in equal chunks, padded to a multiple of PADDING.
SIZES = (1, 16, 256)
REFERENCES_AT_ONCE, PADDING = 1024, 16
CHUNK_BYTES = 2**29  # bounds the products of references, and the scores of queries, held at a time
# Candidates besides the k that are measured at first, and for the queries that those do not certify. A CPU
# spends most of the search on measuring them, and a few certify nearly all.
SPARES = (12, SPARE_CANDIDATES)
WORKERS = os.cpu_count() or 1  # each searches a chunk of queries, most of which is no parallel work in itself


@dataclasses.dataclass(frozen=True)
class ManipulationIndex:
    r"""A gallery prepared for the search of manipulated features (Eq. 7).

    .. math::
        (f + \sum_v i_v M_v) \cdot g = f \cdot g + \sum_v i_v \, (M_v \cdot g)

    The products of the memory M with the gallery are computed once, and those of a reference once for all
    its queries: a manipulation costs a few additions a row, not a product with it.

    The result is exact: the rows that ``nearest_neighbors`` finds for the features that ``manipulate`` and
    ``normalize_features`` give, ascending, ties to the lower index. As there, the products only rank the
    gallery. A few more than k candidates are measured by a direct sum of (q - g)² from the really manipulated
    and normalised feature q, and a bound on the products' rounding error certifies that no other row can
    measure less; a query for which it does not is tried with more candidates, and at last left to
    ``nearest_neighbors``. Distances are those of direct sums, up to the order in which they are added.

    Attributes:
      features: [G, N, d], the gallery as it was given.
      products: what a search reads.
      normalize: how features are normalised after the manipulation.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)  # J = 2 values, N = 1, d = 2
      >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
      >>> index = ManipulationIndex.build(gallery, memory, schema)
      >>> red = index.search(reference_ids=np.array([0]), indicators=np.array([[-1, 1]]), k=2)
      >>> red.indices.tolist()
      [[1, 2]]
    """

    features: Float[Array, "G N d"]
    products: GalleryProducts
    normalize: Normalization

    @classmethod
    def build(
        cls,
        features: Float[Array | np.ndarray, "G N d"],
        memory: Float[Array | np.ndarray, "J N d"],
        schema: AttributeSchema,
        normalize: Normalization = "global",
    ) -> "ManipulationIndex":
        """Normalise a gallery and multiply it with a memory.

        Args:
          features: [G, N, d], not normalised.
          memory: [J, N, d] prototypes.
          schema: the attributes.
          normalize: how features are normalised after the manipulation; see ``normalize_features``.

        Raises:
          ValueError: an unknown normalisation, an empty gallery, shapes that disagree with the schema.
        """
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}")
        n, j = schema.num_attributes, schema.num_values
        if features.shape[1:2] != (n,) or memory.shape != (j, *features.shape[1:]) or not len(features):
            raise ValueError(
                f"features must be [G, {n}, d] with G > 0, and memory [{j}, {n}, d]; "
                f"got {features.shape} and {memory.shape}"
            )
        dtype = jnp.promote_types(jnp.result_type(features, memory), jnp.float32)
        features, memory = jnp.asarray(features, dtype), jnp.asarray(memory, dtype)
        return cls(features, gallery_products(features, memory, normalize), normalize)

    def search(
        self,
        *,
        reference_ids: Int[Array | np.ndarray, " Q"] | None = None,
        features: Float[Array | np.ndarray, "Q N d"] | None = None,
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        strength: float = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """The k gallery rows nearest to each manipulated reference.

        Args:
          reference_ids: [Q], gallery rows to manipulate; or
          features: [Q, N, d], features to manipulate, not normalised.
          indicators: [Q, J]; zeros leave the reference as it is.
          k: neighbours wanted.
          strength: how many prototypes are added and removed, f' = f + strength * (M i); 1 is Eq. 7.
          exclude_reference: whether the reference itself is left out of its result.

        Returns:
          Indices and distances, [Q, k].

        Raises:
          ValueError: k beyond the gallery (less one where the reference is excluded), a reference outside
            it, both or none of reference_ids and features, shapes that disagree.
        """
        if (reference_ids is None) == (features is None) or (features is not None and exclude_reference):
            raise ValueError("give reference_ids, or features without exclude_reference")
        num_rows, *block = self.features.shape
        allowed = num_rows - exclude_reference
        if not 1 <= k <= allowed:
            left = f", the query excluded, of {num_rows}" if exclude_reference else ""
            raise ValueError(f"k must lie between 1 and the gallery's {allowed} rows{left}, got {k}")
        if features is None:
            ids = np.asarray(reference_ids)
            outside = ids[(ids < 0) | (ids >= num_rows)]
            if outside.size:
                raise ValueError(f"references must lie between 0 and {num_rows - 1}, got {outside[0]}")
            source, (distinct, reference) = self.features, np.unique(ids, return_inverse=True)
        else:
            source = jnp.asarray(features, self.features.dtype)
            distinct = reference = np.arange(len(source))
        num_values = len(self.products.memory)
        if source.shape[1:] != (*block,) or indicators.shape != (len(reference), num_values):
            raise ValueError(
                f"{len(reference)} queries need indicators [{len(reference)}, {num_values}] and features "
                f"[..., {block[0]}, {block[1]}]; got {indicators.shape} and {source.shape}"
            )
        edits = np.asarray(indicators, source.dtype) * np.asarray(strength, source.dtype)
        indices, distances = self._search(source, distinct, reference, edits, k + exclude_reference)
        if exclude_reference:
            kept = _without(indices, distinct[reference])
            indices, distances = (found[kept].reshape(-1, k) for found in (indices, distances))
        return Neighbors(jnp.asarray(indices), jnp.asarray(distances))

    def _search(
        self,
        source: Float[Array, "M N d"],
        distinct: Int[np.ndarray, " R"],
        reference: Int[np.ndarray, " Q"],
        edits: Float[np.ndarray, "Q J"],
        k: int,
    ) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """Search with the edited rows ``source[distinct[reference]]``, those of a reference together."""
        rows = self.products.rows.reshape(len(self.products.rows), -1)
        indices = np.zeros((len(reference), k), np.int32)
        distances = np.zeros((len(reference), k), rows.dtype)
        certified = np.zeros(len(reference), bool)
        sum_bytes = self.products.square_norms.nbytes * (source.shape[1] if self._by_block else 1)
        references_at_once = _references_at_once(len(distinct), sum_bytes)
        order = np.argsort(reference, kind="stable")
        with ThreadPoolExecutor(WORKERS) as pool:
            for some in _chunks(np.arange(len(distinct)), references_at_once):
                first, last = np.searchsorted(reference[order], (some.min(), some.max() + 1))
                queries = order[first:last]
                indices[queries], distances[queries], certified[queries] = self._search_some(
                    pool, source[distinct[some]], reference[queries] - some[0], edits[queries], k
                )
        left = np.flatnonzero(~certified)
        for queries in _chunks(left, self._queries_at_once(len(left))):
            features = source[distinct[reference[queries]]]
            edited = edit(features, edits[queries], self.products.memory, self.normalize)
            indices[queries], distances[queries] = nearest_neighbors(edited.vectors, rows, k)
        return indices, distances

    def _search_some(
        self,
        pool: ThreadPoolExecutor,
        references: Float[Array, "R N d"],
        reference: Int[np.ndarray, " Q"],
        edits: Float[np.ndarray, "Q J"],
        k: int,
    ) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"], Bool[np.ndarray, " Q"]]:
        """Search with edited references that are few enough to hold their products; which are certified."""
        products = self.products
        sums = part_products(references, products.rows, by_block=self._by_block)
        indices = np.zeros((len(reference), k), np.int32)
        distances = np.zeros((len(reference), k), references.dtype)
        certified = np.zeros(len(reference), bool)
        changes = _power_of_two(int((edits != 0).sum(axis=1).max(initial=0)), edits.shape[1])

        def search(queries: Int[np.ndarray, " P"], spare: int) -> None:
            edited = edit(references[reference[queries]], edits[queries], products.memory, self.normalize)
            found = measure(
                products, references, sums, reference[queries], edits[queries], edited, k, changes, spare
            )
            indices[queries], distances[queries], certified[queries] = map(np.asarray, found)

        for spare in SPARES:
            pending = np.flatnonzero(~certified)
            chunks = _chunks(pending, self._queries_at_once(len(pending)))
            list(pool.map(search, chunks, itertools.repeat(spare)))
        return indices, distances, certified

    @property
    def _by_block(self) -> bool:
        return self.normalize == "attribute"

    def _queries_at_once(self, total: int) -> int:
        """How many of a total to edit at once, and to score against the gallery."""
        return _at_once(total, max(self.products.square_norms.nbytes, self.features[0].nbytes))


def _at_once(total: int, bytes_each: int) -> int:
    """How many of a total to take at once: the least size that holds all, or the largest that fits."""
    allowed = [size for size in SIZES if size == 1 or size * bytes_each <= CHUNK_BYTES]
    return next((size for size in allowed if size >= total), allowed[-1])


def _references_at_once(total: int, bytes_each: int) -> int:
    """As ``_at_once``, but many in as large and equal chunks as fit: products cost less by the hundred."""
    largest = min(REFERENCES_AT_ONCE, CHUNK_BYTES // bytes_each // PADDING * PADDING)
    if total <= SIZES[-1] or largest <= SIZES[-1]:
        return _at_once(total, bytes_each)
    each = -(-total // -(-total // largest))
    return -(-each // PADDING) * PADDING


def _power_of_two(least: int, most: int) -> int:
    """The first one from ``least`` on, or ``most`` where that is less: few programs for any number."""
    return min(1 << max(least - 1, 0).bit_length(), most)


def _chunks(items: Int[np.ndarray, " M"], size: int) -> Iterator[Int[np.ndarray, " size"]]:
    """Items in chunks of one size; the last is padded with its own, so that one compilation serves all."""
    for start in range(0, len(items), size):
        yield np.resize(items[start : start + size], size)


def _without(found: Int[np.ndarray, "Q K"], excluded: Int[np.ndarray, " Q"]) -> Bool[np.ndarray, "Q K"]:
    """All but each row's excluded entry, or but the last where it does not hold it."""
    is_excluded = found == excluded[:, None]
    is_excluded[~is_excluded.any(axis=1), -1] = True
    return ~is_excluded
