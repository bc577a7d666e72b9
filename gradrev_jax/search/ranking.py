"""The nearest gallery rows of manipulated features: ranked by sums of products, then certified.

A ranking is as good as the bound on its rounding error. Rows whose scores differ by more than twice the bound
are provably in the right order; the distances of the others, usually a few, are computed exactly, by direct
sums of (q - g)².
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.vectors import squared_length, squared_length_operations
from gradrev_jax.search.candidates import find_candidates
from gradrev_jax.search.edits import Edits, apply_edits, longest
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.references import References
from gradrev_jax.search.sums import ONE_THREAD, norm_operations

# A squared distance is computed exactly where the relative error bound of its score exceeds this.
MAX_RELATIVE_ERROR = 2**-9
PAIR_BATCHES = (16, 256, 8192)  # pairs of a query and a row per call, few so that few programs are compiled


class CertifiedNeighbors(NamedTuple):
    """The k nearest rows of each query, and whether they are proven to be the nearest.

    Attributes:
      indices: [Q, k], rows of the gallery, nearest first.
      distances: [Q, k], Euclidean.
      certified: [Q], whether no other row can belong among the first k.
    """

    indices: Int[np.ndarray, "Q k"]
    distances: Float[np.ndarray, "Q k"]
    certified: Bool[np.ndarray, " Q"]


def search_edits(
    products: GalleryProducts,
    references: References,
    edits: Edits,
    k: int,
    *,
    spare_candidates: int,
    exact_distances: bool = False,
) -> CertifiedNeighbors:
    """Finds the k nearest rows of each edited reference.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edits: the blocks to take out and the prototypes to add; each costs an addition per gallery row.
      k: the number of neighbours.
      spare_candidates: the number of candidates beyond k; more of them certify more queries.
      exact_distances: whether the distances of all candidates are computed exactly, not only of those that
        their scores do not order.

    Raises:
      ValueError: manipulated features overflow.
    """
    num_rows, *block = products.rows.shape
    num_candidates = min(num_rows, k + spare_candidates)
    edited = apply_edits(products, references, edits)
    scores, candidates = find_candidates(products, references, edits.position, edited, num_candidates)
    norms, errors = (np.asarray(x, np.float64) for x in (edited.square_norms, edited.errors))
    was_finite = np.isfinite(np.asarray(references.norms)).all(axis=1)[edits.position]
    if not np.isfinite(norms[was_finite]).all():
        most = longest(scores.dtype, products.normalize)
        raise ValueError(
            f"manipulated features become longer than {most:.2g}, which overflows; take a lower strength, or "
            "divide features and memory by one factor"
        )
    squares = norms[:, None] + scores
    # Twice the relative error of direct sums, and of norms; see ``errors``.
    operations = max(squared_length_operations(math.prod(block)), norm_operations(*block))
    rounding = (operations + 4) * np.finfo(scores.dtype).eps
    # The smallest squared distance that a row outside the candidates can have.
    bounds = (squares[:, -1] - errors - rounding * norms) * (1 - rounding)

    groups, closed = _group_candidates(squares, 2 * errors, k, is_all=num_candidates == num_rows)
    query, column = np.nonzero(_undecided(squares, errors, groups, k) | ~closed[:, None] | exact_distances)
    rows, group = candidates[query, column], groups[query, column]
    exact = exact_squared_distances(products.rows, edited.vectors, query, rows)
    # These candidates stand group by group, and each group has its places already.
    order = sort_in_places(query * num_candidates + group, exact, rows)
    candidates[query, column], squares[query, column] = rows[order], exact[order]
    candidates, squares = candidates[:, :k], squares[:, :k]
    certified = closed | (squares[:, -1] < bounds)
    # Exact distances and those from scores differ by rounding, which must not spoil the ascending order.
    squares = np.maximum.accumulate(np.maximum(squares, 0), axis=1)
    return CertifiedNeighbors(candidates, np.sqrt(squares).astype(scores.dtype), certified)


def _group_candidates(
    squares: Float[np.ndarray, "Q m"], margins: Float[np.ndarray, " Q"], k: int, *, is_all: bool
) -> tuple[Int[np.ndarray, "Q m"], Bool[np.ndarray, " Q"]]:
    """Divides ascending candidates into groups, wherever two neighbours differ by more than the margin.

    Args:
      squares: [Q, m], the squared distances, ascending.
      margins: [Q], the difference that proves an order.
      k: the number of neighbours.
      is_all: whether the candidates are all rows of the gallery.

    Returns:
      [Q, m], the number of each candidate's group, ascending; and [Q], whether the group of the k-th ends
      among the candidates, so that none of its rows is missing. If it does not, all are one group.
    """
    apart = np.diff(squares, axis=1) > margins[:, None]
    closed = np.asarray(apart[:, k - 1 :].any(axis=1) | is_all)
    groups = np.zeros(squares.shape, np.int32)
    np.cumsum(apart & closed[:, None], axis=1, out=groups[:, 1:])
    return groups, closed


def _undecided(
    squares: Float[np.ndarray, "Q m"],
    errors: Float[np.ndarray, " Q"],
    groups: Int[np.ndarray, "Q m"],
    k: int,
) -> Bool[np.ndarray, "Q m"]:
    """Marks candidates that the error bound cannot order, or whose distance it cannot resolve.

    Only groups that reach into the first k count.
    """
    alike = groups[:, 1:] == groups[:, :-1]
    shared = np.zeros(groups.shape, bool)
    shared[:, 1:] = alike
    shared[:, :-1] |= alike
    imprecise = ~(MAX_RELATIVE_ERROR * squares > errors[:, None])
    return (shared | imprecise) & (groups <= groups[:, k - 1 : k])


def sort_in_places(
    place: Int[np.ndarray, " M"], squares: Float[np.ndarray, " M"], rows: Int[np.ndarray, " M"]
) -> Int[np.ndarray, " M"]:
    """Returns the order of pairs by place, then by squared distance, then by row: that of ``np.lexsort``.

    Args:
      place: [M], from 0 to below 2**31.
      squares: [M], not negative.
      rows: [M].

    Example:
      >>> squares = np.array([2.0, 1.0, 0.0], np.float32)
      >>> sort_in_places(np.array([0, 0, 1]), squares, np.array([5, 7, 6])).tolist()
      [1, 0, 2]
    """
    if squares.dtype != np.float32:
        return np.lexsort((rows, squares, place))
    # The bits of numbers that are not negative ascend as these do. NumPy sorts one whole number per pair in a
    # tenth of the time that it takes for several keys.
    key = (place.astype(np.uint64) << np.uint64(32)) | squares.view(np.uint32)
    order = np.argsort(key)
    ascending = key[order]
    has_ties = (ascending[1:] == ascending[:-1]).any()
    return np.lexsort((rows, key)) if has_ties else order


def exact_squared_distances(
    rows: Float[Array, "G P d"],
    vectors: Float[Array, "Q P d"],
    query: Int[np.ndarray, " M"],
    candidate: Int[np.ndarray, " M"],
) -> Float[np.ndarray, " M"]:
    """Computes squared distances by direct sums: equal rows are equally far, and a row is 0 from itself.

    Args:
      rows: [G, P, d], the gallery.
      vectors: [Q, P, d], the queries.
      query: [M], the query of each pair.
      candidate: [M], the gallery row of each pair.
    """
    squares = np.zeros(len(query), rows.dtype)
    size = next((size for size in PAIR_BATCHES if size >= len(query)), PAIR_BATCHES[-1])
    for start in range(0, len(query), size):
        batch = slice(start, start + size)
        count = len(query[batch])
        pairs = (np.resize(x[batch], size) for x in (query, candidate))
        squares[batch] = np.asarray(_pair_squares(rows, vectors, *pairs, count))[:count]
    return squares


@functools.partial(jax.jit, compiler_options=ONE_THREAD)
def _pair_squares(
    rows: Float[Array, "G P d"],
    vectors: Float[Array, "Q P d"],
    query: Int[Array | np.ndarray, " M"],
    candidate: Int[Array | np.ndarray, " M"],
    count: Int[Array, ""] | int,
) -> Float[Array, " M"]:
    """Returns the squared distances of the first pairs, as many as ``count`` says; the others pad."""
    pairs = jnp.asarray(query), jnp.asarray(candidate)

    def square(query: Int[Array, ""], candidate: Int[Array, ""]) -> Float[Array, ""]:
        return squared_length((rows[candidate] - vectors[query]).reshape(-1))

    if jax.default_backend() != "cpu":
        return jax.vmap(square)(*pairs)

    def add(i: Int[Array, ""], squares: Float[Array, " M"]) -> Float[Array, " M"]:
        return squares.at[i].set(square(pairs[0][i], pairs[1][i]))

    # One pair at a time, because XLA would read a batch of rows number by number.
    return jax.lax.fori_loop(0, count, add, jnp.zeros(len(query), rows.dtype))
