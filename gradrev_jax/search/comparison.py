"""How one item and the rows of a gallery are compared: by groups of blocks, weighted and normalised."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gradrev_jax.core.normalization import Normalization


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Represents a normalisation, and the weights of groups of blocks, see ``normalize_features``.

    The blocks are in C groups: each by itself if it is normalised by itself, otherwise the block of each
    attribute, and all blocks that belong to none together.

    Attributes:
      num_blocks: P, the number of blocks.
      num_attributes: N, the number of attributes.
      normalize: the normalisation.
      weights: the scaled weight of each group, [C].
    """

    num_blocks: int
    num_attributes: int
    normalize: Normalization
    weights: Float[np.ndarray, " C"]

    @classmethod
    def of_blocks(
        cls,
        num_blocks: int,
        num_attributes: int,
        normalize: Normalization,
        weights: Float[np.ndarray, " P"] | None,
    ) -> "Comparison":
        """Creates a comparison from weights of blocks.

        Args:
          num_blocks: P.
          num_attributes: N.
          normalize: the normalisation.
          weights: as ``scale_weights`` returns them, [P]; None: all 1.
        """
        made = cls(num_blocks, num_attributes, normalize, np.ones(0))
        firsts = [group.start for group in made.groups]
        of_groups = np.ones(len(firsts)) if weights is None else np.asarray(weights, np.float64)[firsts]
        return dataclasses.replace(made, weights=of_groups)

    @functools.cached_property
    def groups(self) -> list[slice]:
        """The blocks of each group."""
        if self.normalize == "attribute":
            return [slice(p, p + 1) for p in range(self.num_blocks)]
        rest = [slice(self.num_attributes, self.num_blocks)] if self.has_rest else []
        return [*(slice(n, n + 1) for n in range(self.num_attributes)), *rest]

    @property
    def has_rest(self) -> bool:
        """Returns whether the last group is what belongs to no attribute."""
        return self.normalize != "attribute" and self.num_blocks > self.num_attributes

    def with_rest(self, factor: float) -> "Comparison":
        """Returns the comparison in which the weight of what belongs to no attribute has a factor.

        Args:
          factor: the factor; 1 where every block belongs to an attribute.

        Raises:
          ValueError: it is not, or not finite.
        """
        if not np.isfinite(factor):
            raise ValueError(f"the factor of the rest must be finite, got {factor}")
        if factor == 1:
            return self
        if not self.has_rest:
            raise ValueError(f"every block belongs to an attribute, so {factor} has no rest to weigh")
        return dataclasses.replace(self, weights=np.append(self.weights[:-1], self.weights[-1] * factor))

    def lengths(self, item: Float[np.ndarray, "P w"]) -> Float[np.ndarray, " C"]:
        """Returns the length of each group of an item."""
        return np.array([np.linalg.norm(np.asarray(item[group], np.float64)) for group in self.groups])

    def apply(self, items: Float[np.ndarray, "m P w"]) -> Float[np.ndarray, "m P w"]:
        """Weighs and normalises items, in float64; a zero vector stays zero.

        Args:
          items: the items, [m, P, w].

        Example:
          >>> Comparison.of_blocks(1, 1, "global", None).apply(np.array([[[0.0, 4.0]]])).tolist()
          [[[0.0, 1.0]]]
        """
        items = np.asarray(items, np.float64)
        sizes = [group.stop - group.start for group in self.groups]
        weights = np.repeat(self.weights, sizes)[:, None]
        if self.normalize == "attribute":
            lengths = np.sqrt(np.square(items).sum(axis=2, keepdims=True))
            return items * inverse(lengths) * weights / np.sqrt(self.num_blocks)
        weighted = items * weights
        if self.normalize == "none":
            return weighted
        return weighted * inverse(np.sqrt(np.square(weighted).sum(axis=(1, 2), keepdims=True)))

    def scales(
        self, query: Float[np.ndarray, " C"], rows: Float[np.ndarray, "C G"]
    ) -> tuple[Sequence[Any], Float[np.ndarray, " G"]]:
        """Returns what products of groups are multiplied by, and what their double is subtracted from.

        |q - g|² is ``constant - 2 * sum of scale[c] * (product of the groups c, neither weighted nor
        normalised)``.

        Args:
          query: the lengths of the query's groups, [C].
          rows: the lengths of the rows' groups, [C, G].

        Returns:
          The scale of each group, a number or [G], and the constant, [G].
        """
        squared = self.weights**2
        if self.normalize == "none":
            return list(squared), squared @ rows**2 + float(squared @ query**2)
        if self.normalize == "attribute":
            share = squared / self.num_blocks
            constant = share @ ((query > 0)[:, None].astype(float) + (rows > 0))
            return [
                factor * inverse(of_rows)
                for factor, of_rows in zip(share * inverse(query), rows, strict=True)
            ], constant
        of_query, of_rows = np.sqrt(squared @ query**2), np.sqrt(squared @ rows**2)
        both = inverse(of_rows) * inverse(np.asarray(of_query))
        return [factor * both for factor in squared], (of_rows > 0) + float(of_query > 0)


def inverse(numbers: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Returns 1 / x, and 0 where x is 0.

    Example:
      >>> inverse(np.array([0.0, 4.0])).tolist()
      [0.0, 0.25]
    """
    return np.divide(1.0, numbers, out=np.zeros_like(numbers), where=numbers > 0)
