"""Computes the memory of prototypes from all training images, without keeping their features."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax import distributed
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_arguments import check_features
from gradrev_jax.core.manipulation import PrototypeSums, memory_from_sums, prototype_sums
from gradrev_jax.models.forward import make_full_forward, predict_batches
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder


def build_memory(
    params: Any,
    parts: Sequence[tuple[Rows, Int[np.ndarray, "_ N"]]],
    encoder: Encoder,
    *,
    batch_size: int,
    progress: bool = True,
) -> Float[Array, "J P d"]:
    """Computes the memory of prototypes over the images of all parts (Eq. 6).

    Each of several processes encodes a part of the images; all return the same memory.

    Args:
      params: the parameters of the encoder.
      parts: the pairs of the inputs of M images and of their labels [M, N], one per part.
      encoder: the encoder.
      batch_size: the number of images in a batch.
      progress: whether a progress bar is shown.
    """
    total = sum_features(params, parts, encoder, batch_size=batch_size, progress=progress)
    return memory_from_sums(total, encoder.schema, encoder.blocks)


def prototype_shape(encoder: Encoder) -> jax.ShapeDtypeStruct:
    """Returns the shape of the prototypes of an encoder's values, [J, P, d].

    Args:
      encoder: the model.
    """
    shape = encoder.schema.num_values, encoder.blocks.count, encoder.feature_dim
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def sum_features(
    params: Any,
    parts: Sequence[tuple[Rows, Int[np.ndarray, "_ N"]]],
    encoder: Encoder,
    *,
    batch_size: int,
    progress: bool = True,
) -> PrototypeSums:
    """Computes the sums that the memory of prototypes is the means of, over the images of all parts.

    The arguments are those of ``build_memory``.
    """
    schema, blocks = encoder.schema, encoder.blocks
    shape = (schema.num_values, encoder.feature_dim)
    total = PrototypeSums(np.zeros(shape, np.float32), np.zeros(schema.num_values, np.float32))
    for images, all_labels in parts:
        share = distributed.local_rows(len(images))
        labels = all_labels[share]
        for rows, output in predict_batches(
            make_full_forward(encoder),
            params,
            images,
            batch_size=batch_size,
            description="prototypes",
            share=share,
            progress=progress,
        ):
            features = blocks.by_attribute(output.features)
            check_features(features, labels[rows], schema)
            total = _add(total, features, labels[rows], schema)
    summed: PrototypeSums = distributed.sum_over_processes(total)
    return summed


@functools.partial(jax.jit, static_argnames="schema")
def _add(
    total: PrototypeSums,
    features: Float[Array | np.ndarray, "B N d"],
    labels: Int[Array | np.ndarray, "B N"],
    schema: AttributeSchema,
) -> PrototypeSums:
    """Adds the sums and counts of a batch."""
    return jax.tree.map(jnp.add, total, prototype_sums(features, labels, schema))
