"""AMNet's edit: what the memory answers, worked into a feature by a learned layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema


class Memory(NamedTuple):
    """Represents the arrays that stage 2 trains beside the encoder.

    Attributes:
      prototypes: [J, D], the memory M, which starts as the mean feature of each value.
      keep: [D, D], W1, which starts as the identity.
      change: [D, D], W2, which starts as zeros.
    """

    prototypes: Float[Array, "J D"]
    keep: Float[Array, "D D"]
    change: Float[Array, "D D"]


def asked_values(indicators: Int[Array, "Q J"], schema: AttributeSchema) -> Float[Array, "Q J"]:
    """Returns q, what the memory is asked for: +1 for every value that is added.

    A value that is removed while another takes its place is not mentioned; one that is removed without
    another is asked for with -1, because a change that is not mentioned could not be made.

    Args:
      indicators: [Q, J], +1 for a value that is added, -1 for one that is removed.
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> asked_values(jnp.array([[-1, 1, -1, 0]]), schema).tolist()
      [[0.0, 1.0, -1.0, 0.0]]
    """
    added = jnp.maximum(indicators, 0).astype(jnp.float32)
    has_another = (added @ schema.membership) @ schema.membership.T > 0
    return jnp.where(has_another, added, indicators.astype(jnp.float32))


def edit_features(
    features: Float[Array, "Q 1 D"],
    indicators: Int[Array, "Q J"],
    memory: Memory,
    schema: AttributeSchema,
) -> Float[Array, "Q 1 D"]:
    r"""Edits entangled features by what the memory answers.

    .. math::
        r = M^\top q, \quad f' = W_1 f + W_2 r

    Args:
      features: [Q, 1, D], f.
      indicators: [Q, J], what is to change, see ``asked_values``.
      memory: the memory and the two layers, as matrices [inputs, outputs].
      schema: the attributes.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> memory = Memory(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.eye(2), 3 * jnp.eye(2))
      >>> edit_features(jnp.array([[[1.0, 0.5]]]), jnp.array([[-1, 1]]), memory, schema).tolist()
      [[[1.0, 3.5]]]
    """
    multiply = jax.lax.Precision.HIGHEST
    answer = jnp.matmul(asked_values(indicators, schema), memory.prototypes, precision=multiply)
    kept = jnp.matmul(features[:, 0], memory.keep, precision=multiply)
    return (kept + jnp.matmul(answer, memory.change, precision=multiply))[:, None]
