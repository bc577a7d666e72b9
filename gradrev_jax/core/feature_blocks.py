"""Where attributes stand in the blocks of a feature: each in one of its own, or several in one."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema


@dataclasses.dataclass(frozen=True)
class FeatureBlocks:
    """The P blocks of a feature [P, d], and which of them each of the N attributes is read from.

    Attributes:
      of_attribute: the block of each attribute, (N,); several attributes may share one.
      count: P. Blocks that are no attribute's are compared, and never edited.

    Raises:
      ValueError: a block outside the P, or no attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s",)))
      >>> FeatureBlocks.own(schema)
      FeatureBlocks(of_attribute=(0, 1), count=2)
      >>> FeatureBlocks.shared(schema).of_value(schema).tolist()
      [0, 0, 0]
    """

    of_attribute: tuple[int, ...]
    count: int

    def __post_init__(self) -> None:
        if not self.of_attribute or not all(0 <= block < self.count for block in self.of_attribute):
            raise ValueError(f"of_attribute must lie in [0, {self.count}), got {self.of_attribute}")

    @classmethod
    def own(cls, schema: AttributeSchema) -> "FeatureBlocks":
        """Returns one block per attribute, in their order.

        Args:
          schema: the attributes.
        """
        return cls(tuple(range(schema.num_attributes)), schema.num_attributes)

    @classmethod
    def shared(cls, schema: AttributeSchema) -> "FeatureBlocks":
        """Returns one block that all attributes are read from: an entangled feature.

        Args:
          schema: the attributes.
        """
        return cls((0,) * schema.num_attributes, 1)

    @functools.cached_property
    def are_own(self) -> bool:
        """True if each attribute has a block of its own: block n is that of attribute n."""
        return self.of_attribute == tuple(range(len(self.of_attribute)))

    def of_value(self, schema: AttributeSchema) -> Int[np.ndarray, " J"]:
        """Returns the block of each value, [J].

        Args:
          schema: the attributes with their values, or with their classes.
        """
        return np.asarray(self.of_attribute, np.int32)[schema.attribute_of]

    def by_attribute(self, blocks: Float[Array | np.ndarray, "M P w"]) -> Float[Array | np.ndarray, "M N w"]:
        """Returns the block that each attribute is read from; without a copy, if these are the first N.

        Args:
          blocks: [M, P, w], features or what was read from each of them.

        Example:
          >>> FeatureBlocks((1, 0, 1), 2).by_attribute(np.array([[[1.0], [2.0]]])).tolist()
          [[[2.0], [1.0], [2.0]]]
        """
        if self.are_own:
            return blocks[:, : len(self.of_attribute)]
        return blocks[:, np.asarray(self.of_attribute)]
