"""Compares one item with the rows of a gallery by groups of blocks, weighted and normalised."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gradrev_jax.core.normalization import Normalization


@dataclasses.dataclass(frozen=True)
class BlockComparison:
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
    ) -> "BlockComparison":
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

    def with_rest(self, factor: float) -> "BlockComparison":
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
          >>> BlockComparison.of_blocks(1, 1, "global", None).apply(np.array([[[0.0, 4.0]]])).tolist()
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

    def row_lengths(self, lengths: Float[np.ndarray, "C G"]) -> Float[np.ndarray, "C G"]:
        """Returns the lengths of rows' groups in the distance: 1 or 0 where each is normalised by itself.

        Args:
          lengths: the lengths of the groups as they are, [C, G].
        """
        return (lengths > 0).astype(np.float64) if self.normalize == "attribute" else lengths

    def scales(self, query: Float[np.ndarray, " C"], squared_rows: Float[np.ndarray, "C G"]) -> "Scales":
        """Returns the factors of the products of groups.

        Args:
          query: the lengths of the query's groups, [C].
          squared_rows: the squares of ``row_lengths``, [C, G].
        """
        squared = self.weights**2
        if self.normalize == "none":
            return Scales(squared, np.ones(1), squared @ squared_rows + squared @ query**2)
        if self.normalize == "attribute":
            share = squared / self.num_blocks
            return Scales(share * inverse(query), np.ones(1), share @ squared_rows + share @ (query > 0))
        of_query, of_rows = np.sqrt(squared @ query**2), np.sqrt(squared @ squared_rows)
        constant = (of_rows > 0) + np.float64(of_query > 0)
        return Scales(squared * inverse(np.asarray(of_query)), inverse(of_rows), constant)


class Scales(NamedTuple):
    """Represents the factors that turn products of groups into squared distances.

    |q - g|² is ``constant - 2 * of_rows * sum of of_groups[c] * (product of the groups c)``, where a query's
    group is neither weighted nor normalised, and a row's only where each group is normalised by itself.

    Attributes:
      of_groups: the factor of each group, [C].
      of_rows: the factor of each row, [G], or one for all, [1].
      constant: [G].
    """

    of_groups: Float[np.ndarray, " C"]
    of_rows: Float[np.ndarray, " _"]
    constant: Float[np.ndarray, " G"]


def inverse(numbers: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Returns 1 / x, and 0 where x is 0.

    Example:
      >>> inverse(np.array([0.0, 4.0])).tolist()
      [0.0, 0.25]
    """
    return np.divide(1.0, numbers, out=np.zeros_like(numbers), where=numbers > 0)
