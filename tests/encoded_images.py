"""Encoded images as evaluation has them, made up so that a search finds something."""

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.core.missing_labels import classes_of
from gradrev_jax.core.representations import Images, Material

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
DIM, WIDTH = 5, 7  # of features, and of the backbone's output, which no block divides


def images(rng, count, schema, missing):
    """Features that show all labels, logits that lean to the own ones, and outputs around a mean."""
    n = schema.num_attributes
    labels = np.stack([rng.integers(-1, size, count) for size in schema.sizes], axis=1).astype(np.int32)
    shown = np.asarray(schema.one_hot(labels)) @ np.random.default_rng(1).normal(
        size=(schema.num_values, n * DIM)
    )
    features = shown.reshape(count, n, DIM) + 0.3 * rng.normal(size=(count, n, DIM)) + 0.5
    classes = classes_of(schema, missing)
    logits = 2 * rng.normal(size=(count, classes.num_values))
    for row, number in enumerate(labels):
        for j, label in enumerate(number):
            if label >= 0:
                logits[row, classes.offsets[j] + label] += 1.5
    outputs = 3 + rng.normal(size=(count, WIDTH))
    return Images(features.astype(np.float32), logits.astype(np.float32), outputs.astype(np.float32), labels)


def material(rng, schema=SCHEMA, missing="ignore", *, gallery=12, held_out=30, look=0.5):
    """The material of representations: a gallery, a validation part, and 60 training images."""
    searched, validation, training = (images(rng, m, schema, missing) for m in (gallery, held_out, 60))
    memory = np.asarray(class_prototypes(training.features, training.labels, schema))
    return Material(schema, missing, memory, searched, validation, training, training.labels, look)
