"""Manipulation and retrieval over a whole gallery, shared between processes."""

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax import distributed
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.normalization import Normalization, Weights
from gradrev_jax.core.replacement import Edit
from gradrev_jax.progress import ProgressBar
from gradrev_jax.search.batching import MAX_REFERENCES
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.learned_edit_index import LearnedEditIndex
from gradrev_jax.search.products import check_gallery

GalleryIndex = ManipulationIndex | LearnedEditIndex


def make_index(
    gallery: Float[Array | np.ndarray, "G P d"],
    memory: Float[Array | np.ndarray, "J P d"] | None,
    normalize: Normalization = "global",
    weights: Weights | None = None,
    *,
    edit: Edit | LearnedEdit = "add",
    attribute_of: Int[Array | np.ndarray, " J"] | None = None,
    absent: Float[Array | np.ndarray, "N d"] | None = None,
) -> GalleryIndex:
    """Creates the search index of an encoder's features, which prototypes or a learned edit change.

    Args:
      gallery: [G, P, d], the features, not normalised; the first N blocks are those of the attributes.
      memory: [J, P, d], the prototypes; a learned edit needs none.
      normalize: the normalisation of the features after the manipulation.
      weights: [P], the weight of each block in the distance; 0 leaves it out. None: all 1.
      edit: the kind of edits, as for ``ManipulationIndex.build``, or one that is learned.
      attribute_of: [J], the attribute of each value; ``replace`` alone needs it.
      absent: [N, d], for ``replace``: the block of an attribute whose value is removed without another; None:
        zeros.

    Raises:
      ValueError: weights as in ``scale_weights``, or an edit, attributes or blocks that do not fit.
      NotComparableError: features that are not finite or cannot be normalised.
    """
    if isinstance(edit, LearnedEdit):
        return LearnedEditIndex.build(gallery, edit, normalize, weights)
    assert memory is not None, "prototypes edit"
    index = ManipulationIndex.build_unchecked(gallery, memory, normalize, weights, edit, attribute_of, absent)
    check_gallery([index.products])
    return index


def retrieve(
    index: GalleryIndex,
    reference: Int[np.ndarray, " Q"],
    indicators: Int[np.ndarray, "Q J"],
    k: int,
    *,
    strength: float | Float[np.ndarray, " Q"] = 1.0,
    exclude_query: bool = False,
    progress: bool = True,
) -> Int[np.ndarray, "Q k"]:
    """Returns the gallery rows nearest to the manipulated references, nearest first.

    If there are several processes, each searches for a share of the queries and gets the rows of all.

    Args:
      index: the index of the gallery.
      reference: [Q], the gallery row that each query manipulates.
      indicators: [Q, J], the edits; zeros leave the reference as it is.
      k: the number of neighbours.
      strength: the factor of the edits, as for ``ManipulationIndex.search``; one of all queries, or of each.
      exclude_query: whether the reference itself is left out of its result.
      progress: whether a progress bar is shown.

    Raises:
      ValueError: k beyond the gallery (or, if the query is excluded, beyond its other rows).
    """
    strengths = np.broadcast_to(strength, len(reference))
    by_reference = np.argsort(reference, kind="stable")
    share = by_reference[distributed.local_rows(len(by_reference))]
    _, first = np.unique(reference[share], return_index=True)
    size = -(-len(first) // max(1, -(-len(first) // MAX_REFERENCES)))  # of equal chunks, which share programs
    chunks = np.split(share, first[size::size] if size else [])
    found = [
        index.search(
            reference_ids=reference[chunk],
            indicators=indicators[chunk],
            k=k,
            strength=strengths[chunk],
            exclude_reference=exclude_query,
        ).indices
        for chunk in ProgressBar(chunks, desc="retrieval", unit="chunk", progress=progress, leave=False)
    ]
    return distributed.gather(np.concatenate(found), len(by_reference))[np.argsort(by_reference)]
