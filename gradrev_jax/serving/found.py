"""Results of a search, in the words of the catalogue."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.evaluation.short_text import visible
from gradrev_jax.serving.matching import are_wanted

SHOWN = 10  # garments that are listed at a prompt


class Result(NamedTuple):
    """Represents one garment that was found.

    Attributes:
      row: its row in the gallery.
      name: the name of its image.
      distance: its distance from what was asked for.
      labels: the value of each attribute; None: not labelled.
      predicted: the likeliest value of each attribute, and its probability.
      matches: whether its labels are exactly those asked for.
      differs: the attributes in which they are not.
    """

    row: int
    name: str
    distance: float
    labels: dict[str, str | None]
    predicted: dict[str, tuple[str, float]]
    matches: bool
    differs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Found:
    """Represents the garments that a search found, nearest first; it is iterated over as ``Result``.

    Attributes:
      schema: the attributes.
      rows: their rows in the gallery, [k].
      distances: their distances from what was asked for, [k].
      names: the names of their images.
      labels: their labels, [k, N], -1 = not labelled.
      predicted: their likeliest values, [k, N].
      probabilities: the probabilities of these, [k, N].
      wanted: the labels asked for, [N], see ``wanted_labels``.
      unwanted: the values that none may have to match, [J], see ``unwanted_values``.
      milliseconds: the time that the search took.
      exact: whether they certainly are the nearest; not so by an engine that searches approximately.
    """

    schema: AttributeSchema
    rows: Int[np.ndarray, " k"]
    distances: Float[np.ndarray, " k"]
    names: Sequence[str]
    labels: Int[np.ndarray, "k N"]
    predicted: Int[np.ndarray, "k N"]
    probabilities: Float[np.ndarray, "k N"]
    wanted: Int[np.ndarray, " N"]
    unwanted: Bool[np.ndarray, " J"]
    milliseconds: float
    exact: bool = True

    @property
    def differs(self) -> Bool[np.ndarray, "k N"]:
        """In which attributes the labels are not those asked for, [k, N]."""
        return np.logical_not(are_wanted(self.labels, self.wanted, self.unwanted, self.schema))

    @property
    def matches(self) -> Bool[np.ndarray, " k"]:
        """Which have exactly the labels asked for, [k]."""
        return np.logical_not(self.differs.any(axis=1))

    def __repr__(self) -> str:
        """Lists the first garments, for a person at a prompt."""
        lines = [f"{len(self)} garments, nearest first" + (":" if len(self) else "")]
        for result in itertools.islice(self, SHOWN):
            labels = ", ".join(
                f"{name}: {value}" for name, value in result.labels.items() if value is not None
            )
            other = f" (not as asked: {', '.join(result.differs)})" if result.differs else ""
            words = visible(labels + other) if labels + other else ""
            lines.append(f"  {result.distance:.4f}  {visible(result.name)}  {words}".rstrip())
        return "\n".join([*lines, *(["  ..."] if len(self) > SHOWN else [])])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Result:
        labels, predicted = self.labels[position], self.predicted[position]
        differs = self.differs[position]
        return Result(
            row=int(self.rows[position]),
            name=self.names[position],
            distance=float(self.distances[position]),
            labels=name_labels(labels, self.schema),
            predicted=name_predicted(predicted, self.probabilities[position], self.schema),
            matches=not differs.any(),
            differs=tuple(name for name, other in zip(self.schema.names, differs, strict=True) if other),
        )

    def __iter__(self) -> Iterator[Result]:
        return (self[position] for position in range(len(self)))


def name_labels(labels: Int[np.ndarray, " N"], schema: AttributeSchema) -> dict[str, str | None]:
    """Returns labels by name.

    Args:
      labels: the labels, [N], -1 = not labelled.
      schema: the attributes.

    Example:
      >>> name_labels(np.array([1, -1]), AttributeSchema(("color", "size"), (("blue", "red"), ("s",))))
      {'color': 'red', 'size': None}
    """
    return {
        name: None if label == NOT_LABELLED else values[label]
        for name, values, label in zip(schema.names, schema.values, labels.tolist(), strict=True)
    }


def name_predicted(
    predicted: Int[np.ndarray, " N"], probabilities: Float[np.ndarray, " N"], schema: AttributeSchema
) -> dict[str, tuple[str, float]]:
    """Returns the likeliest values by name, with their probabilities.

    Args:
      predicted: the values, [N].
      probabilities: their probabilities, [N].
      schema: the attributes.

    Example:
      >>> name_predicted(np.array([1]), np.array([0.75]), AttributeSchema(("color",), (("blue", "red"),)))
      {'color': ('red', 0.75)}
    """
    columns = zip(schema.names, schema.values, predicted.tolist(), probabilities.tolist(), strict=True)
    return {name: (values[value], probability) for name, values, value, probability in columns}
