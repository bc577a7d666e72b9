"""Searches the gallery of a run with its queries."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.replacement import Edit
from gradrev_jax.core.spaces import Prototypes
from gradrev_jax.data.queries import Queries
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


class HeldOut(NamedTuple):
    """Represents the images that a choice is made by, which are the gallery, and the queries asked of them.

    Attributes:
      images: the images as they are compared, [V, P, w], not normalised.
      prototypes: what edits them.
      labels: the labels of the images, [V, N], -1 = not labelled.
      queries: the queries whose gallery these images are.
      schema: the attributes.
      exclude_query: whether the query image itself is left out of its result.
    """

    images: Float[Array | np.ndarray, "V P w"]
    prototypes: Prototypes
    labels: Int[np.ndarray, "V N"]
    queries: Queries
    schema: AttributeSchema
    exclude_query: bool = False

    @property
    def num_weights(self) -> int:
        """The number of weights to choose: one per attribute, and one for the rest, if there is any."""
        num_attributes = self.schema.num_attributes
        return num_attributes + (self.images.shape[1] > num_attributes)

    def weights_of_blocks(self, weights: Float[np.ndarray, " W"]) -> Float[np.ndarray, " P"]:
        """Returns the weights of the blocks, of which those of the rest all have the last weight.

        Args:
          weights: the weight of each attribute, and of the rest, if there is any.
        """
        return weights[np.minimum(np.arange(self.images.shape[1]), len(weights) - 1)]


def index_features(
    images: Float[Array | np.ndarray, "M P w"], prototypes: Prototypes, schema: AttributeSchema, way: Way
) -> GalleryIndex:
    """Creates the index of images that are searched.

    Args:
      images: the images as they are compared, not normalised.
      prototypes: what edits them.
      schema: the attributes.
      way: how images are compared and edited.

    Raises:
      NotComparableError: features that are not finite or cannot be normalised.
    """
    return make_index(
        images,
        prototypes.memory,
        way.normalize,
        way.weights,
        edit=way.edit,
        attribute_of=schema.attribute_of,
        absent=prototypes.absent if way.edit == "replace" else None,
    )


def with_rest(weights: Float[np.ndarray, " N"] | None, num_blocks: int) -> Float[np.ndarray, " P"] | None:
    """Returns the weights of P blocks, of which those after the attributes' have a weight of 1."""
    return None if weights is None else np.pad(weights, (0, num_blocks - len(weights)), constant_values=1)


class Answers(NamedTuple):
    """Represents the answers to the queries: gallery rows, nearest first.

    Attributes:
      neighbors: the neighbours of each manipulated reference, [Q, K].
      unedited: the neighbours of each reference as it is, [Q, K].
    """

    neighbors: Int[np.ndarray, "Q K"]
    unedited: Int[np.ndarray, "Q K"]


def search_queries(
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
