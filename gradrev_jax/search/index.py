"""Exact search for manipulated features by the linearity of Eq. 7."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import NORMALIZATIONS, Normalization
from gradrev_jax.search.batching import (
    checked_edits,
    checked_k,
    checked_rows,
    normalized,
    search_all,
    search_references,
    without,
)
from gradrev_jax.search.edits import References, make_references
from gradrev_jax.search.neighbors import Neighbors
from gradrev_jax.search.products import GalleryProducts, check_rows, check_sizes, gallery_products


@dataclasses.dataclass(frozen=True)
class ManipulationIndex:
    r"""A gallery prepared for the search of manipulated features (Eq. 7).

    .. math::
        (f + \sum_v i_v M_v) \cdot g = f \cdot g + \sum_v i_v \, (M_v \cdot g)

    The products of the memory M with the gallery are computed once, and those of a reference once for all
    its queries: a manipulation costs a few additions a row, not a product with it. ``session`` keeps those of
    a reference for manipulations to come.

    The result is exact: the rows that ``nearest_neighbors`` finds for the features that ``manipulate`` and
    ``normalize_features`` give, ascending, ties to the lower index. The products rank the gallery, and a
    bound on their rounding error tells which rows they rank for certain. Rows that it does not tell apart
    are measured by direct sums of (q - g)²; a query for which it cannot tell that no other row belongs among
    the first k is tried with more candidates, and at last left to ``nearest_neighbors``. The square of a
    distance is a direct sum, or lies as close to it as 1/512 of itself by proof, and by about 1e-6 in
    practice.

    Attributes:
      features: [G, N, d], the gallery as it was given, not copied: it must not be changed.
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

    features: Float[Array | np.ndarray, "G N d"]
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
          ValueError: an unknown normalisation, an empty gallery, shapes that disagree with the schema, rows
            that are not finite or cannot be normalised, a memory that is not finite, features too small or
            large to be compared without a normalisation.
        """
        check_shapes(features, memory, schema)
        return cls.of(features, memory, normalize)

    @classmethod
    def of(
        cls,
        features: Float[Array | np.ndarray, "G N d"],
        memory: Float[Array | np.ndarray, "J N d"],
        normalize: Normalization,
    ) -> "ManipulationIndex":
        """As ``build``, where the shapes are known to be right."""
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}")
        products = gallery_products(features, memory, normalize)
        check_rows(products.square_norms, normalize, num_blocks=features.shape[1])
        check_sizes(products, normalize)
        return cls(features, products, normalize)

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
            it, both or none of reference_ids and features, shapes that disagree, edits that are not finite.
        """
        if (reference_ids is None) == (features is None) or (features is not None and exclude_reference):
            raise ValueError("give reference_ids, or features without exclude_reference")
        k = checked_k(k, len(self.features), exclude_reference=exclude_reference)
        if features is None:
            rows, take = checked_rows(np.asarray(reference_ids), len(self.features)), self.take
        else:
            given = self._checked_features(features)
            rows, take = (
                np.arange(len(given)),
                lambda ids: (given[ids], normalized(given[ids], self.normalize)),
            )
        edits = self._edits(indicators, strength, len(rows))
        indices, distances = search_all(
            self.products, take, rows, edits, k + exclude_reference, self.normalize
        )
        if exclude_reference:
            indices, distances = without(indices, distances, rows)
        return Neighbors(jnp.asarray(indices), jnp.asarray(distances))

    def session(
        self,
        reference_id: int | None = None,
        *,
        features: Float[Array | np.ndarray, "N d"] | None = None,
    ) -> "ManipulationSession":
        """Begin to manipulate one item: its products with the gallery are computed now, and kept.

        Args:
          reference_id: the gallery's row to manipulate; or
          features: [N, d], what to manipulate, not normalised.

        Raises:
          ValueError: both or none of them, a row outside the gallery, features of another shape.

        Example:
          >>> schema = AttributeSchema(("color",), (("blue", "red"),))
          >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
          >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
          >>> session = ManipulationIndex.build(gallery, memory, schema).session(0)
          >>> for strength in (0.2, 1.0):  # a little redder; red
          ...     found = session.search(np.array([[-1, 1]]), k=3, strength=strength)
          ...     found.indices[0].tolist()
          [0, 2, 1]
          [1, 2, 0]
        """
        if (reference_id is None) == (features is None):
            raise ValueError("give reference_id, or features")
        if features is not None:
            given = self._checked_features(jnp.asarray(features)[None])
            taken = given, normalized(given, self.normalize)
        else:
            taken = self.take(checked_rows(np.array([reference_id]), len(self.features)))
        return ManipulationSession(self, make_references(self.products, *taken, self.normalize), reference_id)

    def take(self, ids: Int[np.ndarray, " R"]) -> tuple[Float[Array, "R N d"], Float[Array, "R N d"]]:
        """Rows of the gallery as they were given, and normalised."""
        return jnp.asarray(self.features[ids], self.products.rows.dtype), self.products.rows[ids]

    def _checked_features(self, features: Float[Array | np.ndarray, "Q N d"]) -> Float[Array, "Q N d"]:
        if features.shape[1:] != self.features.shape[1:]:
            _, n, d = self.features.shape
            raise ValueError(f"features must be [..., {n}, {d}], as the gallery's; got {features.shape}")
        return jnp.asarray(features, self.products.rows.dtype)

    def _edits(self, indicators: Array | np.ndarray, strength: float, count: int) -> np.ndarray:
        dtype, num_values = self.products.rows.dtype, len(self.products.memory)
        return checked_edits(indicators, strength, num_queries=count, num_values=num_values, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class ManipulationSession:
    """One item that is manipulated again and again, see ``ManipulationIndex.session``.

    A manipulation costs a few additions for each row of the gallery, whatever the features' width.

    Attributes:
      index: the gallery.
      references: the item, and its products with the gallery.
      reference_id: its row, where it is one of the gallery's.
    """

    index: ManipulationIndex
    references: References
    reference_id: int | None

    def search(
        self,
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        *,
        strength: float = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """What ``ManipulationIndex.search`` finds for manipulations of the item, most often one.

        Args:
          indicators: [Q, J]; zeros leave the item as it is.
          k: neighbours wanted.
          strength: how many prototypes are added and removed.
          exclude_reference: whether the item itself is left out of the result.

        Returns:
          Indices and distances, [Q, k].

        Raises:
          ValueError: as there.
        """
        if exclude_reference and self.reference_id is None:
            raise ValueError("exclude_reference needs an item of the gallery's, not features")
        index = self.index
        k = checked_k(k, len(index.features), exclude_reference=exclude_reference)
        edits = index._edits(indicators, strength, len(indicators))
        of_one = np.zeros(len(edits), int)
        indices, distances = search_references(
            index.products, self.references, of_one, edits, k + exclude_reference, index.normalize
        )
        if exclude_reference:
            indices, distances = without(indices, distances, of_one + self.reference_id)
        return Neighbors(jnp.asarray(indices), jnp.asarray(distances))


def check_shapes(
    features: Float[Array | np.ndarray, "G N d"],
    memory: Float[Array | np.ndarray, "J N d"],
    schema: AttributeSchema,
) -> None:
    """Raise unless a gallery and a memory are of a schema.

    Raises:
      ValueError: an empty gallery, shapes that disagree.
    """
    n, j = schema.num_attributes, schema.num_values
    if features.shape[1:2] != (n,) or memory.shape != (j, *features.shape[1:]) or not len(features):
        raise ValueError(
            f"features must be [G, {n}, d] with G > 0, and memory [{j}, {n}, d]; "
            f"got {features.shape} and {memory.shape}"
        )
