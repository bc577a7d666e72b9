"""Edits by replacement: the block of an attribute that changes is taken out, and another put in its place."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import broadcasts_to
from gradrev_jax.core.vectors import as_floating

# How an indicator changes features: by Eq. 7, see ``manipulate``, or by replacement, see ``replace_blocks``.
Edit = Literal["add", "replace"]
EDITS: tuple[Edit, ...] = get_args(Edit)


def replace_blocks(
    features: Float[Array | np.ndarray, "*batch P d"],
    indicator: Float[Array | np.ndarray, "*batch J"] | Int[Array | np.ndarray, "*batch J"],
    memory: Float[Array | np.ndarray, "J P d"],
    attribute_of: Int[Array | np.ndarray, " J"],
    *,
    strength: float | Float[Array | np.ndarray, "*#batch"] = 1.0,
    absent: Float[Array | np.ndarray, "N d"] | None = None,
) -> Float[Array, "*batch P d"]:
    r"""Edits features by replacing the blocks of the attributes that change.

    With R the attributes for which the indicator i is not zero, and A those of R to which it adds no value,

    .. math::
        f'_n = [n \notin R] \, f_n + s \sum_v \max(i_v, 0) \, \mathrm{memory}[v, n]
        + [n \in A] \, \mathrm{absent}[n]

    What the image had for the attribute does not matter, so a value that is removed only says which block is
    replaced. The prototype of a value that is added counts with all its blocks. Blocks from N on belong to no
    attribute, and are never replaced. Nothing is checked but shapes, as in ``manipulate``.

    Args:
      features: [..., P, d], P >= N; block n < N is that of attribute n.
      indicator: [..., J]; +1 adds a value, -1 removes it, 0 leaves it. Of fractions, those above 0 scale the
        prototype, and any replaces the block.
      memory: [J, P, d], the prototypes.
      attribute_of: [J], the attribute of each value, as from ``AttributeSchema``.
      strength: the factor s of the prototypes that are added; one of all edits, or one of each.
      absent: [N, d], the block of each attribute whose value is removed without another; None: zeros.

    Returns:
      [..., P, d], in the features' dtype, or in float32 if they are integers.

    Raises:
      ValueError: shapes that disagree.

    Example:
      >>> memory = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # one attribute, two values, d = 2
      >>> one, attribute_of = np.array([[0.6, 0.2]]), np.array([0, 0])
      >>> replace_blocks(one, np.array([-1, 1]), memory, attribute_of, strength=2.0).tolist()
      [[0.0, 2.0]]
      >>> replace_blocks(one, np.array([-1, 0]), memory, attribute_of, absent=np.array([[0.5, 0.5]])).tolist()
      [[0.5, 0.5]]
    """
    indicator, attribute_of = jnp.asarray(indicator), jnp.asarray(attribute_of)
    features, memory = as_floating(features), as_floating(memory)
    _check_shapes(features, indicator, memory, attribute_of, absent)
    num_blocks = features.shape[-2]
    membership = (attribute_of[:, None] == jnp.arange(num_blocks)).astype(memory.dtype)
    replaced, emptied = edited_attributes(indicator, membership)
    # In float32 at least: bfloat16 would round a strength of 0.3.
    dtype = jnp.promote_types(jnp.result_type(features, memory), jnp.float32)
    factors = _strengths(strength, indicator).astype(dtype) * jnp.maximum(indicator, 0).astype(dtype)
    edit = jnp.einsum("...v,vnd->...nd", factors, memory.astype(dtype), precision=jax.lax.Precision.HIGHEST)
    if absent is not None:
        blocks = jnp.pad(as_floating(absent), ((0, num_blocks - len(absent)), (0, 0)))
        edit += jnp.where(emptied[..., None], blocks, 0)
    return (jnp.where(replaced[..., None], 0, features) + edit).astype(features.dtype)


def edited_attributes(
    indicator: Float[Array | np.ndarray, "*batch J"] | Int[Array | np.ndarray, "*batch J"],
    membership: Float[Array | np.ndarray, "J N"],
) -> tuple[Bool[Array | np.ndarray, "*batch N"], Bool[Array | np.ndarray, "*batch N"]]:
    """Returns which attributes an indicator changes, and to which of them it adds no value.

    Args:
      indicator: [..., J].
      membership: [J, N], 1 where a value belongs to an attribute, otherwise 0.

    Example:
      >>> membership = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> [x.tolist() for x in edited_attributes(np.array([-1, 1, -1]), membership)]
      [[True, True], [False, True]]
    """
    changed = (indicator != 0).astype(membership.dtype) @ membership > 0
    added = (indicator > 0).astype(membership.dtype) @ membership > 0
    return changed, changed & ~added


def _strengths(strength: float | Array | np.ndarray, indicator: Array) -> Array:
    """Returns the strength of each edit, with an axis for the values."""
    strength, edits = jnp.asarray(strength), indicator.shape[:-1]
    if not broadcasts_to(strength.shape, edits):
        raise ValueError(f"strength must be one number or one of each edit, {edits}, got {strength.shape}")
    return strength[..., None]


def _check_shapes(
    features: Array,
    indicator: Array,
    memory: Array,
    attribute_of: Array,
    absent: Array | np.ndarray | None,
) -> None:
    """Raises unless the arguments of ``replace_blocks`` have shapes that agree."""
    if (
        memory.ndim != 3
        or features.shape[-2:] != memory.shape[1:]
        or indicator.shape != (*features.shape[:-2], len(memory))
        or attribute_of.shape != memory.shape[:1]
    ):
        raise ValueError(
            "features [..., P, d], indicator [..., J], memory [J, P, d] and attribute_of [J] disagree; "
            f"got {features.shape}, {indicator.shape}, {memory.shape} and {attribute_of.shape}"
        )
    if absent is not None and (
        absent.ndim != 2 or absent.shape[1:] != memory.shape[2:] or len(absent) > memory.shape[1]
    ):
        raise ValueError(
            f"absent must be [N, {memory.shape[2]}] with N <= {memory.shape[1]}, got {absent.shape}"
        )
