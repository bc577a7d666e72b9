r"""Lists the representations of encoded images that retrieval compares, each with its equation.

A representation turns what an encoder says of images into vectors of P blocks, [M, P, d]. The first N blocks
belong to the attributes; what follows is compared, and never edited. It has two functions. One fits it to
``Material``, and gives the prototypes that edit the blocks, too; the other represents images, those of the
material or any that come later, by what was fitted. To add one, write both, and name them in
``REPRESENTATIONS``; docs/extending.md has an example.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.discriminant import fit_discriminants, project
from gradrev_jax.core.erasure import Erasure, apply_erasure, fit_conditional_erasure
from gradrev_jax.core.fitted_memory import fit_memory
from gradrev_jax.core.manipulation import mean_prototypes
from gradrev_jax.core.missing_labels import Missing, class_labels, classes_of, value_positions
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.core.posteriors import fit_temperatures, one_hot_memory, posterior_blocks, prior_blocks
from gradrev_jax.core.spaces import Fitted, Images, Material, Represent, Space
from gradrev_jax.core.vectors import unit_of_any_size


class Representation(NamedTuple):
    """One representation.

    Attributes:
      meaning: the words that describe it: what is compared, as in "the features".
      fit: computes what it keeps.
      represent: computes the blocks of images, [M, P, w].
      normalize: the normalisation of its vectors; None: the one that the protocol gives.
      needs_training: whether it is fitted to training images.
      has_look: whether ``Material.look`` matters; it is then kept as the array ``look``.
      reads: what it reads of an encoder: its ``features`` as they are, in any blocks, which a learned edit
        may change; ``blocks``, one for each attribute; or ``outputs`` of classifiers, whatever the features.
      of_attribute: the words for what it compares of one attribute, as in "its feature".
    """

    meaning: str
    fit: Callable[[Material], Fitted]
    represent: Represent
    normalize: Normalization | None = None
    needs_training: bool = False
    has_look: bool = False
    reads: Literal["features", "blocks", "outputs"] = "blocks"
    of_attribute: str = "its block"


def make_space(name: str, material: Material) -> Space:
    """Fits a representation, and represents the material by it.

    Args:
      name: the name of the representation.
      material: the encoded images.
    """
    return represent_material(material, REPRESENTATIONS[name].fit(material), REPRESENTATIONS[name].represent)


def represent_material(material: Material, fitted: Fitted, represent: Represent) -> Space:
    """Represents the gallery and the validation part by what was fitted.

    Args:
      material: the encoded images.
      fitted: what the representation keeps.
      represent: its function of images.
    """
    gallery, held_out = (
        represent(images, fitted, material.schema, material.missing)
        for images in (material.gallery, material.held_out)
    )
    return Space(gallery, held_out, fitted.memory, fitted.absent)


def fit_features(material: Material) -> Fitted:
    """Takes the prototypes that are the means of features (Eq. 6)."""
    return Fitted(material.memory, mean_prototypes(material.memory, material.schema, material.blocks))


def take_features(
    images: Images, fitted: Fitted, schema: AttributeSchema, missing: Missing
) -> Float[Array | np.ndarray, "M P d"]:
    """Takes the features as they are."""
    return images.features


def fit_posteriors(material: Material) -> Fitted:
    """Fits a temperature per attribute on the validation part; the prototypes are one-hot.

    An attribute whose value is taken away surely is not labelled, where that is a class, and otherwise could
    have any value, as often as in training.
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
    return Fitted(one_hot[values], absent, {"temperatures": temperatures})


def represent_by_posteriors(
    images: Images, fitted: Fitted, schema: AttributeSchema, missing: Missing
) -> Float[Array, "M N w"]:
    r"""Computes the square roots of each attribute's class probabilities.

    .. math::
        f_n = \sqrt{\mathrm{softmax}(z_n / T_n)}

    The squared distance of two such blocks is twice their squared Hellinger distance.
    """
    temperatures = np.asarray(fitted.arrays["temperatures"])
    return posterior_blocks(images.own_logits, classes_of(schema, missing), temperatures)


