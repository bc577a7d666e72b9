"""Building the memory from all training images, without holding their features."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from gradrev_jax import distributed
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import PrototypeSums, memory_from_sums, prototype_sums
from gradrev_jax.models.inference import Forward, predict_batches


def build_memory(
    forward: Forward,
    params: Any,
    parts: Sequence[tuple[UInt8[np.ndarray, "_ S S 3"], Int[np.ndarray, "_ N"]]],
    schema: AttributeSchema,
    *,
    feature_dim: int,
    batch_size: int,
    progress: bool = True,
) -> Float[Array, "J N d"]:
    """Memory of prototypes over the images of all parts (Eq. 6); several processes encode a share each.

    Args:
      forward: from ``models.inference.make_forward``.
      params: the encoder's parameters.
      parts: (uint8 images, labels) of each part.
      schema: the attributes.
      feature_dim: d.
      batch_size: images at once.
      progress: whether a progress bar is shown.
    """
    shape = (schema.num_values, feature_dim)
    total = PrototypeSums(jnp.zeros(shape), jnp.zeros(schema.num_values))
    for every_image, every_label in parts:
        mine = distributed.share(len(every_image))
        images, labels = every_image[mine], every_label[mine]
        for rows, output in predict_batches(
            forward, params, images, batch_size=batch_size, description="prototypes", progress=progress
        ):
            total = jax.tree.map(jnp.add, total, prototype_sums(output.features, labels[rows], schema))
    return memory_from_sums(distributed.add(total), schema)
