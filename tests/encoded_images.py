"""Encoded images as evaluation has them, made up so that a search finds something."""

import pathlib

import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.core.missing_labels import classes_of
from gradrev_jax.core.spaces import Images, Material
from gradrev_jax.data.catalogue import VALIDATION, Catalogue, split_parts
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.runs.protocol import build_protocol

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


class Encoder:
    schema = SCHEMA


def opened(labels, **fields):
    """A run that has a validation part and a protocol; nothing else of it is looked at."""
    config = default_config()
    config.protocol.update({"strength": "validation", **fields})
    images = ImageFiles(pathlib.Path(), tuple(map(str, range(len(labels)))))
    parts = split_parts(np.full(len(labels), VALIDATION))
    run = object.__new__(OpenedRun)
    values = {
        "protocol": build_protocol(config),
        "catalogue": Catalogue(SCHEMA, images, labels, parts),
        "encoder": Encoder(),
        "seed": 0,
    }
    vars(run).update(values)
    return run


def slow_hit_rate(space, labels, normalize, edit, strength, *, exclude=False, weights=None, k=10):
    """The share of validation queries with a match, in float64, of our code with the queries alone."""
    rows, memory = (np.asarray(part, np.float64) for part in (space.held_out, space.memory))

    def flat(features):
        if normalize == "attribute":
            features = features / np.linalg.norm(features, axis=-1, keepdims=True)
        if weights is not None:
            features = features * np.asarray(weights)[:, None]
        return features.ravel() / (1 if normalize == "none" else np.linalg.norm(features))

    compared = np.stack([flat(row) for row in rows])
    queries = generate_queries(labels, SCHEMA)
    hits = 0
    for reference, indicator, target in zip(
        queries.reference, queries.indicators, queries.targets, strict=True
    ):
        edited = rows[reference].copy()
        for value, sign in enumerate(indicator.tolist()):
            if sign and edit == "replace":
                edited[SCHEMA.attribute_of[value]] = 0
        for value, sign in enumerate(indicator.tolist()):
            if sign > 0 or edit == "add":
                edited += strength * sign * memory[value]
        order = np.argsort(((compared - flat(edited)) ** 2).sum(axis=1), kind="stable").tolist()
        found = [row for row in order if not (exclude and row == reference)][:k]
        hits += any(labels[row].tolist() == target.tolist() for row in found)
    return hits / len(queries)
