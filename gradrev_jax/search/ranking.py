"""The nearest gallery rows of manipulated features: ranked by sums of products, then certified.

A ranking is as good as the bound on its rounding error. Rows whose scores differ by more than twice the bound
are provably in the right order; the distances of the others, usually a few, are computed exactly, by direct
sums of (q - g)².
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.normalization import Normalization
from gradrev_jax.search.edits import EditedFeatures, Edits, References, apply_edits
from gradrev_jax.search.neighbors import TILE_BYTES
from gradrev_jax.search.products import GalleryProducts

# A squared distance is computed exactly where the relative error bound of its score exceeds this.
MAX_RELATIVE_ERROR = 2**-9
# The numbers of pairs per call of the exact distances, few so that few programs are compiled. A CPU computes
# the padding, too, so it has small batches; another device has large ones, as the host waits for each call.
PAIR_BATCHES, DEVICE_PAIR_BATCHES = (16, 256), (16, 256, 8192)


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
    normalize: Normalization,
    exact_distances: bool = False,
) -> CertifiedNeighbors:
    """Finds the k nearest rows of each edited reference.

    Args:
      products: the products of the gallery and the memory.
      references: the features to manipulate.
      edits: the blocks to take out and the prototypes to add; each costs an addition per gallery row.
      k: the number of neighbours.
      spare_candidates: the number of candidates beyond k; more of them certify more queries.
      normalize: the normalisation of the features after the manipulation.
      exact_distances: whether the distances of all candidates are computed exactly, not only of those that
        their scores do not order.

    Raises:
      ValueError: manipulated features overflow.
    """
    num_rows, *block = products.rows.shape
    num_candidates = min(num_rows, k + spare_candidates)
    edited = apply_edits(products, references, edits, normalize)
    # A single query uses all cores; of many, each thread has a chunk, see ``search_references``.
    rank_rows = rank if len(edits.reference) == 1 else _rank_by_one_thread
    ranked = rank_rows(
        products, (references.products, references.blocks), edits.reference, edited, num_candidates
    )
    scores, candidates = map(np.asarray, ranked)
    norms, errors = (np.asarray(x, np.float64) for x in (edited.square_norms, edited.errors))
    was_finite = np.isfinite(np.asarray(references.norms)).all(axis=1)[edits.reference]
    if not np.isfinite(norms[was_finite]).all():
        most = float(np.finfo(scores.dtype).max) ** (0.5 if normalize == "none" else 1)
        raise ValueError(
            f"manipulated features become longer than {most:.2g}, which overflows; take a lower strength, or "
            "divide features and memory by one factor"
        )
    squares = norms[:, None] + scores
    # Twice the relative error of direct sums, which go block by block, and of norms; see ``errors``.
    rounding = (sum(block) + 4) * np.finfo(scores.dtype).eps
    # The smallest squared distance that a row outside the candidates can have.
    bounds = (squares[:, -1] - errors - rounding * norms) * (1 - rounding)

    groups, closed = _group_candidates(squares, 2 * errors, k, is_all=num_candidates == num_rows)
    query, column = np.nonzero(_undecided(squares, errors, groups, k) | ~closed[:, None] | exact_distances)
    squares[query, column] = exact_squared_distances(
        products.rows, edited.vectors, query, candidates[query, column]
    )
    order = np.lexsort((candidates, squares, groups), axis=1)[:, :k]
    indices, squares = (np.take_along_axis(x, order, axis=1) for x in (candidates, squares))
    certified = closed | (squares[:, -1] < bounds)
    # Exact distances and those from scores differ by rounding, which must not spoil the ascending order.
    squares = np.maximum.accumulate(np.maximum(squares, 0), axis=1)
    return CertifiedNeighbors(indices, np.sqrt(squares).astype(scores.dtype), certified)


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
    sizes = PAIR_BATCHES if jax.default_backend() == "cpu" else DEVICE_PAIR_BATCHES
    size = next((size for size in sizes if size >= len(query)), sizes[-1])
    for start in range(0, len(query), size):
        batch = slice(start, start + size)
        pairs = (np.resize(x[batch], size) for x in (query, candidate))
        squares[batch] = np.asarray(_pair_squares(rows, vectors, *pairs))[: len(query) - start]
    return squares


@functools.partial(jax.jit, compiler_options={"xla_cpu_multi_thread_eigen": False})
def _pair_squares(
    rows: Float[Array, "G P d"],
    vectors: Float[Array, "Q P d"],
    query: Int[Array | np.ndarray, " M"],
    candidate: Int[Array | np.ndarray, " M"],
) -> Float[Array, " M"]:
    blocks = jnp.square(rows[candidate] - vectors[query]).sum(axis=-1)
    return jax.lax.optimization_barrier(blocks).sum(axis=-1)  # XLA would merge both into one long sum


def _rank(
    products: GalleryProducts,
    reference_products: tuple[Float[Array, "S R G"], Float[Array, "N R G"] | None],
    reference: Int[Array | np.ndarray, " Q"],
    edited: EditedFeatures,
    num_candidates: int,
) -> tuple[Float[Array, "Q m"], Int[Array, "Q m"]]:
    """Returns the m smallest scores |g|² - 2 q·g of each query, ascending, and their gallery rows g.

    Args:
      products: the products of the gallery and the memory.
      reference_products: those of the references: of their parts, and of the blocks that may be taken out.
      reference: [Q], the position of each query's reference among the references.
      edited: the references as the queries edit them.
      num_candidates: m.
    """
    of_parts, of_blocks = reference_products

    def search(
        query: tuple[tuple[Array, ...], tuple[Array, Array] | None],
    ) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
        (row, scale, entry, factor), taken_out = query
        # One slice per row, because XLA would copy the result of a gather.
        sums = jax.lax.dynamic_index_in_dim(of_parts, row, axis=1, keepdims=False)
        terms = [scale[s] * sums[s] for s in range(len(scale))]
        if of_blocks is not None and taken_out is not None:
            for block, block_factor in zip(*taken_out, strict=True):
                product = jax.lax.dynamic_slice(of_blocks, (block, row, 0), (1, 1, of_blocks.shape[2]))
                terms.append(block_factor * product[0, 0])
        for e in range(len(entry)):
            terms.append(factor[e] * jax.lax.dynamic_index_in_dim(products.table, entry[e], keepdims=False))
        scores = products.square_norms - 2 * functools.reduce(jnp.add, terms)
        scores = jnp.where(jnp.isfinite(scores), scores, jnp.finfo(scores.dtype).max)
        return smallest(scores, num_candidates)

    taken_out = None if edited.blocks is None else (edited.blocks, edited.block_factors)
    queries = (jnp.asarray(reference), edited.scales, edited.entries, edited.entry_factors), taken_out
    if len(reference) == 1:
        scores, rows = search(jax.tree.map(lambda x: x[0], queries))
        return scores[None], rows[None]
    # On a CPU, the scores of one query at a time stay in the cache.
    num_terms = edited.entry_factors.shape[1] + (0 if edited.blocks is None else edited.blocks.shape[1])
    tile = max(1, TILE_BYTES // (products.square_norms.nbytes * (1 + num_terms)))
    return jax.lax.map(search, queries, batch_size=None if jax.default_backend() == "cpu" else tile)


rank = jax.jit(_rank, static_argnames="num_candidates")
_rank_by_one_thread = jax.jit(
    _rank, static_argnames="num_candidates", compiler_options={"xla_cpu_multi_thread_eigen": False}
)


def smallest(scores: Float[Array, " G"], m: int) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
    """Returns the m smallest of finite scores, ascending, and their positions.

    The m smallest lie in the m groups with the smallest minima, so only those are searched.

    Args:
      scores: [G], finite.
      m: the number of scores to return.

    Example:
      >>> [x.tolist() for x in smallest(jnp.array([3.0, 1.0, 2.0, 5.0]), 2)]
      [[1.0, 2.0], [1, 2]]
    """
    count = len(scores)
    size = round((count / m) ** 0.5)
    if size < 4:
        negated, positions = jax.lax.top_k(-scores, m)
        return -negated, positions
    num_groups = count // size
    num_grouped = num_groups * size
    groups = jax.lax.top_k(-scores[:num_grouped].reshape(size, num_groups).min(axis=0), m)[1]
    positions = (jnp.arange(size)[:, None] * num_groups + groups).reshape(-1)
    positions = jnp.concatenate([positions, jnp.arange(num_grouped, count)])  # with the ungrouped rest
    negated, chosen = jax.lax.top_k(-scores[positions], m)
    return -negated, positions[chosen]
