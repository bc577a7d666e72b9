"""Turns the changes that queries ask for into numbers: by Eq. 7, or by replacement."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.replacement import EDITS, Edit, edited_attributes
from gradrev_jax.core.vectors import as_floating


class Changes(NamedTuple):
    """The changes of Q queries: f' = f, without the blocks that are replaced, + additions · memory.

    Attributes:
      additions: [Q, M], the factor of each of the memory's M rows.
      replaced: [Q, N], the attributes whose blocks are taken out; None: the edit takes nothing out (Eq. 7).
    """

    additions: Float[np.ndarray, "Q M"]
    replaced: Bool[np.ndarray, "Q N"] | None = None

    def take(self, queries: Int[np.ndarray, " T"]) -> "Changes":
        """Returns the changes of some of the queries."""
        replaced = None if self.replaced is None else self.replaced[queries]
        return Changes(self.additions[queries], replaced)

    @property
    def num_replaceable(self) -> int:
        """The number of blocks, the first ones, that may be taken out."""
        return 0 if self.replaced is None else self.replaced.shape[1]


@dataclasses.dataclass(frozen=True)
class Replacement:
    """The edit ``replace`` of an index; see ``replace_blocks``.

    Attributes:
      attribute_of: [J], the attribute of each value.
      has_absent: whether the memory has, after its J prototypes, a row for each attribute: the block of an
        attribute whose value is removed without another.
    """

    attribute_of: Int[np.ndarray, " J"]
    has_absent: bool

    @property
    def membership(self) -> Float[np.ndarray, "J N"]:
        """1 where a value belongs to an attribute, otherwise 0."""
        return (self.attribute_of[:, None] == np.arange(self.attribute_of.max() + 1)).astype(np.float32)


def make_replacement(
    memory: Float[Array | np.ndarray, "J P d"],
    edit: Edit,
    attribute_of: Int[Array | np.ndarray, " J"] | None,
    absent: Float[Array | np.ndarray, "N d"] | None,
) -> tuple[Float[Array | np.ndarray, "M P d"], Replacement | None]:
    """Returns the rows that edits of a kind add, and what they replace; None: nothing (Eq. 7).

    Args:
      memory: [J, P, d], the prototypes.
      edit: the kind of edits.
      attribute_of: [J], the attribute of each value; ``replace`` alone needs it.
      absent: [N, d], the block of each attribute whose value is removed without another; None: zeros.

    Raises:
      ValueError: an unknown edit, ``absent`` for another edit than ``replace``, attributes that do not fit
        the memory, or a block of ``absent`` that has another shape or is not finite.
    """
    if edit not in EDITS:
        raise ValueError(f"edit must be one of {', '.join(EDITS)}, got {edit!r}")
    if edit == "add":
        if absent is not None:
            raise ValueError("absent is for edit='replace'; 'add' subtracts the prototype that is removed")
        return memory, None
    if attribute_of is None:
        raise ValueError("edit='replace' needs attribute_of, the attribute of each value")
    attributes = np.asarray(attribute_of)
    num_blocks, width = memory.shape[1:]
    if (
        attributes.shape != memory.shape[:1]
        or not (attributes >= 0).all()
        or (attributes >= num_blocks).any()
    ):
        raise ValueError(
            f"attribute_of must be [{len(memory)}], one of the {num_blocks} blocks for each value; "
            f"got {attributes.tolist()}"
        )
    replacement = Replacement(attributes, absent is not None)
    if absent is None:
        return memory, replacement
    num_attributes = replacement.membership.shape[1]
    if absent.shape != (num_attributes, width):
        raise ValueError(f"absent must be [{num_attributes}, {width}], got {absent.shape}")
    blocks = as_floating(absent)
    if (bad := ~np.isfinite(np.asarray(blocks)).all(axis=1)).any():
        raise ValueError(f"absent is not finite for attribute {int(bad.argmax())}")
    rows = np.eye(num_attributes, num_blocks, dtype=blocks.dtype)[:, :, None] * np.asarray(blocks)[:, None]
    return np.concatenate([np.asarray(memory), rows]), replacement


def make_changes(
    indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
    strength: float | Float[np.ndarray, " Q"],
    memory: Float[Array | np.ndarray, "M P d"],
    replacement: Replacement | None,
    num_queries: int,
) -> Changes:
    """Converts indicators, at a strength, to factors of the memory's rows and blocks to replace.

    Args:
      indicators: [Q, J].
      strength: the factor; one of all queries, or one of each.
      memory: [M, P, d], the rows that an edit may add: the J prototypes, and maybe those of ``Replacement``.
      replacement: what the edit replaces; None: nothing (Eq. 7).
      num_queries: Q, the number of rows that the indicators must have.

    Raises:
      ValueError: indicators of another shape, a strength that is neither, or a product that is not finite.

    Example:
      >>> replacement = Replacement(np.array([0, 0, 1]), has_absent=True)
      >>> memory = np.zeros((5, 2, 4), np.float32)  # of three values, and of two attributes
      >>> changes = make_changes(np.array([[-1, 1, -1]]), 2.0, memory, replacement, num_queries=1)
      >>> changes.additions.tolist(), changes.replaced.tolist()
      ([[0.0, 2.0, 0.0, 0.0, 1.0]], [[True, True]])
    """
    num_values, dtype = len(memory if replacement is None else replacement.attribute_of), memory.dtype
    indicators = np.asarray(indicators)
    if indicators.shape != (num_queries, num_values):
        raise ValueError(
            f"{num_queries} queries need indicators [{num_queries}, {num_values}], got {indicators.shape}"
        )
    if np.shape(strength) not in ((), (num_queries,)) or not np.isfinite(strength).all():
        raise ValueError(f"strength must be one finite number, or one of each query, got {strength}")
    unscaled = np.asarray(indicators, dtype)
    scaled = unscaled * np.reshape(np.asarray(strength, dtype), (-1, 1))
    finite = np.isfinite(scaled).all(axis=1)
    if not finite.all():
        raise ValueError(f"indicators times strength are not finite in row {int(finite.argmin())}")
    if replacement is None:
        return Changes(scaled)
    replaced, emptied = map(np.asarray, edited_attributes(unscaled, replacement.membership))
    additions = np.where(unscaled > 0, scaled, 0)
    if replacement.has_absent:
        additions = np.concatenate([additions, emptied.astype(dtype)], axis=1)
    return Changes(additions, replaced)
