"""The memory of prototypes and the manipulation of features (Eqs. 6 and 7)."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels, sanitize_labels
from gradrev_jax.core.feature_arguments import check_features
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.vectors import as_floating


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
    features = jnp.asarray(features, jnp.promote_types(jnp.result_type(features), jnp.float32))
    labels = jnp.asarray(sanitize_labels(labels, schema))
    # Missing labels are summed in a segment of their own, past the last value, which is dropped.
    values = jnp.where(labels == NOT_LABELLED, schema.num_values, labels + np.asarray(schema.offsets))
    rows = features.reshape(-1, features.shape[-1])
    segments = schema.num_values + 1
    sums = jax.ops.segment_sum(rows, values.reshape(-1), segments)[:-1]
    counts = jax.ops.segment_sum(jnp.ones(values.size, features.dtype), values.reshape(-1), segments)[:-1]
    return PrototypeSums(sums, counts)


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
    through. ``check_indicators`` raises for indicators that are no single change per attribute.

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
    edit = jnp.einsum(
        "...v,vnd->...nd",
        indicator.astype(memory.dtype),
        memory,
        precision=jax.lax.Precision.HIGHEST,
    )
    return (features + edit).astype(features.dtype)


def make_indicator(
    schema: AttributeSchema, labels: Int[np.ndarray, " N"], changes: Mapping[str, str | None]
) -> Int[np.ndarray, " J"]:
    """Creates the indicator that changes some attributes of an item, for ``manipulate`` (Eq. 7).

    Args:
      schema: the attributes.
      labels: [N], the item's labels, -1 = not labelled.
      changes: the new value of each attribute to change, by name; None removes the present value.

    Returns:
      int32 [J]: +1 at each new value, and -1 at the value that it replaces, if the item is labelled.

    Raises:
      ValueError: an unknown name, a new value that equals the present one, or labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> make_indicator(schema, np.array([0, -1]), {"color": "red", "size": "m"}).tolist()
      [-1, 1, 0, 1]
    """
    check_labels(labels, schema)
    indicator = np.zeros(schema.num_values, np.int32)
    for attribute, value in changes.items():
        if attribute not in schema.names:
            schema.index(attribute, "")  # raises an error with the nearest name
        n = schema.names.index(attribute)
        present = None if labels[n] == NOT_LABELLED else schema.values[n][labels[n]]
        if value == present:
            raise ValueError(f"the item's {attribute} is {present or 'not labelled'} already")
        if value is not None:
            indicator[schema.index(attribute, value)] = 1
        if present is not None:
            indicator[schema.index(attribute, present)] = -1
    return indicator


def check_indicators(indicators: Int[np.ndarray, "*batch J"], schema: AttributeSchema) -> None:
    """Raises unless every indicator holds -1, 0 and 1 only, with at most one +1 and one -1 per attribute.

    Args:
      indicators: [..., J].
      schema: the attributes.

    Raises:
      ValueError: another shape, another number, or several values of one attribute; the message has the
        first such row and attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> check_indicators(np.array([[-1, 1, 0, 0], [1, 1, 0, 0]]), schema)
      Traceback (most recent call last):
      ValueError: row 1 has 2 values of attribute 'color' added; at most one is allowed
    """
    if np.shape(indicators)[-1:] != (schema.num_values,):
        raise ValueError(f"indicators need {schema.num_values} columns (values), got {np.shape(indicators)}")
    rows = np.asarray(indicators).reshape(-1, schema.num_values)
    if outside := sorted(set(np.unique(rows).tolist()) - {-1, 0, 1}):
        raise ValueError(f"indicators must hold -1, 0 and 1 only, got {outside}")
    for sign, word in ((1, "added"), (-1, "removed")):
        counts = (rows == sign) @ schema.membership
        bad = np.argwhere(counts > 1)
        if bad.size:
            row, n = bad[0]
            raise ValueError(
                f"row {row} has {int(counts[row, n])} values of attribute {schema.names[n]!r} {word}; "
                "at most one is allowed"
            )


def describe_change(indicator: Int[np.ndarray, " J"], schema: AttributeSchema) -> str:
    """Returns an indicator as text.

    A swap reads ``"color: blue -> red"``, an addition ``"+ size: m"``, a removal ``"- size: m"``.

    Args:
      indicator: [J], as from ``make_indicator``.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_indicators``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> describe_change(np.array([-1, 1, 0, 1]), schema)
      'color: blue -> red, + size: m'
    """
    check_indicators(indicator, schema)
    words = []
    for n, name in enumerate(schema.names):
        block = indicator[schema.offsets[n] : schema.offsets[n] + schema.sizes[n]]
        added = [schema.values[n][v] for v in np.flatnonzero(block > 0)]
        removed = [schema.values[n][v] for v in np.flatnonzero(block < 0)]
        if added and removed:
            words.append(f"{name}: {removed[0]} -> {added[0]}")
        elif added or removed:
            words.append(f"{'+' if added else '-'} {name}: {(added or removed)[0]}")
    return ", ".join(words)