def fit_hybrid(material: Material) -> Fitted:
    """Keeps the mean of the backbone's embeddings and the weight of the look, besides the temperatures."""
    fitted = fit_posteriors(material)
    mean = mean_embedding(material)
    width = fitted.memory.shape[-1]
    memory = np.pad(np.asarray(fitted.memory), ((0, 0), (0, -(-len(mean) // width)), (0, 0)))
    arrays = {**fitted.arrays, "mean": mean, "look": np.asarray(material.look, np.float32)}
    return Fitted(memory, fitted.absent, arrays)


def represent_hybrid(
    images: Images, fitted: Fitted, schema: AttributeSchema, missing: Missing
) -> Float[Array, "M P w"]:
    r"""Puts the backbone's embedding after the posteriors, for what no attribute says.

    .. math::
        [\sqrt{p_1}, \ldots, \sqrt{p_N}, \epsilon \, \frac{e - \bar e}{|e - \bar e|}]

    The weight epsilon is ``Material.look``; the mean is that of the validation part, or without one of the
    gallery. Edits never touch the embedding, which is split into blocks as wide as the others.
    """
    blocks = represent_by_posteriors(images, fitted, schema, missing)
    embeddings = jnp.asarray(images.embeddings, jnp.float32)
    look = fitted.arrays["look"] * unit_of_any_size(embeddings - fitted.arrays["mean"])
    width = blocks.shape[-1]
    padded = jnp.pad(look, ((0, 0), (0, -look.shape[1] % width)))
    # Of no images, jnp cannot tell how many blocks there are.
    return jnp.concatenate([blocks, padded.reshape(len(look), padded.shape[1] // width, width)], axis=1)


def mean_embedding(material: Material) -> Float[Array, " H"]:
    """Computes the mean of the backbone's outputs over the validation part, or without one the gallery.

    Args:
      material: the encoded images.
    """
    images = material.held_out if len(material.held_out.labels) else material.gallery
    return jnp.asarray(images.embeddings).mean(axis=0)


def fit_discriminant(material: Material) -> Fitted:
    """Finds the few directions of each feature that tell the values of its attribute apart.

    See ``core.discriminant``. The projection is linear, so that projected prototypes edit projected features
    as Eq. 7 says, and J_n - 1 numbers are left per attribute.
    """
    training = _training_images(material)
    matrices = fit_discriminants(training.features, training.labels, material.schema)
    memory = project(jnp.asarray(material.memory, jnp.float32), matrices)
    return Fitted(memory, mean_prototypes(memory, material.schema), {"matrices": matrices})


def represent_by_discriminants(
    images: Images, fitted: Fitted, schema: AttributeSchema, missing: Missing
) -> Float[Array, "M N w"]:
    r"""Projects each feature onto its attribute's directions.

    .. math::
        f_n \leftarrow A_n^\top f_n
    """
    return project(jnp.asarray(images.features, jnp.float32), np.asarray(fitted.arrays["matrices"]))


def fit_erased(material: Material) -> Fitted:
    """Fits the linear erasure of the other attributes, given each feature's own label.

    See ``core.erasure``.
    """
    training = _training_images(material)
    return with_erasure(
        material, fit_conditional_erasure(training.features, training.labels, material.schema)
    )


def with_erasure(material: Material, erasure: Erasure) -> Fitted:
    """Applies an erasure to the prototypes, and keeps it for features.

    A prototype is a mean of features, so it moves with them; what a fine-tuned memory has in other blocks are
    differences, which no offset moves.

    Args:
      material: the images and the prototypes.
      erasure: the map of each attribute's features.
    """
    schema = material.schema
    memory = np.einsum("vnd,ned->vne", np.asarray(material.memory), erasure.matrices)
    memory[np.arange(schema.num_values), schema.attribute_of] += erasure.offsets[schema.attribute_of]
    memory = memory.astype(np.float32)
    return Fitted(memory, mean_prototypes(memory, schema), erasure._asdict())


def erased_space(material: Material, erasure: Erasure) -> Space:
    """Applies an erasure to images and prototypes.

    Args:
      material: the images and the prototypes.
      erasure: the map of each attribute's features.
    """
    return represent_material(material, with_erasure(material, erasure), represent_erased)


def represent_erased(
    images: Images, fitted: Fitted, schema: AttributeSchema, missing: Missing
) -> Float[Array | np.ndarray, "M N d"]:
    """Erases from each feature what was found of other attributes."""
    erasure = Erasure(**{name: np.asarray(array) for name, array in fitted.arrays.items()})
    return apply_erasure(images.features, erasure)


def fit_least_squares(material: Material) -> Fitted:
    r"""Fits prototypes that explain all blocks of the features by least squares.

    .. math::
        f \approx \bar f + \sum_n M_{y_n}

    See ``core.fitted_memory``: a prototype has entries in the blocks of other attributes, so that an edit
    also takes away what these tell of the old value.
    """
    training = _training_images(material)
    memory = fit_memory(training.features, training.labels, material.schema)
    return Fitted(memory, mean_prototypes(memory, material.schema))


REPRESENTATIONS: dict[str, Representation] = {
    "features": Representation(
        "the features", fit_features, take_features, reads="features", of_attribute="its feature"
    ),
    "posterior": Representation(
        "the square roots of the class probabilities",
        fit_posteriors,
        represent_by_posteriors,
        "none",
        reads="outputs",
        of_attribute="the square roots of its class probabilities",
    ),
    "hybrid": Representation(
        "the square roots of the class probabilities, and the backbone's embedding",
        fit_hybrid,
        represent_hybrid,
        "none",
        has_look=True,
        reads="outputs",
        of_attribute="the square roots of its class probabilities",
    ),
    "discriminant": Representation(
        "the features, projected onto what tells the values of their attribute apart",
        fit_discriminant,
        represent_by_discriminants,
        needs_training=True,
        of_attribute="its feature, projected",
    ),
    "erased": Representation(
        "the features without what tells of other attributes beyond their own label",
        fit_erased,
        represent_erased,
        needs_training=True,
        of_attribute="its feature after the erasure",
    ),
    "fitted": Representation(
        "the features, with prototypes fitted to all of their blocks",
        fit_least_squares,
        take_features,
        needs_training=True,
        of_attribute="its feature",
    ),
}


def _training_images(material: Material) -> Images:
    assert material.training is not None, "it needs training images"
    return material.training
