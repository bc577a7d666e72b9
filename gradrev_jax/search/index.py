"""Exact search for manipulated features, by the linearity of Eq. 7 and of edits by replacement."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import refuse_traced
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.normalization import (
    NORMALIZATIONS,
    Normalization,
    Weights,
    scale_weights,
    weigh_features,
)
from gradrev_jax.core.replacement import Edit
from gradrev_jax.search.arguments import UNTRACEABLE, check_shapes, validate_k, validate_reference_ids
from gradrev_jax.search.batching import search_all, weighted_and_normalized
from gradrev_jax.search.changes import Replacement, make_changes, make_replacement
from gradrev_jax.search.neighbors import Neighbors, as_neighbors
from gradrev_jax.search.products import (
    GalleryProducts,
    check_gallery,
    gallery_products,
)
from gradrev_jax.search.references import ReferenceRows, make_references
from gradrev_jax.search.session import ManipulationSession


@dataclasses.dataclass(frozen=True)
class ManipulationIndex:
    r"""A gallery prepared for searches with manipulated features (Eq. 7, or by replacement).

    .. math::
        (f + \sum_v i_v M_v) \cdot g = f \cdot g + \sum_v i_v \, (M_v \cdot g)

    The products of the memory M with the gallery are computed once, and those of a reference once for all
    its queries. A manipulation then costs a few additions per gallery row, not a product with it. ``session``
    keeps the products of one reference for later manipulations. An edit by replacement (``replace_blocks``)
    takes a block n of f out, and with it f_n · g_n, which is kept beside f · g; it costs no more.

    The result is exact: the rows that ``nearest_neighbors`` finds for the features from ``manipulate`` (or
    ``replace_blocks``) and ``normalize_features``, ascending, ties to the lower index. The products rank the
    gallery, and a bound on their rounding error tells which rows are certainly in the right order. The
    distances of the other rows are computed exactly, by direct sums of (q - g)². If the bound cannot exclude
    that another row belongs among the first k, the query is tried with more candidates, and at last left to
    ``nearest_neighbors``. The square of a distance is a direct sum, or provably within 1/512 of it, and in
    practice within about 1e-6.

    Its methods run outside of ``jax.jit``, because how far they look depends on what they find. A function
    that is traced searches with ``manipulate``, ``normalize_features`` and ``nearest_neighbors``.

    Attributes:
      features: [G, P, d], the gallery as it was given, not copied: it must not be changed.
      products: the products of the gallery and the memory, which a search reads.
      replacement: what an edit replaces; None: nothing (Eq. 7).

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)  # J = 2 values, N = 1, d = 2
      >>> gallery = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]], np.float32)
      >>> index = ManipulationIndex.build(gallery, memory, schema)
      >>> red = index.search(reference_ids=np.array([0]), indicators=np.array([[-1, 1]]), k=2)
      >>> red.indices.tolist()
      [[1, 2]]
    """

    features: Float[Array | np.ndarray, "G P d"]
    products: GalleryProducts
    replacement: Replacement | None = None

    @classmethod
    def build(
        cls,
        features: Float[Array | np.ndarray, "G P d"],
        memory: Float[Array | np.ndarray, "J P d"],
        schema: AttributeSchema,
        normalize: Normalization = "global",
        weights: Weights | None = None,
        edit: Edit = "add",
        absent: Float[Array | np.ndarray, "N d"] | None = None,
    ) -> "ManipulationIndex":
        """Normalises a gallery and multiplies it with a memory.

        Args:
          features: [G, P, d], the gallery, not normalised. Block n < N is that of attribute n; any others
            are compared like these, but belong to no attribute.
          memory: [J, P, d], the prototypes.
          schema: the attributes.
          normalize: the normalisation of the features after the manipulation; see ``normalize_features``.
          weights: [P], the weight of each block in the distance; 0 leaves it out. None: all 1.
          edit: ``add``: Eq. 7, see ``manipulate``; ``replace``: see ``replace_blocks``.
          absent: [N, d], for ``replace``: the block of an attribute whose value is removed without another;
            None: zeros.

        Raises:
          ValueError: an unknown normalisation or edit, an empty gallery, shapes that disagree with the
            schema, rows that are not finite or cannot be normalised, a memory or ``absent`` that is not
            finite, features too small or too large to be compared without a normalisation, or weights as in
            ``scale_weights``.
        """
        refuse_traced(UNTRACEABLE, features, memory)
        check_shapes(features, memory, schema)
        index = cls.build_unchecked(features, memory, normalize, weights, edit, schema.attribute_of, absent)
        check_gallery([index.products])
        return index

    @classmethod
    def build_unchecked(
        cls,
        features: Float[Array | np.ndarray, "G P d"],
        memory: Float[Array | np.ndarray, "J P d"],
        normalize: Normalization,
        weights: Weights | None = None,
        edit: Edit = "add",
        attribute_of: Int[Array | np.ndarray, " J"] | None = None,
        absent: Float[Array | np.ndarray, "N d"] | None = None,
    ) -> "ManipulationIndex":
        """Builds an index whose shapes are known to agree, and which ``check_gallery`` has not seen yet.

        Args:
          features: [G, P, d], the gallery, not normalised; G > 0.
          memory: [J, P, d], the prototypes.
          normalize: the normalisation of the features after the manipulation.
          weights: [P], the weight of each block; None: all 1.
          edit: the kind of edits, as for ``build``.
          attribute_of: [J], the attribute of each value; ``replace`` alone needs it.
          absent: [N, d], as for ``build``.

        Raises:
          ValueError: an unknown normalisation or edit, ``absent`` that is not finite, or weights as in
            ``scale_weights``.
        """
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}")
        scaled = scale_weights(weights, features.shape[1])
        rows, replacement = make_replacement(memory, edit, attribute_of, absent)
        return cls(features, gallery_products(features, rows, normalize, scaled), replacement)

    def search(
        self,
        *,
        reference_ids: Int[Array | np.ndarray, " Q"] | None = None,
        features: Float[Array | np.ndarray, "Q P d"] | None = None,
        indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
        k: int,
        strength: float | Float[np.ndarray, " Q"] = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """Finds the k gallery rows nearest to each manipulated reference.

        Args:
          reference_ids: [Q], the gallery rows to manipulate; or
          features: [Q, P, d], the features to manipulate, not normalised. Those that are not finite have NaN
            distances, as in ``nearest_neighbors``.
          indicators: [Q, J], the edits; see ``manipulate`` or ``replace_blocks``. Zeros leave the reference
            as it is.
          k: the number of neighbours.
          strength: the factor of the edits, f' = f + strength * (M i), or of the values that are put in; 1 is
            Eq. 7. One of all queries, or one of each, [Q].
          exclude_reference: whether the reference itself is left out of its result.

        Returns:
          Indices and distances, [Q, k].

        Raises:
          ValueError: k beyond the gallery (or, if the reference is excluded, beyond its other rows), a
            reference outside the gallery, both or neither of reference_ids and features, shapes that
            disagree, edits that are not finite, or finite features that overflow when they are edited.
        """
        refuse_traced(UNTRACEABLE, reference_ids, features, indicators, strength)
        if (reference_ids is None) == (features is None) or (features is not None and exclude_reference):
            raise ValueError("give reference_ids, or features without exclude_reference")
        k = validate_k(k, len(self.features), exclude_reference=exclude_reference)
        if features is None:
            reference_ids = validate_reference_ids(np.asarray(reference_ids), len(self.features))
            take_references = self.take
        else:
            items = self._validate_features(features)
            reference_ids = np.arange(len(items))

            def take_references(ids: np.ndarray) -> ReferenceRows:
                return weighted_and_normalized(items[ids], self.normalize, self.products.weights)

        indices, distances = search_all(
            self.products,
            take_references,
            reference_ids,
            make_changes(indicators, strength, self.products.memory, self.replacement, len(reference_ids)),
            k + exclude_reference,
        )
        return as_neighbors(indices, distances, reference_ids if exclude_reference else None)

    def session(
        self,
        reference_id: int | Int[Array | np.ndarray | np.generic, ""] | None = None,
        *,
        features: Float[Array | np.ndarray, "P d"] | None = None,
    ) -> "ManipulationSession":
        """Starts a session with one item, whose products with the gallery are computed now and kept.

        Args:
          reference_id: the gallery row to manipulate; or
          features: [P, d], the features to manipulate, not normalised.

        Raises:
            ValueError: both or neither of them, a row outside the gallery, or features of another shape.

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
        refuse_traced(UNTRACEABLE, reference_id, features)
        if (reference_id is None) == (features is None):
            raise ValueError("give reference_id, or features")
        if features is not None:
            item, row = self._validate_features(jnp.asarray(features)[None]), None
            rows = weighted_and_normalized(item, self.normalize, self.products.weights)
        else:
            ids = validate_reference_ids(np.array([reference_id]), len(self.features))
            rows, row = self.take(ids), int(ids[0])
        num_replaceable = 0 if self.replacement is None else self.replacement.membership.shape[1]
        references = make_references(self.products, rows, num_replaceable)
        return ManipulationSession(self.products, self.replacement, references, row)

    @property
    def normalize(self) -> Normalization:
        """The normalisation of features after a manipulation."""
        return self.products.normalize

    @property
    def prototypes(self) -> Float[Array, "J P d"]:
        """The memory, weighted as the search reads it."""
        memory = self.products.memory
        return memory if self.replacement is None else memory[: len(self.replacement.attribute_of)]

    def take(self, ids: Int[np.ndarray, " R"]) -> ReferenceRows:
        """Returns gallery rows as references."""
        products = self.products
        on_device = isinstance(self.features, jax.Array)
        features = self.features if on_device else np.asarray(self.features[ids], products.rows.dtype)
        places = ids if on_device else np.arange(len(ids))
        return _take(features, places, products.rows, ids, self.normalize, products.weights)

    def _validate_features(self, features: Float[Array | np.ndarray, "Q P d"]) -> Float[Array, "Q P d"]:
        if features.shape[1:] != self.features.shape[1:]:
            _, p, d = self.features.shape
            raise ValueError(f"features must be [..., {p}, {d}], as the gallery's; got {features.shape}")
        return jnp.asarray(features, self.products.rows.dtype)


@functools.partial(jax.jit, static_argnames="normalize")
def _take(
    features: Float[Array | np.ndarray, "M P d"],
    places: Int[Array | np.ndarray, " R"],
    rows: Float[Array, "G P d"],
    ids: Int[Array | np.ndarray, " R"],
    normalize: Normalization,
    weights: Float[Array, " P"] | None,
) -> ReferenceRows:
    """Returns some features, weighted, and some rows."""
    weighted = weigh_features(jnp.asarray(features, rows.dtype)[places], normalize, weights)
    return ReferenceRows(weighted, rows[ids])
