"""Losses that fine-tune the memory of prototypes together with the encoder (stage 2, as in ADDE-M)."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.vectors import at_least_float32

Block = Literal["soft", "hard"]
BLOCKS: tuple[Block, ...] = get_args(Block)


def consistency_loss(
    features: Float[Array | np.ndarray, "B N d"],
    labels: Int[Array | np.ndarray, "B N"],
    memory: Float[Array | np.ndarray, "J N d"],
    schema: AttributeSchema,
) -> Float[Array, ""]:
    r"""Computes the mean absolute difference between features and the prototypes of their labels.

    .. math::
        \operatorname{mean} \left| \sum_v y_v \, \mathrm{memory}[v] - f \right|

    The feature of an attribute that is not labelled has no prototype, so it is drawn to zero. Retrieval thus
    compares "not labelled" like a value.

    Args:
      features: [B, N, d].
      labels: [B, N], -1 = not labelled, as are traced labels outside their attribute.
      memory: [J, N, d], the prototypes.
      schema: the attributes.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = jnp.array([[[1.0]], [[3.0]]])
      >>> float(consistency_loss(jnp.array([[[0.5]], [[3.0]]]), np.array([[0], [1]]), memory, schema))
      0.25
    """
    _check_memory(memory, schema)
    if features.shape != (*labels.shape, memory.shape[-1]) or labels.ndim != 2:
        raise ValueError(
            f"features [B, N, d], labels [B, N] and memory [J, N, d] disagree; got {features.shape}, "
            f"{labels.shape} and {memory.shape}"
        )
    composed = jnp.einsum(
        "bv,vnd->bnd", schema.one_hot(labels), jnp.asarray(memory), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.abs(composed - jnp.asarray(features)).mean()


def off_block_loss(memory: Float[Array | np.ndarray, "J N d"], schema: AttributeSchema) -> Float[Array, ""]:
    """Computes the sum of |memory| outside its blocks, where values would change other attributes' features.

    Args:
      memory: [J, N, d], the prototypes.
      schema: the attributes.

    Raises:
      ValueError: a memory of another shape.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue",), ("s",)))
      >>> float(off_block_loss(jnp.array([[[5.0], [-1.0]], [[0.5], [5.0]]]), schema))
      1.5
    """
    _check_memory(memory, schema)
    # Not a product with 0, which would turn infinity within a block into NaN.
    return jnp.abs(jnp.where(schema.membership[:, :, None] > 0, 0, at_least_float32(memory))).sum()


def only_blocks(memory: Float[Array | np.ndarray, "J N d"], schema: AttributeSchema) -> Float[Array, "J N d"]:
    """Returns the memory with zeros outside its blocks.

    Args:
      memory: [J, N, d], the prototypes.
      schema: the attributes.

    Raises:
      ValueError: a memory of another shape.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue",), ("s",)))
      >>> only_blocks(jnp.ones((2, 2, 1)), schema)[:, :, 0].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    _check_memory(memory, schema)
    return jnp.where(schema.membership[:, :, None] > 0, jnp.asarray(memory), 0)


def _check_memory(memory: Float[Array | np.ndarray, "J N d"], schema: AttributeSchema) -> None:
    shape = (schema.num_values, schema.num_attributes)
    if memory.ndim != 3 or memory.shape[:2] != shape:
        raise ValueError(f"memory must be [J, N, d] with J, N = {shape}; got {memory.shape}")
