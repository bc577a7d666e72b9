"""Running a trained encoder over any number of images."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt8
from tqdm import tqdm

from gradrev_jax import distributed
from gradrev_jax.core.accuracy import cross_correct
from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.models.encoder import AttributeEncoder, EncoderOutput
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.models.shards import AXIS

Forward = Callable[[Any, UInt8[Array | np.ndarray, "B S S 3"]], EncoderOutput]


def make_forward(encoder: AttributeEncoder) -> Forward:
    """Jitted (params, uint8 images) -> EncoderOutput, without dropout; runs where its arguments lie."""
    return jax.jit(lambda params, images: encoder.apply(params, normalize_images(images)))


def predict_batches(
    forward: Forward,
    params: Any,
    images: UInt8[np.ndarray, "M S S 3"],
    *,
    batch_size: int,
    description: str,
    progress: bool = True,
) -> Iterator[tuple[slice, EncoderOutput]]:
    """Outputs of all images in order, a batch at a time, with the rows that each covers.

    Each batch is split over the devices of this process. The last one is padded to the full size, so one
    compilation serves all, and its padding cut off.

    Args:
      forward: from ``make_forward``.
      params: the encoder's parameters.
      images: uint8 [M, S, S, 3]; a memory map is read a batch at a time. M may be 0.
      batch_size: images at once; rounded up to what the devices share equally.
      description: what the progress bar says.
      progress: whether it is shown.
    """
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS,))
    split, everywhere = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())
    if mesh.size > 1:
        forward = _on_each(forward, mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    params = jax.device_put(params, everywhere)
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc=description, unit="batch", disable=not progress, leave=False):
        batch = images[start : start + batch_size]
        padding = batch_size - len(batch)
        padded = np.pad(batch, ((0, padding), (0, 0), (0, 0), (0, 0)))
        output = jax.device_get(forward(params, jax.device_put(padded, split)))
        yield slice(start, start + len(batch)), EncoderOutput(*(leaf[: len(batch)] for leaf in output))


@functools.cache  # one compilation, however often images are encoded
def _on_each(forward: Forward, mesh: Mesh) -> Forward:
    """The same, once a device on its share of the images: what compilers would split, they may repeat."""
    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    shared = jax.shard_map(forward, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)
    return cast(Forward, jax.jit(shared))


class Encoded(NamedTuple):
    """Features of M images, and how the classifiers did on them.

    Attributes:
      features: [M, N, d].
      correct: [N, N] right answers by feature (row) and classifier (column).
      labelled: [N] labelled images by attribute.
      own_correct: int8 [M, N], whether each attribute's classifier is right on its own feature of each image;
        -1 where not labelled.
    """

    features: Float[np.ndarray, "M N d"]
    correct: Int[np.ndarray, "N N"]
    labelled: Int[np.ndarray, " N"]
    own_correct: Int[np.ndarray, "M N"]


def encode(
    forward: Forward,
    params: Any,
    images: UInt8[np.ndarray, "M S S 3"],
    labels: Int[np.ndarray, "M N"],
    encoder: AttributeEncoder,
    *,
    batch_size: int,
    description: str,
    progress: bool = True,
) -> Encoded:
    """Features and right answers of all images; see ``predict_batches`` for the arguments.

    Several processes encode a share each, and get the features of all.
    """
    n = encoder.schema.num_attributes
    total, mine = len(images), distributed.share(len(images))
    images, labels, all_labels = images[mine], labels[mine], labels
    encoded = Encoded(
        features=np.zeros((len(images), n, encoder.feature_dim), np.float32),
        correct=np.zeros((n, n), int),
        labelled=(all_labels != NOT_LABELLED).sum(axis=0),
        own_correct=np.zeros((len(images), n), np.int8),
    )
    for rows, output in predict_batches(
        forward, params, images, batch_size=batch_size, description=description, progress=progress
    ):
        encoded.features[rows] = output.features
        correct = cross_correct(output.logits, labels[rows], encoder.schema)
        np.add(encoded.correct, correct.sum(axis=0), out=encoded.correct)
        own = correct.diagonal(axis1=1, axis2=2)
        encoded.own_correct[rows] = np.where(labels[rows] != NOT_LABELLED, own, NOT_LABELLED)
    return encoded._replace(
        features=distributed.gather(encoded.features, total),
        correct=distributed.add(encoded.correct),
        own_correct=distributed.gather(encoded.own_correct, total),
    )
