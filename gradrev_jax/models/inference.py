"""Inference: runs a trained encoder over any number of images."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt8
from tqdm import tqdm

from gradrev_jax import distributed
from gradrev_jax.core.accuracy import cross_correct
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.missing_labels import value_positions
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder, EncoderOutput, FullOutput
from gradrev_jax.models.shards import AXIS

Output = TypeVar("Output")

# From parameters and a batch of inputs, uint8 pixels [B, S, S, 3] or vectors [B, V, D].
Forward = Callable[
    [Any, UInt8[Array | np.ndarray, "B S S 3"] | Float[Array | np.ndarray, "B V D"]], EncoderOutput
]


@functools.lru_cache(maxsize=8)  # so that equal encoders are compiled once in a process
def make_forward(encoder: Encoder) -> Forward:
    """Returns a jitted function of (params, inputs) that gives an ``EncoderOutput`` without dropout.

    The inputs are uint8 images, or vectors, as ``models.inputs.Rows`` gives them.

    It runs on the device of its arguments.

    Args:
      encoder: the encoder, whose parameters are the function's first argument.
    """
    return jax.jit(lambda params, inputs: encoder.apply(params, encoder.inputs.normalize(inputs)))


@functools.lru_cache(maxsize=8)
def make_full_forward(encoder: Encoder) -> Callable[[Any, Any], FullOutput]:
    """Returns a jitted function like that of ``make_forward``, which gives a ``FullOutput``.

    Args:
      encoder: the encoder.
    """

    def full_forward(params: Any, inputs: Any) -> FullOutput:
        return cast(FullOutput, encoder.apply(params, encoder.inputs.normalize(inputs), method="full_output"))

    return jax.jit(full_forward)


def predict_batches(
    forward: Callable[[Any, Any], Output],
    params: Any,
    images: Rows,
    *,
    batch_size: int,
    description: str,
    share: slice | None = None,
    progress: bool = True,
) -> Iterator[tuple[slice, Output]]:
    """Yields the outputs of all images, or of a share of them, in order, with the rows of each batch in it.

    Each batch is sharded over the devices of this process. The last batch is padded to the full size, so that
    one compilation serves all batches; its padding is cut off from the outputs. A batch is read, or decoded,
    while the one before it is computed.

    Args:
      forward: a jitted function from parameters and a batch of inputs to a tree of outputs [B, ...].
      params: its parameters.
      images: the inputs of M images, which are read batch by batch; M may be 0.
      batch_size: the number of images in a batch; rounded up to a multiple of the number of devices.
      description: the text of the progress bar.
      share: the consecutive rows whose outputs are computed; None: all.
      progress: whether the progress bar is shown.
    """
    first, last, _ = (share or slice(None)).indices(len(images))
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS,))
    split, everywhere = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())
    if mesh.size > 1:
        forward = _per_device(forward, mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    params = jax.device_put(params, everywhere)
    starts = range(first, last, batch_size)
    bar = tqdm(total=last - first, desc=description, unit="image", disable=not progress, leave=False)

    def finish(start: int, output: Output) -> tuple[slice, Output]:
        stop = min(start + batch_size, last)
        whole = jax.device_get(output)
        bar.update(stop - start)
        return slice(start - first, stop - first), jax.tree.map(lambda leaf: leaf[: stop - start], whole)

    computing: tuple[int, Output] | None = None
    with bar:
        for start in starts:
            batch = images[start : min(start + batch_size, last)]
            padded = np.pad(batch, ((0, batch_size - len(batch)), *((0, 0),) * (batch.ndim - 1)))
            output = forward(params, jax.device_put(padded, split))
            if computing is not None:
                yield finish(*computing)
            computing = start, output
        if computing is not None:
            yield finish(*computing)


@functools.cache  # one compilation for all calls of ``predict_batches``
def _per_device(forward: Callable[[Any, Any], Output], mesh: Mesh) -> Callable[[Any, Any], Output]:
    """Runs ``forward`` on each device's images with shard_map; XLA's partitioner may replicate the work."""
    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    shared = jax.shard_map(forward, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)
    return cast(Callable[[Any, Any], Output], jax.jit(shared))


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
    """Represents the predictions, among the values alone, that were compared with labels so far.

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
