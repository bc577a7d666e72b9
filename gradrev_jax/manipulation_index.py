"""Exact search for manipulated features by the linearity of Eq. 7."""

import dataclasses
from collections.abc import Iterator

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
from gradrev_jax.retrieval import Neighbors, nearest_neighbors

# References, and queries, are padded to one of these numbers: few programs are compiled.
SIZES = (1, 16, 256)
CHUNK_BYTES = 2**29  # bounds the products of references, and the scores of queries, held at a time


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
    measure less; a query for which it does not is left to ``nearest_neighbors``. Distances are those of
    direct sums, up to the order in which they are added.

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
        products, dtype = self.products, self.features.dtype
        indices = np.zeros((len(reference), k), np.int32)
        distances = np.zeros((len(reference), k), dtype)
        certified = np.zeros(len(reference), bool)
        by_block = self.normalize == "attribute"
        scores_bytes = products.square_norms.nbytes
        references_at_once = _at_once(len(distinct), scores_bytes * (source.shape[1] if by_block else 1))
        queries_at_once = _at_once(len(reference), max(scores_bytes, dtype.itemsize * products.rows[0].size))
        order = np.argsort(reference, kind="stable")
        for some in _chunks(np.arange(len(distinct)), references_at_once):
            references = source[distinct[some]]
            reference_products = part_products(references, products.rows, by_block=by_block)
            first, last = np.searchsorted(reference[order], (some.min(), some.max() + 1))
            for queries in _chunks(order[first:last], queries_at_once):
                which, change = reference[queries] - some[0], edits[queries]
                edited = edit(references[which], change, products.memory, self.normalize)
                found = measure(products, references, reference_products, which, change, edited, k)
                indices[queries], distances[queries], certified[queries] = map(np.asarray, found)
        rows = products.rows.reshape(len(products.rows), -1)
        for queries in _chunks(np.flatnonzero(~certified), queries_at_once):
            left = source[distinct[reference[queries]]]
            edited = edit(left, edits[queries], products.memory, self.normalize)
            indices[queries], distances[queries] = nearest_neighbors(edited.vectors, rows, k)
        return indices, distances


def _at_once(total: int, bytes_each: int) -> int:
    """How many of a total to take at once: the least size that holds all, or the largest that fits."""
    allowed = [size for size in SIZES if size == 1 or size * bytes_each <= CHUNK_BYTES]
    return next((size for size in allowed if size >= total), allowed[-1])


def _chunks(items: Int[np.ndarray, " M"], size: int) -> Iterator[Int[np.ndarray, " size"]]:
    """Items in chunks of one size; the last is padded with its own, so that one compilation serves all."""
    for start in range(0, len(items), size):
        yield np.resize(items[start : start + size], size)


def _without(found: Int[np.ndarray, "Q K"], excluded: Int[np.ndarray, " Q"]) -> Bool[np.ndarray, "Q K"]:
    """All but each row's excluded entry, or but the last where it does not hold it."""
    is_excluded = found == excluded[:, None]
    is_excluded[~is_excluded.any(axis=1), -1] = True
    return ~is_excluded
