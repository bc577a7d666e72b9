"""Plain exact search with edits that are learned, for which no product can be computed ahead."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.normalization import (
    NORMALIZATIONS,
    Normalization,
    Weights,
    normalize_scaled,
    scale_weights,
)
from gradrev_jax.core.vectors import as_floating
from gradrev_jax.search.arguments import validate_k, validate_reference_ids
from gradrev_jax.search.neighbors import Neighbors, as_neighbors, nearest_neighbors
from gradrev_jax.search.products import check_rows

CHUNK = 256  # queries that are edited and searched in one call


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedEditIndex:
    """A gallery whose items are edited by any function; it answers as ``ManipulationIndex`` does.

    Every query is edited, normalised, and compared with the whole gallery: exact, ties to the lower index.

    Attributes:
      features: the gallery, not normalised.
      rows: the gallery as the search compares it, with its blocks in a row, D = P d.
      edit: the edit.
      normalize: the normalisation of the features after the edit.
      weights: the scaled weight of each block in the distance; None: all 1.

    Example:
      >>> away = LearnedEdit(lambda params, f, i: f * (1 - i.max(axis=1))[:, None, None], None)
      >>> gallery = np.array([[[1.0]], [[2.0]], [[0.25]]], np.float32)
      >>> index = LearnedEditIndex.build(gallery, away, "none")
      >>> index.search(reference_ids=np.array([1]), indicators=np.array([[1]]), k=2).indices.tolist()
      [[2, 0]]
    """

    features: Float[Array | np.ndarray, "G P d"]
    rows: Float[Array, "G D"]
    edit: LearnedEdit
    normalize: Normalization
    weights: Float[np.ndarray, " P"] | None = None

    @classmethod
    def build(
        cls,
        features: Float[Array | np.ndarray, "G P d"],
        edit: LearnedEdit,
        normalize: Normalization = "global",
        weights: Weights | None = None,
    ) -> "LearnedEditIndex":
        """Normalises a gallery.

        Args:
          features: [G, P, d], the gallery, not normalised; G > 0.
          edit: the edit.
          normalize: the normalisation of the features after the edit; see ``normalize_features``.
          weights: [P], the weight of each block in the distance; 0 leaves it out. None: all 1.

        Raises:
          ValueError: an unknown normalisation, an empty gallery, rows that are not finite or cannot be
            normalised, or weights as in ``scale_weights``.
        """
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}")
        if features.ndim != 3 or not len(features):
            raise ValueError(f"features must be [G, P, d] with G > 0, got {features.shape}")
        scaled = scale_weights(weights, features.shape[1])
        rows = _compared(as_floating(features), scaled, normalize)
        _check_rows(np.asarray(rows).reshape(features.shape), normalize, scaled)
        return cls(features, rows, edit, normalize, scaled)

    def search(
        self,
        *,
        reference_ids: Int[Array | np.ndarray, " Q"],
        indicators: Int[Array | np.ndarray, "Q J"],
        k: int,
        strength: float | Float[np.ndarray, " Q"] = 1.0,
        exclude_reference: bool = False,
    ) -> Neighbors:
        """Finds the k gallery rows nearest to each edited reference.

        Args:
          reference_ids: [Q], the gallery rows to edit.
          indicators: [Q, J], what the edit is told. Zeros leave the reference as it is.
          k: the number of neighbours.
          strength: the share of the way to what is learned, see ``LearnedEdit``; one of all queries, or one
            of each, [Q].
          exclude_reference: whether the reference itself is left out of its result.

        Raises:
          ValueError: k beyond the gallery (or, if the reference is excluded, beyond its other rows), a
            reference outside the gallery, other numbers of references and indicators, or strengths or edited
            features that are not finite.
        """
        size = len(self.features)
        k = validate_k(k, size, exclude_reference=exclude_reference)
        ids = validate_reference_ids(np.asarray(reference_ids), size)
        indicators = np.asarray(indicators)
        if len(indicators) != len(ids):
            raise ValueError(f"{len(ids)} reference_ids have {len(indicators)} indicators")
        strengths = np.broadcast_to(np.asarray(strength, self.rows.dtype), len(ids))
        if not np.isfinite(strengths).all():
            raise ValueError("strength must be finite")
        chunks = [slice(start, start + CHUNK) for start in range(0, len(ids), CHUNK)]
        found = [
            self._search(ids[some], indicators[some], k + exclude_reference, strengths[some])
            for some in chunks
        ]
        empty = (0, k + exclude_reference)
        nothing = np.zeros(empty, np.int32), np.zeros(empty, self.rows.dtype)
        indices, distances = map(np.concatenate, zip(nothing, *found, strict=True))
        return as_neighbors(indices, distances, ids if exclude_reference else None)

    def _search(
        self,
        ids: Int[np.ndarray, " q"],
        indicators: Int[np.ndarray, "q J"],
        k: int,
        strengths: Float[np.ndarray, " q"],
    ) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
        """Answers one chunk of queries, padded to the full size, so that all share one program."""
        padded = np.resize(np.arange(len(ids)), CHUNK)
        features = jnp.asarray(self.features[ids[padded]], self.rows.dtype)
        edited = self.edit(features, indicators[padded], strength=strengths[padded])
        queries = _compared(edited.astype(self.rows.dtype), self.weights, self.normalize)
        if not np.isfinite(queries).all():
            raise ValueError("the edit gives features that are not finite, or cannot be normalised")
        found = nearest_neighbors(queries, self.rows, k)
        return np.asarray(found.indices)[: len(ids)], np.asarray(found.distances)[: len(ids)]


@functools.partial(jax.jit, static_argnames="normalize")
def _compared(
    features: Float[Array, "M P d"],
    weights: Float[Array | np.ndarray, " P"] | None,
    normalize: Normalization,
) -> Float[Array, "M D"]:
    """Returns features as the search compares them, of all blocks in a row."""
    return normalize_scaled(features, normalize, weights).reshape(len(features), -1)


def _check_rows(
    rows: Float[np.ndarray, "G P d"], normalize: Normalization, weights: Float[np.ndarray, " P"] | None
) -> None:
    """Raises unless all rows of a gallery are finite, and could be normalised."""
    counted = np.ones(rows.shape[1], bool) if weights is None else weights > 0
    zero_blocks = np.all(rows == 0, axis=2) & counted
    zero = {
        "global": np.all(rows == 0, axis=(1, 2)),
        "attribute": np.any(zero_blocks, axis=1),
        "none": np.zeros(len(rows), bool),
    }[normalize]
    check_rows(np.all(np.isfinite(rows), axis=(1, 2)), zero, normalize, limit="")
