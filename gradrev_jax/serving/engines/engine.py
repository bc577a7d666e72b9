"""Vector engines as a search sees them, and galleries as an engine sees them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.errors import DataError

# The labels that a row may have, for some attributes by their positions; -1: not labelled.
Labels = Mapping[int, Sequence[int]]
ROWS_AT_ONCE = 1024  # the number of rows of a gallery that are checked at once


class Candidates(NamedTuple):
    """Represents gallery rows that may be the nearest of a query, and their vectors.

    Attributes:
      rows: [m], rows of the gallery, nearest first by the engine's own scores.
      vectors: [m, D], what the engine has stored of them.
    """

    rows: Int[np.ndarray, " m"]
    vectors: Float32[np.ndarray, "m D"]


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class Engine(Protocol):
    """Represents a gallery in a vector engine. Several threads may use one at once.

    Attributes:
      exact: whether its scores are those of all vectors; False: its index is approximate.
      num_rows: the number of rows of the gallery.
      rest_from: the position from which the numbers of a vector belong to no attribute.
      most_candidates: the largest number of rows that a search may ask for.
    """

    exact: bool
    num_rows: int
    rest_from: int
    most_candidates: int

    def nearest(
        self, query: Float32[np.ndarray, " D"], count: int, *, where: Labels, exclude: Sequence[int]
    ) -> Candidates:
        """Returns the rows with the best scores among those that pass the filters.

        Args:
          query: what the vectors are compared with, [D]. Its products may be those of another weight of the
            rest, see ``exact_search``.
          count: the number of rows; fewer come back if fewer pass.
          where: the labels that a row may have.
          exclude: rows that are left out.
        """
        ...

    def slack(self, query: Float32[np.ndarray, " D"], rest: float) -> float:
        """Returns a bound on how much nearer than the farthest candidate a row that is none can be.

        Args:
          query: what the engine was asked for, [D].
          rest: the factor of the rest in the distances.

        Returns:
          The bound, as a difference of squared distances.

        Raises:
          ConfigError: the engine can compare with no factor but 1.
        """
        ...

    def vectors(self, rows: Int[np.ndarray, " m"]) -> Float32[np.ndarray, "m D"]:
        """Returns the stored vectors of some rows, in the order given."""
        ...

    def close(self) -> None:
        """Gives back the connection; the object is of no further use."""
        ...


@runtime_checkable
class VectorRows(Protocol):
    """Represents vectors by row, in memory or computed when they are asked for.

    Attributes:
      shape: the number of rows, and of numbers of a row.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and of numbers of a row."""
        ...

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "m D"]:
        """Returns some rows."""
        ...


class EngineGallery(NamedTuple):
    """Represents a gallery to be put into an engine.

    Attributes:
      vectors: the vectors as they are compared, normalised, float32 [G, D].
      rest_from: the position from which the numbers of a vector belong to no attribute; D if all do.
      names: the names of the G images, which the engine keeps for those who look into it.
      labels: [G, N], -1 = not labelled.
      schema: the attributes.
      fingerprint: what distinguishes this gallery from any other.
    """

    vectors: VectorRows
    rest_from: int
    names: Sequence[str]
    labels: Int[np.ndarray, "G N"]
    schema: AttributeSchema
    fingerprint: str


class Lengths(NamedTuple):
    """Represents the ranges of the lengths of a gallery's vectors, and of their two parts.

    Attributes:
      whole: the lengths of the shortest and of the longest vector.
      attributes: those of the part that belongs to attributes.
      rest: those of the rest.
    """

    whole: tuple[float, float]
    attributes: tuple[float, float]
    rest: tuple[float, float]

    @property
    def are_equal(self) -> bool:
        """Whether the lengths differ by rounding alone, so that the largest products are the nearest rows."""
        shortest, longest = self.whole
        return longest - shortest <= 1e-5 * longest

    def spread(self, rest: float) -> float:
        """Returns a bound on the difference of the squared lengths of any two rows.

        Args:
          rest: the factor of the rest.

        Example:
          >>> Lengths((5.0, 5.0), (3.0, 4.0), (3.0, 4.0)).spread(2.0)
          35.0
        """
        if rest == 1:
            return _spread(self.whole)
        return _spread(self.attributes) + rest**2 * _spread(self.rest)


def check_gallery(gallery: EngineGallery) -> Lengths:
    """Checks what an engine would not: shapes, labels and numbers; returns the lengths of the vectors.

    Args:
      gallery: the gallery, whose vectors are read once.

    Raises:
      DataError: an empty gallery, or a vector that is not finite or whose squares overflow.
      ValueError: numbers of rows that disagree, or labels that are not the schema's.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> vectors = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
      >>> check_gallery(EngineGallery(vectors, 1, ["a", "b"], np.array([[0], [-1]]), schema, "it"))
      Lengths(whole=(2.0, 5.0), attributes=(0.0, 3.0), rest=(2.0, 4.0))
    """
    num_rows, width = gallery.vectors.shape
    if not num_rows or not width:
        raise DataError("the gallery is empty")
    if not num_rows == len(gallery.names) == len(gallery.labels):
        counts = f"{num_rows} vectors, {len(gallery.names)} names and {len(gallery.labels)} rows of labels"
        raise ValueError(f"{counts} disagree")
    check_labels(gallery.labels, gallery.schema)
    parts = slice(None), slice(gallery.rest_from), slice(gallery.rest_from, None)
    ranges = np.array([[np.inf, 0.0]] * len(parts))
    for start in range(0, num_rows, ROWS_AT_ONCE):
        rows = np.asarray(gallery.vectors[start : start + ROWS_AT_ONCE], np.float64)
        lengths = np.stack([np.sqrt(np.square(rows[:, part]).sum(axis=1)) for part in parts])
        if not (good := lengths[0] < np.finfo(np.float32).max ** 0.5).all():
            row = start + int((~good).argmax())
            length = f"its length is {lengths[0, row - start]:g}"
            raise DataError(f"the vector of {gallery.names[row]} (row {row}) cannot be compared: {length}")
        ranges[:, 0] = np.minimum(ranges[:, 0], lengths.min(axis=1))
        ranges[:, 1] = np.maximum(ranges[:, 1], lengths.max(axis=1))
    whole, attributes, rest = ((float(least), float(most)) for least, most in ranges)
    return Lengths(whole, attributes, rest)


def _spread(lengths: tuple[float, float]) -> float:
    shortest, longest = lengths
    return longest**2 - shortest**2
