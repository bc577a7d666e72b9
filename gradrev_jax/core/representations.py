r"""What retrieval compares of encoded images: representations by name, each with its equation.

A representation turns what an encoder says of images into vectors of P blocks, [M, P, d]. The first N blocks
belong to the attributes; what follows is compared, and never edited. It gives the prototypes that edit the
blocks, too. To add one, write a function of ``Material``, and name it in ``REPRESENTATIONS``;
docs/extending.md has an example.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.discriminant import fit_discriminants, project
from gradrev_jax.core.erasure import Erasure, apply_erasure, fit_conditional_erasure
from gradrev_jax.core.fitted_memory import fit_memory
from gradrev_jax.core.missing_labels import Missing, class_labels, classes_of, value_positions
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.posteriors import fit_temperatures, one_hot_memory, posterior_blocks, prior_blocks
from gradrev_jax.core.vectors import unit_of_any_size


class Images(NamedTuple):
    """Represents the encoded images of one part.

    Attributes:
      features: the features of all attributes, [M, N, d].
      own_logits: the logits of each attribute's classes, by its own classifier, [M, C]; C counts a class for
        missing labels where there is one.
      embeddings: the outputs of the backbone, [M, H].
      labels: the labels, [M, N], -1 = not labelled.
    """

    features: Float[Array | np.ndarray, "M N d"]
    own_logits: Float[Array | np.ndarray, "M C"]
    embeddings: Float[Array | np.ndarray, "M H"]
    labels: Int[np.ndarray, "M N"]


class Material(NamedTuple):
    """Represents what a representation is made of.

    Attributes:
      schema: the attributes.
      missing: what became of missing labels in training.
      memory: the prototypes of the features, [J, N, d].
      gallery: the images that are searched.
      held_out: the validation images, of which there may be none.
      training: some of the training images; None if no representation needs any.
      train_labels: the labels of all training images, [T, N].
      look: the weight of what no attribute says, see ``hybrid``.
    """

    schema: AttributeSchema
    missing: Missing
    memory: Float[Array | np.ndarray, "J N d"]
    gallery: Images
    held_out: Images
    training: Images | None
    train_labels: Int[np.ndarray, "T N"]
    look: float


class Space(NamedTuple):
    """Represents images and prototypes as a search compares them.

    Attributes:
      gallery: the images that are searched, [G, P, w], not normalised.
      held_out: the validation images, [V, P, w].
      memory: the prototypes, [J, P, w].
      absent: what becomes of an attribute's block when its value is taken away and none takes its place, in
        an edit by replacement, [N, w].
    """

    gallery: Float[Array | np.ndarray, "G P w"]
    held_out: Float[Array | np.ndarray, "V P w"]
    memory: Float[Array | np.ndarray, "J P w"]
    absent: Float[Array | np.ndarray, "N w"]


class Representation(NamedTuple):
    """One representation.

    Attributes:
      meaning: the words that describe it in the reference of the config fields.
      build: computes it.
      normalize: the normalisation of its vectors; None: the one that the protocol gives.
      needs_training: whether it is fitted to training images.
      has_look: whether ``Material.look`` matters.
    """

    meaning: str
    build: Callable[[Material], Space]
    normalize: Normalization | None = None
    needs_training: bool = False
    has_look: bool = False


def feature_space(material: Material) -> Space:
    """Takes the features as they are, and the prototypes that are their means (Eq. 6)."""
    return Space(
        material.gallery.features,
        material.held_out.features,
        material.memory,
        _mean_prototypes(material.memory, material.schema),
    )


def posterior_space(material: Material) -> Space:
    r"""Computes the square roots of each attribute's class probabilities, with one-hot prototypes.

    .. math::
        f_n = \sqrt{\mathrm{softmax}(z_n / T_n)}

    T_n is fitted on the validation part. The squared distance of two such blocks is twice their squared
    Hellinger distance. An attribute whose value is taken away surely is not labelled, where that is a class,
    and otherwise could have any value, as often as in training.
    """
    schema, missing = material.schema, material.missing
    classes, values = classes_of(schema, missing), value_positions(schema, missing)
    held_out = material.held_out
    temperatures = fit_temperatures(
        held_out.own_logits, np.asarray(class_labels(held_out.labels, schema, missing)), classes
    )
    one_hot = one_hot_memory(classes)
    if missing == "value":
        last = np.asarray(classes.offsets) + np.asarray(classes.sizes) - 1
        absent = one_hot[last, np.arange(schema.num_attributes)]
    else:
        absent = prior_blocks(material.train_labels, schema)
    gallery, validation = (
        posterior_blocks(images.own_logits, classes, temperatures) for images in (material.gallery, held_out)
    )
    return Space(gallery, validation, one_hot[values], absent)


def hybrid_space(material: Material) -> Space:
    r"""Puts the backbone's embedding after the posteriors, for what no attribute says.

    .. math::
        [\sqrt{p_1}, \ldots, \sqrt{p_N}, \epsilon \, \frac{e - \bar e}{|e - \bar e|}]

    The weight epsilon is ``Material.look``; the mean is that of the validation part, or without one of the
    gallery. Edits never touch the embedding, which is split into blocks as wide as the others.
    """
    space = posterior_space(material)
    width = space.memory.shape[-1]
    mean = mean_embedding(material)

    def append(blocks: Float[Array, "M N w"], embeddings: Float[Array, "M H"]) -> Float[Array, "M P w"]:
        look = material.look * unit_of_any_size(jnp.asarray(embeddings, jnp.float32) - mean)
        padded = jnp.pad(look, ((0, 0), (0, -look.shape[1] % width)))
        # Of no images, jnp cannot tell how many blocks there are.
        split = padded.reshape(len(look), padded.shape[1] // width, width)
        return jnp.concatenate([blocks, split], axis=1)

    gallery = append(jnp.asarray(space.gallery), jnp.asarray(material.gallery.embeddings))
    held_out = append(jnp.asarray(space.held_out), jnp.asarray(material.held_out.embeddings))
    rest = gallery.shape[1] - material.schema.num_attributes
    memory = np.pad(np.asarray(space.memory), ((0, 0), (0, rest), (0, 0)))
    return space._replace(gallery=gallery, held_out=held_out, memory=memory)


def mean_embedding(material: Material) -> Float[Array, " H"]:
    """Computes the mean of the backbone's outputs over the validation part, or without one the gallery.

    Args:
      material: the encoded images.
    """
    images = material.held_out if len(material.held_out.labels) else material.gallery
    return jnp.asarray(images.embeddings).mean(axis=0)


def discriminant_space(material: Material) -> Space:
    r"""Projects each feature onto the few directions that tell the values of its attribute apart.

    .. math::
        f_n \leftarrow A_n^\top f_n

    See ``core.discriminant``. The projection is linear, so that projected prototypes edit projected features
    as Eq. 7 says, and J_n - 1 numbers are left per attribute.
    """
    assert material.training is not None, "it needs training images"
    matrices = fit_discriminants(material.training.features, material.training.labels, material.schema)
    gallery, held_out, memory = (
        project(jnp.asarray(x, jnp.float32), matrices)
        for x in (material.gallery.features, material.held_out.features, material.memory)
    )
    absent = _mean_prototypes(memory, material.schema)
    return Space(gallery, held_out, memory, absent)


def erased_space(material: Material) -> Space:
    """Erases from each feature what a linear map tells of other attributes beyond its own label.

    See ``core.erasure``; the erasure is fitted to training images. A prototype is a mean of features, so it
    moves with them; what a fine-tuned memory has in other blocks are differences, which no offset moves.
    """
    assert material.training is not None, "it needs training images"
    erasure = fit_conditional_erasure(material.training.features, material.training.labels, material.schema)
    return erase(material, erasure)


def erase(material: Material, erasure: Erasure) -> Space:
    """Applies an erasure to features and prototypes.

    Args:
      material: the images and the prototypes.
      erasure: the map of each attribute's features.
    """
    schema = material.schema
    memory = np.einsum("vnd,ned->vne", np.asarray(material.memory), erasure.matrices)
    memory[np.arange(schema.num_values), schema.attribute_of] += erasure.offsets[schema.attribute_of]
    memory = memory.astype(np.float32)
    gallery, held_out = (
        apply_erasure(images.features, erasure) for images in (material.gallery, material.held_out)
    )
    return Space(gallery, held_out, memory, _mean_prototypes(memory, schema))


def fitted_space(material: Material) -> Space:
    r"""Takes the features as they are, and prototypes that explain all of their blocks by least squares.

    .. math::
        f \approx \bar f + \sum_n M_{y_n}

    See ``core.fitted_memory``: a prototype has entries in the blocks of other attributes, so that an edit
    also takes away what these tell of the old value.
    """
    assert material.training is not None, "it needs training images"
    memory = fit_memory(material.training.features, material.training.labels, material.schema)
    absent = _mean_prototypes(memory, material.schema)
    return Space(material.gallery.features, material.held_out.features, memory, absent)


REPRESENTATIONS: dict[str, Representation] = {
    "features": Representation("the features (the paper)", feature_space),
    "posterior": Representation("the square roots of the class probabilities", posterior_space, "none"),
    "hybrid": Representation("these, and the backbone's embedding", hybrid_space, "none", has_look=True),
    "discriminant": Representation(
        "the features, projected onto what tells the values of their attribute apart",
        discriminant_space,
        needs_training=True,
    ),
    "erased": Representation(
        "the features without what tells of other attributes beyond their own label",
        erased_space,
        needs_training=True,
    ),
    "fitted": Representation(
        "the features, with prototypes fitted to all of their blocks", fitted_space, needs_training=True
    ),
}


def _mean_prototypes(
    memory: Float[Array | np.ndarray, "J N w"], schema: AttributeSchema
) -> Float[Array, "N w"]:
    """Returns the mean of each attribute's prototypes, in its own block; values without images count as 0."""
    own = jnp.asarray(memory)[np.arange(schema.num_values), schema.attribute_of]
    sums = jax.ops.segment_sum(own, schema.attribute_of, schema.num_attributes)
    return sums / np.asarray(schema.sizes, np.float32)[:, None]
