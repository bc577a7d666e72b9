"""Searches the gallery of a run with its queries."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.replacement import Edit
from gradrev_jax.core.spaces import Space
from gradrev_jax.data.queries import Queries
from gradrev_jax.evaluation.weighted_hits import HeldOut
from gradrev_jax.search.gallery import GalleryIndex, make_index, retrieve


class Way(NamedTuple):
    """Represents how images are compared and edited.

    Attributes:
      normalize: the normalisation of the vectors.
      edit: the edit of an attribute's block, by prototypes; or one that is learned.
      strength: the factor of the prototypes.
      weights: the weight of each block, [P]; None: all 1.
    """

    normalize: Normalization
    edit: Edit | LearnedEdit
    strength: float = 1.0
    weights: Float[np.ndarray, " P"] | None = None


def index_gallery(space: Space, schema: AttributeSchema, way: Way) -> GalleryIndex:
    """Creates the index of a gallery.

    Args:
      space: the gallery and the prototypes.
      schema: the attributes.
      way: how they are compared and edited.

    Raises:
      NotComparableError: features that are not finite or cannot be normalised.
    """
    return make_index(
        space.gallery,
        space.memory,
        way.normalize,
        way.weights,
        edit=way.edit,
        attribute_of=schema.attribute_of,
        absent=space.absent if way.edit == "replace" else None,
    )


def with_rest(weights: Float[np.ndarray, " N"] | None, num_blocks: int) -> Float[np.ndarray, " P"] | None:
    """Returns the weights of P blocks, of which those after the attributes' have a weight of 1."""
    return None if weights is None else np.pad(weights, (0, num_blocks - len(weights)), constant_values=1)


def make_held_out(
    space: Space,
    labels: Int[np.ndarray, "V N"],
    queries: Queries,
    schema: AttributeSchema,
    way: Way,
    *,
    exclude_query: bool,
) -> HeldOut:
    """Returns the validation images to choose by.

    Args:
      space: the images and the prototypes.
      labels: the labels of the validation images, [V, N].
      queries: the queries whose gallery these images are.
      schema: the attributes.
      way: how they are compared and edited.
      exclude_query: whether the query image itself is left out of its result.
    """
    return HeldOut(
        space.held_out,
        labels,
        space.memory,
        queries,
        way.normalize,
        exclude_query,
        way.edit,
        schema.attribute_of,
        space.absent if way.edit == "replace" else None,
    )


def index_held_out(held_out: HeldOut, weights: Float[np.ndarray, " P"] | None) -> GalleryIndex:
    """Creates the index of validation images.

    Args:
      held_out: the images, and how they are compared and edited.
      weights: the weight of each block; None: all 1.

    Raises:
      NotComparableError: features that are not finite or cannot be normalised.
    """
    return make_index(
        held_out.features,
        held_out.memory,
        held_out.normalize,
        weights,
        edit=held_out.edit,
        attribute_of=held_out.attribute_of,
        absent=held_out.absent,
    )


class Answers(NamedTuple):
    """Represents the answers to the queries: gallery rows, nearest first.

    Attributes:
      neighbors: the neighbours of each manipulated reference, [Q, K].
      baseline: the neighbours of each reference as it is, [Q, K].
    """

    neighbors: Int[np.ndarray, "Q K"]
    baseline: Int[np.ndarray, "Q K"]


def ask(
    index: GalleryIndex,
    queries: Queries,
    k: int,
    *,
    strength: float,
    exclude_query: bool,
    progress: bool,
) -> Answers:
    """Searches with all queries, and with their references as they are, in one pass.

    The references' distances to the gallery are most of the work, and both kinds of queries need them.

    Args:
      index: the index of the gallery.
      queries: the queries.
      k: the number of neighbours.
      strength: the factor of the prototypes.
      exclude_query: whether the query image itself is left out of its result.
      progress: whether a progress bar is shown.
    """
    references, reference_of_query = np.unique(queries.reference, return_inverse=True)
    no_change = np.zeros((len(references), queries.indicators.shape[1]), np.int8)
    rows = retrieve(
        index,
        np.concatenate([queries.reference, references]),
        np.concatenate([queries.indicators, no_change]),
        k,
        strength=strength,
        exclude_query=exclude_query,
        progress=progress,
    )
    return Answers(rows[: len(queries)], rows[len(queries) :][reference_of_query])
