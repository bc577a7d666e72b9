"""The nearest rows of manipulated features: ranked by sums of products, measured where these cannot tell.

A ranking is as good as the bound on its rounding error. Rows whose scores lie farther apart than twice the
bound are in their order by proof; the others, usually a few, are measured by direct sums of (q - g)².
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.manipulation import Normalization
from gradrev_jax.search.edits import Changes, Edited, References, edit
from gradrev_jax.search.neighbors import TILE_BYTES
from gradrev_jax.search.products import GalleryProducts

# Rows are measured, too, whose squared distance a score tells less precisely than to this part of itself.
PRECISION = 2**-9
# Queries and rows that are measured at once, so that few programs are compiled. A CPU computes what a call is
# padded with; the host waits for each call of another device.
PAIRS, DEVICE_PAIRS = (16, 256), (16, 256, 8192)


class Found(NamedTuple):
    """The k nearest rows of each query, their distances, and for which queries they are proven."""

    indices: Int[np.ndarray, "Q k"]
    distances: Float[np.ndarray, "Q k"]
    certified: Bool[np.ndarray, " Q"]


def nearest_edited(
    products: GalleryProducts,
    references: References,
    changes: Changes,
    k: int,
    *,
    spare: int,
    normalize: Normalization,
    measure_all: bool = False,
) -> Found:
    """The k nearest rows of each edited reference.

    Args:
      products: of the gallery and the memory.
      references: what is manipulated.
      changes: what each query edits; a change costs an addition a row.
      k: neighbours wanted.
      spare: how many candidates besides the k there are; more of them certify more queries.
      normalize: how features are normalised after the manipulation.
      measure_all: whether all candidates are measured, and not those alone whose scores tell too little.
    """
    num_rows, *block = products.rows.shape
    num_candidates = min(num_rows, k + spare)
    edited = edit(products, references, changes, normalize)
    # One query has all cores; else several threads have a chunk of queries each, see search_references.
    ranked = (rank if len(changes.reference) == 1 else _rank_by_one_thread)(
        products, references.products, changes.reference, edited, num_candidates
    )
    scores, candidates = map(np.asarray, ranked)
    norms, errors = (np.asarray(x, np.float64) for x in (edited.square_norms, edited.errors))
    given = np.isfinite(np.asarray(references.norms)).all(axis=1)[changes.reference]
    if not np.isfinite(norms[given]).all():
        most = float(np.finfo(scores.dtype).max) ** (0.5 if normalize == "none" else 1)
        raise ValueError(
            f"manipulated features become longer than {most:.2g}, which overflows; take a lower strength, or "
            "divide features and memory by one factor"
        )
    squares = norms[:, None] + scores
    # Direct sums, added up block by block, and norms err by half of this at most; see Edited.errors.
    rounding = (sum(block) + 4) * np.finfo(scores.dtype).eps
    # The least that a row which is no candidate can measure.
    bounds = (squares[:, -1] - errors - rounding * norms) * (1 - rounding)

    groups, closed = _groups(squares, 2 * errors, k, is_all=num_candidates == num_rows)
    query, column = np.nonzero(_doubtful(squares, errors, groups, k) | ~closed[:, None] | measure_all)
    squares[query, column] = measure(products.rows, edited.vectors, query, candidates[query, column])
    order = np.lexsort((candidates, squares, groups), axis=1)[:, :k]
    indices, squares = (np.take_along_axis(found, order, axis=1) for found in (candidates, squares))
    certified = closed | (squares[:, -1] < bounds)
    # What was measured and what was not differ by rounding.
    squares = np.maximum.accumulate(np.maximum(squares, 0), axis=1)
    return Found(indices, np.sqrt(squares).astype(scores.dtype), certified)


def _groups(
    squares: Float[np.ndarray, "Q m"], margins: Float[np.ndarray, " Q"], k: int, *, is_all: bool
) -> tuple[Int[np.ndarray, "Q m"], Bool[np.ndarray, " Q"]]:
    """Number the groups of candidates between which no margin lies, in ascending order.

    And tell whether the group of the k-th ends among them, so that none of it is missing; where it does not,
    all are one group.
    """
    apart = np.diff(squares, axis=1) > margins[:, None]
    closed = np.asarray(apart[:, k - 1 :].any(axis=1) | is_all)
    groups = np.zeros(squares.shape, np.int32)
    np.cumsum(apart & closed[:, None], axis=1, out=groups[:, 1:])
    return groups, closed


def _doubtful(
    squares: Float[np.ndarray, "Q m"],
    errors: Float[np.ndarray, " Q"],
    groups: Int[np.ndarray, "Q m"],
    k: int,
) -> Bool[np.ndarray, "Q m"]:
    """Candidates whose scores tell too little: they share a group that counts, or are as near as it errs."""
    alike = groups[:, 1:] == groups[:, :-1]
    shared = np.zeros(groups.shape, bool)
    shared[:, 1:] = alike
    shared[:, :-1] |= alike
    imprecise = ~(PRECISION * squares > errors[:, None])
    return (shared | imprecise) & (groups <= groups[:, k - 1 : k])


def measure(
    rows: Float[Array, "G N d"],
    vectors: Float[Array, "Q N d"],
    query: Int[np.ndarray, " P"],
    candidate: Int[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
    """Squared distances of pairs by direct sums: equal rows are equally far, a row is 0 from itself."""
    squares = np.zeros(len(query), rows.dtype)
    sizes = PAIRS if jax.default_backend() == "cpu" else DEVICE_PAIRS
    size = next((size for size in sizes if size >= len(query)), sizes[-1])
    for start in range(0, len(query), size):
        some = slice(start, start + size)
        pairs = (np.resize(each[some], size) for each in (query, candidate))
        squares[some] = np.asarray(_pair_squares(rows, vectors, *pairs))[: len(query) - start]
    return squares


@functools.partial(jax.jit, compiler_options={"xla_cpu_multi_thread_eigen": False})
def _pair_squares(
    rows: Float[Array, "G N d"],
    vectors: Float[Array, "Q N d"],
    query: Int[Array | np.ndarray, " P"],
    candidate: Int[Array | np.ndarray, " P"],
) -> Float[Array, " P"]:
    blocks = jnp.square(rows[candidate] - vectors[query]).sum(axis=-1)
    return jax.lax.optimization_barrier(blocks).sum(axis=-1)  # XLA would make one long sum of both


def _rank(
    products: GalleryProducts,
    reference_products: Float[Array, "S R G"],
    reference: Int[Array | np.ndarray, " Q"],
    edited: Edited,
    num_candidates: int,
) -> tuple[Float[Array, "Q m"], Int[Array, "Q m"]]:
    """Least |g|² - 2 q·g of each query, ascending, and their rows g."""

    def search(query: tuple[Array, ...]) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
        row, scale, entry, factor = query
        # Slices of a row each: XLA would copy what is gathered.
        sums = jax.lax.dynamic_index_in_dim(reference_products, row, axis=1, keepdims=False)
        terms = [scale[s] * sums[s] for s in range(len(scale))]
        for e in range(len(entry)):
            terms.append(factor[e] * jax.lax.dynamic_index_in_dim(products.table, entry[e], keepdims=False))
        scores = products.square_norms - 2 * functools.reduce(jnp.add, terms)
        scores = jnp.where(jnp.isfinite(scores), scores, jnp.finfo(scores.dtype).max)
        return smallest(scores, num_candidates)

    queries = (jnp.asarray(reference), edited.scales, edited.entries, edited.factors)
    if len(reference) == 1:
        scores, rows = search(tuple(each[0] for each in queries))
        return scores[None], rows[None]
    # A CPU takes one after the other, while its scores are in the cache.
    at_once = max(1, TILE_BYTES // (products.square_norms.nbytes * (1 + edited.factors.shape[1])))
    return jax.lax.map(search, queries, batch_size=None if jax.default_backend() == "cpu" else at_once)


rank = jax.jit(_rank, static_argnames="num_candidates")
_rank_by_one_thread = jax.jit(
    _rank, static_argnames="num_candidates", compiler_options={"xla_cpu_multi_thread_eigen": False}
)


def smallest(scores: Float[Array, " G"], m: int) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
    """The m smallest of finite scores, ascending, and where they are.

    They lie in the m groups whose least are least, so the others are never looked at.

    Example:
      >>> [found.tolist() for found in smallest(jnp.array([3.0, 1.0, 2.0, 5.0]), 2)]
      [[1.0, 2.0], [1, 2]]
    """
    count = len(scores)
    size = round((count / m) ** 0.5)
    if size < 4:
        found = jax.lax.top_k(-scores, m)
        return -found[0], found[1]
    num_groups = count // size
    whole = num_groups * size
    groups = jax.lax.top_k(-scores[:whole].reshape(size, num_groups).min(axis=0), m)[1]
    where = (jnp.arange(size)[:, None] * num_groups + groups).reshape(-1)
    where = jnp.concatenate([where, jnp.arange(whole, count)])  # and what fills no group
    least, at = jax.lax.top_k(-scores[where], m)
    return -least, where[at]
