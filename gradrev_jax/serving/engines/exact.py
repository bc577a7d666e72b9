"""Exact nearest neighbours by a vector engine: more candidates than asked for, and direct sums."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from gradrev_jax.core.arguments import whole_number
from gradrev_jax.serving.engines.engine import Engine, Labels

MARGIN = 32  # candidates beyond k; more certify more queries, but the vector of each travels
GROWTH = 8  # times as many candidates, where the bound cannot exclude that another row belongs among the k
PAIRS_AT_ONCE = 2**21  # the number of differences that are held at once


class EngineNeighbors(NamedTuple):
    """Represents the nearest gallery rows of a query.

    Attributes:
      rows: [m], nearest first, ties to the lower row; fewer than k if fewer pass the filters.
      distances: [m], Euclidean.
      exact: whether no other row can belong among them. False where the engine's index is approximate, or
        where more rows than an engine returns are, up to the rounding of its scores, as near as the last.
    """

    rows: Int[np.ndarray, " m"]
    distances: Float64[np.ndarray, " m"]
    exact: bool


def exact_search(
    engine: Engine,
    query: Float[np.ndarray, " D"],
    k: int,
    *,
    rest: float = 1.0,
    where: Labels | None = None,
    exclude: Sequence[int] = (),
    margin: int = MARGIN,
) -> EngineNeighbors:
    """Finds the k gallery rows nearest to a query: those of ``ManipulationIndex``, from an engine.

    The engine ranks by products in float32, of which only the order up to a bound on their rounding is
    certain. So more than k candidates are fetched, and ordered by direct sums of (q - g)² in float64. Unless
    the k-th of them is certainly nearer than any row that was not fetched, more are.

    Args:
      engine: the gallery.
      query: what the rows are compared with, edited, weighted and normalised, [D].
      k: the number of neighbours, at most ``engine.most_candidates``.
      rest: the factor of what belongs to no attribute, as in ``ItemGallery.search``; the query has it, and
        the stored vectors have not. Since q · (rest * g) = (rest * q) · g, the engine's products are asked
        for with a query that has it twice.
      where: the labels that a row may have, by the attribute's position; -1: not labelled.
      exclude: rows that are left out.
      margin: the number of candidates beyond k at first.

    Raises:
      ValueError: k below 1 or above what the engine returns, or a query or a factor that is not finite.
      ConfigError: a factor that the engine cannot compare with.
      DataError: the engine does not answer, or refuses.
    """
    k, most = whole_number(k, "k"), engine.most_candidates
    if not 1 <= k <= most:
        raise ValueError(f"k must lie between 1 and {most:,}, the most that the engine returns, got {k}")
    asked = np.array(query, np.float64)
    asked[engine.rest_from :] *= rest
    if not np.isfinite(asked).all():
        raise ValueError("the query, and the factor of the rest, must be finite")
    asked = asked.astype(np.float32)
    count = min(k + margin, most)
    slack = engine.slack(asked, rest)
    while True:
        rows, vectors = engine.nearest(asked, count, where=where or {}, exclude=exclude)
        squares = direct_squares(query, vectors, engine.rest_from, rest)
        order = np.lexsort((rows, squares))
        # Either these are all the rows that pass, or those that are not here are farther than the k-th.
        is_whole = len(rows) < count or count >= engine.num_rows
        certain = is_whole or bool(squares[order[k - 1]] < squares.max() - slack)
        if certain or count == most or not engine.exact:
            first = order[:k]
            return EngineNeighbors(rows[first], np.sqrt(squares[first]), certain and engine.exact)
        count = min(count * GROWTH, most)


def direct_squares(
    query: Float[np.ndarray, " D"], vectors: Float32[np.ndarray, "m D"], rest_from: int, rest: float
) -> Float64[np.ndarray, " m"]:
    """Returns squared distances as direct sums of (q - g)² in float64.

    Args:
      query: what the vectors are compared with, [D].
      vectors: the vectors, [m, D].
      rest_from: the position from which their numbers belong to no attribute.
      rest: the factor of these.

    Example:
      >>> direct_squares(np.zeros(2), np.array([[3.0, 2.0]], np.float32), 1, 2.0).tolist()
      [25.0]
    """
    step = max(1, PAIRS_AT_ONCE // max(1, len(query)))
    factors = np.where(np.arange(len(query)) < rest_from, 1.0, rest)
    parts = [
        np.square(vectors[start : start + step] * factors - query).sum(axis=1)
        for start in range(0, len(vectors), step)
    ]
    return np.concatenate([np.zeros(0), *parts])
