"""Represents what is known of images but kept from a run: labels left out, and what no label says."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Represents the labels of attributes that a run neither trains on nor asks for.

    Attributes:
      schema: the L attributes that are left out.
      labels: int32 [M, L], the index of the value within its attribute; -1: not labelled.

    Raises:
      ValueError: the labels do not fit the schema.
    """

    schema: AttributeSchema
    labels: Int[np.ndarray, "M L"]

    def __post_init__(self) -> None:
        check_labels(self.labels, self.schema, "unlabelled")

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Nuisances:
    """Represents continuous properties of images that no attribute names, as a generator knows them.

    Attributes:
      names: the names of the L nuisances.
      values: float64 [M, L]; NaN: the image has none, as a grey cloth has no hue.
      periods: the period of each nuisance, after which its values repeat, as 1 of a hue; inf: none.

    Raises:
      ValueError: the numbers of names, columns and periods differ.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "M L"]
    periods: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == self.values.shape[1] == len(self.periods):
            raise ValueError(
                f"{len(self.names)} names of nuisances need as many columns and periods, got "
                f"{self.values.shape[1]} and {len(self.periods)}"
            )

    def __len__(self) -> int:
        return len(self.values)

    def of_rows(self, rows: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R L"]:
        """Returns the values of some images.

        Args:
          rows: the rows of the images.
        """
        return self.values[rows]
