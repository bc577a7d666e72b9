"""Applies a trained encoder to any number of images: their features, and correct predictions."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from gradrev_jax import distributed
from gradrev_jax.core.accuracy import cross_correct
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.missing_labels import value_positions
from gradrev_jax.models.forward import make_forward, make_full_forward, predict_batches
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder


class Encoded(NamedTuple):
    """The features of M images, what else is known of them, and the correct predictions of the classifiers.

    Attributes:
      features: the features, in P blocks, [M, P, d].
      own_logits: the logits of each attribute's classes, by its own classifier from its own feature, [M, C];
        C counts the encoder's ``classes``.
      embeddings: the outputs of the backbone, [M, H].
      correct: the number of correct predictions per feature (row) and classifier (column), [N, N]; the
        feature of a row is the block that its attribute is read from.
      labelled: the number of labelled images per attribute, [N].
      own_correct: int8 [M, N], 1 if an attribute's classifier, reading its own feature of the image, is
        correct, 0 if it is not, and -1 if the image is not labelled.
    """

    features: Float[np.ndarray, "M P d"]
    own_logits: Float[np.ndarray, "M C"]
    embeddings: Float[np.ndarray, "M H"]
    correct: Int[np.ndarray, "N N"]
    labelled: Int[np.ndarray, " N"]
    own_correct: Int[np.ndarray, "M N"]


def encode(
    params: Any,
    images: Rows,
    labels: Int[np.ndarray, "M N"],
    encoder: Encoder,
    *,
    batch_size: int,
    description: str,
    progress: bool = True,
) -> Encoded:
    """Computes the features of all images, what else ``Encoded`` has, and the correct predictions.

    Each of several processes encodes a part of the images; all return the results of all images.

    Args:
      params: the parameters of the encoder.
      images: the inputs of M images; M may be 0.
      labels: the labels, [M, N].
      encoder: the encoder.
      batch_size: the number of images in a batch.
      description: the text of the progress bar.
      progress: whether the progress bar is shown.
    """
    total, share = len(images), distributed.local_rows(len(images))
    classes = encoder.classes
    widths = (encoder.blocks.count, encoder.feature_dim), (classes.num_values,)
    features, own_logits = (np.zeros((len(labels[share]), *width), np.float32) for width in widths)
    embeddings: list[np.ndarray] = []
    tally = _Tally(labels[share], encoder)
    for rows, output in predict_batches(
        make_full_forward(encoder),
        params,
        images,
        batch_size=batch_size,
        description=description,
        share=share,
        progress=progress,
    ):
        logits = np.asarray(encoder.blocks.by_attribute(output.logits))
        features[rows], own_logits[rows] = output.features, select_own(logits, classes)
        embeddings.append(np.asarray(output.embedding))
        tally.add(rows, logits)
    if not embeddings:  # of a share without images
        width = embedding_dim(encoder, params, encoder.inputs.size_of(images))
        embeddings.append(np.zeros((0, width), np.float32))
    return Encoded(
        features=distributed.gather(features, total),
        own_logits=distributed.gather(own_logits, total),
        embeddings=distributed.gather(np.concatenate(embeddings), total),
        correct=distributed.sum_over_processes(tally.correct),
        labelled=(labels != NOT_LABELLED).sum(axis=0),
        own_correct=distributed.gather(tally.own_correct, total),
    )


def embedding_dim(encoder: Encoder, params: Any, size: int) -> int:
    """Returns the width of the backbone's output of an image, without computing it.

    Args:
      encoder: the encoder.
      params: its parameters.
      size: the height and width of its images, or the width of its vectors.
    """
    full_output = functools.partial(encoder.apply, method="full_output")
    return int(jax.eval_shape(full_output, params, encoder.inputs.example(size)).embedding.shape[1])


def select_own(logits: Float[np.ndarray, "M N C"], classes: AttributeSchema) -> Float[np.ndarray, "M C"]:
    """Selects the logits of each attribute's classes that its own classifier gives from its own feature.

    Args:
      logits: the logits of all classifiers, reading the feature of every attribute, [M, N, C].
      classes: the encoder's ``classes``.
    """
    return logits[:, classes.attribute_of, np.arange(classes.num_values)]


class Counts(NamedTuple):
    """The numbers of correct predictions of the classifiers.

    Attributes:
      correct: those per feature (row) and classifier (column), [N, N].
      labelled: the number of labelled images per attribute, [N].
    """

    correct: Int[np.ndarray, "N N"]
    labelled: Int[np.ndarray, " N"]


def count_correct(
    params: Any,
    images: Rows,
    labels: Int[np.ndarray, "M N"],
    encoder: Encoder,
    *,
    batch_size: int,
    description: str,
    progress: bool = True,
) -> Counts:
    """Counts the correct predictions, and the labelled images, as ``encode`` does, and keeps no features.

    Args:
      params: the parameters of the encoder.
      images: the inputs of M images; M may be 0.
      labels: the labels, [M, N].
      encoder: the encoder.
      batch_size: the number of images in a batch.
      description: the text of the progress bar.
      progress: whether the progress bar is shown.
    """
    share = distributed.local_rows(len(images))
    tally = _Tally(labels[share], encoder)
    for rows, output in predict_batches(
        make_forward(encoder),
        params,
        images,
        batch_size=batch_size,
        description=description,
        share=share,
        progress=progress,
    ):
        tally.add(rows, np.asarray(encoder.blocks.by_attribute(output.logits)))
    return Counts(distributed.sum_over_processes(tally.correct), (labels != NOT_LABELLED).sum(axis=0))


class _Tally:
    """Counts the predictions that agree with the labels, batch after batch.

    Predictions are among the values of an attribute, without a class of missing labels.

    Args:
      labels: the labels of all images, [M, N].
      encoder: the encoder.

    Attributes:
      correct: as in ``Encoded``, [N, N].
      own_correct: as in ``Encoded``, [M, N].
    """

    def __init__(self, labels: Int[np.ndarray, "M N"], encoder: Encoder) -> None:
        n = encoder.schema.num_attributes
        self._labels, self._schema = labels, encoder.schema
        self._values = value_positions(encoder.schema, encoder.missing)
        self.correct, self.own_correct = np.zeros((n, n), int), np.zeros((len(labels), n), np.int8)

    def add(self, rows: slice, logits: Float[np.ndarray, "B N C"]) -> None:
        """Compares the logits of some images with their labels."""
        labels = self._labels[rows]
        correct = cross_correct(logits[..., self._values], labels, self._schema)
        self.correct += correct.sum(axis=0)
        own = correct.diagonal(axis1=1, axis2=2)
        self.own_correct[rows] = np.where(labels != NOT_LABELLED, own, NOT_LABELLED)
