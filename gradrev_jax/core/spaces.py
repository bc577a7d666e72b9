"""Encoded images and prototypes, which representations are made of, and the spaces that they make of them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.missing_labels import Missing


class Images(NamedTuple):
    """Represents the encoded images of one part.

    Attributes:
      features: the features, [M, P, d]; see ``Material.blocks`` for which is whose.
      own_logits: the logits of each attribute's classes, by its own classifier, [M, C]; C counts a class for
        missing labels where there is one.
      embeddings: the outputs of the backbone, [M, H].
      labels: the labels, [M, N], -1 = not labelled.
    """

    features: Float[Array | np.ndarray, "M P d"]
    own_logits: Float[Array | np.ndarray, "M C"]
    embeddings: Float[Array | np.ndarray, "M H"]
    labels: Int[np.ndarray, "M N"]


class Material(NamedTuple):
    """Represents what a representation is made of.

    Attributes:
      schema: the attributes.
      missing: what became of missing labels in training.
      memory: the prototypes of the features, [J, P, d].
      gallery: the images that are searched.
      held_out: the validation images, of which there may be none.
      training: some of the training images; None if no representation needs any.
      train_labels: the labels of all training images, [T, N].
      look: the weight of what no attribute says, see ``hybrid``.
      blocks: the block of the features that each attribute is read from; None: one of its own.
    """

    schema: AttributeSchema
    missing: Missing
    memory: Float[Array | np.ndarray, "J P d"]
    gallery: Images
    held_out: Images
    training: Images | None
    train_labels: Int[np.ndarray, "T N"]
    look: float
    blocks: FeatureBlocks | None = None


class Fitted(NamedTuple):
    """Represents what a representation keeps of its material: enough to represent and to edit any image.

    Attributes:
      memory: the prototypes, [J, P, w].
      absent: what becomes of an attribute's block when its value is taken away and none takes its place, in
        an edit by replacement, [N, w].
      arrays: what else it needs to represent images, by name.
    """

    memory: Float[Array | np.ndarray, "J P w"]
    absent: Float[Array | np.ndarray, "N w"]
    arrays: Mapping[str, Array | np.ndarray] = {}


# A function of the images, of what was kept, of the schema, and of what became of missing labels in training.
Represent = Callable[[Images, Fitted, AttributeSchema, Missing], Float[Array | np.ndarray, "M P w"]]


class Prototypes(NamedTuple):
    """Represents what edits images as a search compares them.

    Attributes:
      memory: the prototypes, see ``Fitted``.
      absent: the blocks of attributes without a value, see ``Fitted``.
    """

    memory: Float[Array | np.ndarray, "J P w"]
    absent: Float[Array | np.ndarray, "N w"]


class Space(NamedTuple):
    """Represents images and prototypes as a search compares them.

    Attributes:
      gallery: the images that are searched, [G, P, w], not normalised.
      held_out: the validation images, [V, P, w].
      memory: the prototypes, see ``Fitted``.
      absent: the blocks of attributes without a value, see ``Fitted``.
    """

    gallery: Float[Array | np.ndarray, "G P w"]
    held_out: Float[Array | np.ndarray, "V P w"]
    memory: Float[Array | np.ndarray, "J P w"]
    absent: Float[Array | np.ndarray, "N w"]

    @property
    def prototypes(self) -> Prototypes:
        """The prototypes, and the blocks of attributes without a value."""
        return Prototypes(self.memory, self.absent)
