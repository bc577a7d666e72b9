"""What a vector engine is to a search, and what a gallery is to an engine."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.errors import DataError

Where = Mapping[str, Sequence[str]]  # the values that each attribute may have; only labelled images pass
ROWS_AT_ONCE = 1024  # the number of rows of a gallery that are checked at once


class Candidates(NamedTuple):
    """Gallery rows that may be the nearest of a query, and their vectors.

    Attributes:
      rows: [m], rows of the gallery, nearest first by the engine's own scores.
      vectors: [m, D], what the engine has stored of them.
    """

    rows: Int[np.ndarray, " m"]
    vectors: Float32[np.ndarray, "m D"]


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class Engine(Protocol):
    """A gallery in a vector engine. Several threads may use one at once.

    Attributes:
      exact: whether its scores are those of all vectors; False: its index is approximate.
      num_rows: the number of rows of the gallery.
      most_candidates: the largest number of rows that a search may ask for.
    """

    exact: bool
    num_rows: int
    most_candidates: int

    def nearest(
        self, query: Float32[np.ndarray, " D"], count: int, *, where: Where, exclude: Sequence[int]
    ) -> Candidates:
        """Returns the rows with the best scores among those that pass the filters.

        Args:
          query: [D], as long and as normalised as the gallery's vectors.
          count: the number of rows; fewer come back if fewer pass.
          where: for some attributes, the values of which a row must be labelled with one.
          exclude: rows that are left out.
        """
        ...

    def slack(self, query: Float32[np.ndarray, " D"]) -> float:
        """Returns a bound on how much nearer than the farthest candidate a row that is none can be.

        Args:
          query: [D].

        Returns:
          The bound, as a difference of squared distances.
        """
        ...

    def vectors(self, rows: Int[np.ndarray, " m"]) -> Float32[np.ndarray, "m D"]:
        """Returns the stored vectors of some rows, in the order given."""
        ...

    def close(self) -> None:
        """Gives back the connection; the object is of no further use."""
        ...


class EngineGallery(NamedTuple):
    """A gallery to be put into an engine.

    Attributes:
      vectors: [G, D], as ``normalize_features`` returns them; may be memory-mapped.
      names: the names of the G images, which the engine keeps for those who look into it.
      labels: [G, N], -1 = not labelled.
      schema: the attributes.
      fingerprint: what distinguishes this gallery from any other.
    """

    vectors: Float32[np.ndarray, "G D"]
    names: Sequence[str]
    labels: Int[np.ndarray, "G N"]
    schema: AttributeSchema
    fingerprint: str


class Lengths(NamedTuple):
    """The range of the lengths of a gallery's vectors.

    Attributes:
      shortest: the length of the shortest.
      longest: the length of the longest.
    """

    shortest: float
    longest: float

    @property
    def are_equal(self) -> bool:
        """Whether the lengths differ by rounding alone, so that the largest products are the nearest rows."""
        return self.longest - self.shortest <= 1e-5 * self.longest


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
      >>> check_gallery(EngineGallery(vectors, ["a", "b"], np.array([[0], [-1]]), schema, "it"))
      Lengths(shortest=2.0, longest=5.0)
    """
    num_rows = len(gallery.vectors)
    if not num_rows or not gallery.vectors.shape[1]:
        raise DataError("the gallery is empty")
    if not num_rows == len(gallery.names) == len(gallery.labels):
        counts = f"{num_rows} vectors, {len(gallery.names)} names and {len(gallery.labels)} rows of labels"
        raise ValueError(f"{counts} disagree")
    check_labels(gallery.labels, gallery.schema)
    shortest, longest = np.inf, 0.0
    for start in range(0, num_rows, ROWS_AT_ONCE):
        rows = np.asarray(gallery.vectors[start : start + ROWS_AT_ONCE], np.float64)
        lengths = np.sqrt(np.square(rows).sum(axis=1))
        if not (good := lengths < np.finfo(np.float32).max ** 0.5).all():
            row = start + int((~good).argmax())
            length = f"its length is {lengths[row - start]:g}"
            raise DataError(f"the vector of {gallery.names[row]} (row {row}) cannot be compared: {length}")
        shortest, longest = min(shortest, lengths.min()), max(longest, lengths.max())
    return Lengths(float(shortest), float(longest))
