"""The memory of prototypes and the manipulation of features (Eqs. 6 and 7)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.feature_arguments import check_features
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.vectors import as_floating, at_least_float32

SUM_ROWS = 1024  # the rows that are summed one after the other; sums of so many are then added


class PrototypeSums(NamedTuple):
    """Sums and counts of features per value; those of batches add up (``jax.tree.map(jnp.add, a, b)``).

    Attributes:
      sums: [J, d], the sum of the features of the images with each value.
      counts: [J], the number of these images.
    """

    sums: Float[Array | np.ndarray, "J d"]
    counts: Float[Array | np.ndarray, " J"]


def prototype_sums(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> PrototypeSums:
    """Sums and counts f[:, n] over the images with value v of attribute n, for every v.

    Args:
      features: [M, N, d].
      labels: [M, N], -1 = not labelled, as are traced labels outside their attribute.
      schema: the attributes.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> prototype_sums(np.array([[[1.0]], [[2.0]]]), np.array([[1], [1]]), schema).counts.tolist()
      [0.0, 2.0]
    """
    check_features(features, labels, schema)
    features = at_least_float32(features)
    labels = jnp.asarray(sanitize_labels(labels, schema))
    # Missing labels are summed in a segment of their own, past the last value, which is dropped.
    values = jnp.where(labels == NOT_LABELLED, schema.num_values, labels + np.asarray(schema.offsets))
    rows = features.reshape(-1, features.shape[-1])
    segments = schema.num_values + 1
    sums = _segment_sums(rows, values.reshape(-1), segments)[:-1]
    counts = _segment_sums(jnp.ones((values.size, 1), features.dtype), values.reshape(-1), segments)[:-1, 0]
    return PrototypeSums(sums, counts)


def _segment_sums(
    rows: Float[Array, "M d"], segment_of: Int[Array, " M"], count: int
) -> Float[Array, "count d"]:
    """Sums the rows of each segment, some at a time, because the error of a sum grows with its length."""
    size = min(max(len(rows), 1), SUM_ROWS)
    padding = -len(rows) % size  # zeros, which change no sum
    rows, segment_of = jnp.pad(rows, ((0, padding), (0, 0))), jnp.pad(segment_of, (0, padding))
    parts = rows.reshape(-1, size, rows.shape[1]), segment_of.reshape(-1, size)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        # Without the barrier, XLA would add the rows to the total, one after the other.
        return total + jax.lax.optimization_barrier(jax.ops.segment_sum(*part, count)), None

    # Under shard_map, they vary over the devices that the operands vary over.
    zeros = jnp.zeros_like(rows, shape=(count, rows.shape[-1])) + jnp.zeros_like(segment_of, rows.dtype, ())
    return jax.lax.scan(add, zeros, parts)[0]


@functools.partial(jax.jit, static_argnames=("schema", "blocks"))
def memory_from_sums(
    sums: PrototypeSums,
    schema: AttributeSchema,
    blocks: FeatureBlocks | None = None,
) -> Float[Array, "J P d"]:
    """Computes the memory of prototypes (Eq. 6): the mean of value v in the block of its attribute n(v).

    Elsewhere it is zero.

    Args:
      sums: the sums and counts per value.
      schema: the attributes.
      blocks: the block that each attribute is read from; None: one of its own.
    """
    prototypes = sums.sums / jnp.maximum(sums.counts, 1)[:, None]
    blocks = blocks or FeatureBlocks.own(schema)
    is_own = blocks.of_value(schema)[:, None] == np.arange(blocks.count)
    # Not a product with 0 and 1, which would spread NaN and infinity over all blocks.
    return jnp.where(is_own[:, :, None], prototypes[:, None, :], 0)


@functools.partial(jax.jit, static_argnames=("schema", "blocks"))
def mean_prototypes(
    memory: Float[Array | np.ndarray, "J P d"],
    schema: AttributeSchema,
    blocks: FeatureBlocks | None = None,
) -> Float[Array, "N d"]:
    """Computes the mean of each attribute's prototypes, in its own block; values without images count as 0.

    Args:
      memory: [J, P, d], the prototypes.
      schema: the attributes.
      blocks: the block that each attribute is read from; None: one of its own.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> mean_prototypes(np.array([[[1.0]], [[3.0]]]), schema).tolist()
      [[2.0]]
    """
    of_value = (blocks or FeatureBlocks.own(schema)).of_value(schema)
    own = jnp.asarray(memory)[np.arange(schema.num_values), of_value]
    sums = jax.ops.segment_sum(own, schema.attribute_of, schema.num_attributes)
    return sums / np.asarray(schema.sizes, np.float32)[:, None]


def class_prototypes(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Float[Array, "J N d"]:
    """Computes the memory of prototypes (Eq. 6): per value, the mean feature of the images that have it.

    Args:
      features: [M, N, d].
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Returns:
      [J, N, d]; the prototype of value v is in block n(v), its other blocks are zero. A value without an
      image has a zero prototype. Features that are not finite give a prototype that is not finite.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> class_prototypes(np.array([[[1.0]], [[3.0]]]), np.array([[1], [1]]), schema).tolist()
      [[[0.0]], [[2.0]]]
    """
    return memory_from_sums(prototype_sums(features, labels, schema), schema)


def manipulate(
    features: Float[Array | np.ndarray, "*batch N d"],
    indicator: Float[Array | np.ndarray, "*batch J"] | Int[Array | np.ndarray, "*batch J"],
    memory: Float[Array | np.ndarray, "J N d"],
) -> Float[Array, "*batch N d"]:
    r"""Edits features by adding and removing prototypes (Eq. 7).

    .. math::
        f' = f + \sum_v i_v \, \mathrm{memory}[v]

    Nothing is checked but shapes: several values of one attribute may be added, and NaN or infinity passes
    through; in a prototype, it makes every edit of its blocks NaN, also those that do not use it.
    ``check_indicators`` raises for indicators that are no single change per attribute.

    Args:
      features: [..., N, d].
      indicator: [..., J]; +1 adds a value, -1 removes it, 0 leaves it. ``strength * indicator`` adds and
        removes more or less than one prototype.
      memory: [J, N, d], the prototypes.

    Returns:
      [..., N, d], in the features' dtype, or in float32 if they are integers.

    Raises:
      ValueError: shapes that disagree.

    Example:
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # one attribute, two values, d = 2
      >>> manipulate(np.array([[1.0, 0.0]]), np.array([-1, 1]), memory).tolist()
      [[0.0, 1.0]]
    """
    indicator = jnp.asarray(indicator)
    features, memory = as_floating(features), as_floating(memory)
    if (
        memory.ndim != 3
        or features.shape[-2:] != memory.shape[1:]
        or indicator.shape != (*features.shape[:-2], len(memory))
    ):
        raise ValueError(
            "features [..., N, d], indicator [..., J] and memory [J, N, d] disagree; "
            f"got {features.shape}, {indicator.shape} and {memory.shape}"
        )
    # In float32 at least: bfloat16 would round a strength of 0.3.
    dtype = jnp.promote_types(jnp.result_type(features, memory), jnp.float32)
    edit = jnp.einsum(
        "...v,vnd->...nd",
        indicator.astype(dtype),
        memory.astype(dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (features + edit).astype(features.dtype)
