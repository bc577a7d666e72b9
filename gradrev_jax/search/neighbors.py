"""Exact Euclidean nearest neighbours."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import whole_number

TILE_BYTES = 2**27  # bounds the scores and candidates that are held at a time
SPARE_CANDIDATES = 32  # candidates beyond k; more certify more queries, but each costs an exact distance


class Neighbors(NamedTuple):
    """The k nearest gallery rows of each query, nearest first.

    Attributes:
      indices: int32 [Q, k], rows of the gallery.
      distances: [Q, k], Euclidean.
    """

    indices: Int[Array, "Q k"]
    distances: Float[Array, "Q k"]


def as_neighbors(
    indices: Int[np.ndarray, "Q K"],
    distances: Float[np.ndarray, "Q K"],
    excluded: Int[np.ndarray, " Q"] | None = None,
) -> Neighbors:
    """Puts neighbours that were found on the host on the device.

    Args:
      indices: [Q, K], the neighbours, nearest first.
      distances: [Q, K], their distances.
      excluded: [Q], the gallery row that each query leaves out, so that it has K - 1 neighbours; None: none.
    """
    if excluded is not None:
        indices, distances = drop_excluded(indices, distances, excluded)
    return Neighbors(*jax.device_put((indices, distances)))  # jnp.asarray would compile a program per shape


def drop_excluded(
    indices: Int[np.ndarray, "Q K"],
    distances: Float[np.ndarray, "Q K"],
    excluded: Int[np.ndarray, " Q"],
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """Removes one neighbour per query: the excluded row, or the last if that row is not among them.

    Args:
      indices: [Q, k + 1], the neighbours, nearest first.
      distances: [Q, k + 1], their distances.
      excluded: [Q], the gallery row to remove.
    """
    kept = _is_kept(indices, excluded)
    shape = len(indices), indices.shape[1] - 1
    return indices[kept].reshape(shape), distances[kept].reshape(shape)


def drop_excluded_rows(
    indices: Int[np.ndarray, "Q K"], excluded: Int[np.ndarray, " Q"]
) -> Int[np.ndarray, "Q k"]:
    """Removes one neighbour per query, as ``drop_excluded`` does, of those without distances.

    Args:
      indices: [Q, k + 1], the neighbours, nearest first.
      excluded: [Q], the gallery row to remove.
    """
    return indices[_is_kept(indices, excluded)].reshape(len(indices), indices.shape[1] - 1)


def _is_kept(indices: Int[np.ndarray, "Q K"], excluded: Int[np.ndarray, " Q"]) -> Bool[np.ndarray, "Q K"]:
    """Returns for all neighbours but one of each query that they are kept."""
    is_excluded = indices == excluded[:, None]
    is_excluded[~is_excluded.any(axis=1), -1] = True
    return ~is_excluded


def nearest_neighbors(
    queries: Float[Array | np.ndarray, "Q D"], gallery: Float[Array | np.ndarray, "G D"], k: int
) -> Neighbors:
    """Finds the k gallery rows nearest to each query: exact, ascending, ties to the lower index.

    Every distance is the root of a direct sum of (q - g)², so a row's distance to itself is 0, and the order
    is that of these sums over the **whole** gallery. Not all of them are computed: one matrix product ranks
    the gallery by |g|² - 2 q·g, the distances of a few more than k candidates are computed exactly, and a
    bound on the product's rounding error certifies that no other row can belong among the first k. A query
    that the bound does not certify (for instance because many rows are almost equally far) is compared with
    the whole gallery.

    Pure, and may be jitted with k static. Give it all queries at once: under ``vmap``, which takes both
    branches of every condition, each is compared with the whole gallery.

    A row with NaN is farther than any other. Distances may be of any size that floating point can represent:
    if the squares of a query overflow or underflow, its distances are computed again, scaled. (Subnormal
    numbers count as 0 where the processor has it so.) Numbers are compared in float32, unless JAX computes in
    float64 (``jax_enable_x64``) and they have it.

    Args:
      queries: [Q, D]; Q may be 0.
      gallery: [G, D].
      k: the number of neighbours, a whole number from 1 to G.

    Returns:
      Indices and distances, [Q, k].

    Raises:
      ValueError: k outside [1, G] or no whole number, queries or a gallery that are not two-dimensional, or
        rows of different widths.

    Example:
      >>> gallery = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
      >>> indices, distances = nearest_neighbors(jnp.array([[0.0, 0.0]]), gallery, k=2)
      >>> indices.tolist(), distances.tolist()
      ([[0, 2]], [[0.0, 1.0]])
    """
    if queries.ndim != 2 or gallery.ndim != 2:
        raise ValueError(
            f"queries must be [Q, D] and gallery [G, D]; got {queries.shape} and {gallery.shape}"
        )
    k = whole_number(k, "k")
    if queries.shape[-1] != gallery.shape[-1]:
        raise ValueError(f"queries are {queries.shape[-1]} wide but the gallery is {gallery.shape[-1]} wide")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must lie between 1 and the gallery's {len(gallery)} rows, got {k}")
    dtype = jnp.promote_types(jnp.result_type(queries, gallery), jnp.float32)
    return _search(jnp.asarray(queries, dtype), jnp.asarray(gallery, dtype), k)


@jax.jit(static_argnums=2)
def _search(queries: Float[Array, "Q D"], gallery: Float[Array, "G D"], k: int) -> Neighbors:
    limits = jnp.finfo(gallery.dtype)
    # The total that products lose to underflow, and the distance below which that may falsify its square.
    underflow = 8 * (gallery.shape[1] + 4) * float(limits.tiny)
    doubtful = (underflow / float(limits.eps)) ** 0.5
    indices, distances, certified = _search_candidates(queries, gallery, k, underflow)

    def revoke(rank: Int[Array, ""], certified: Bool[Array, " Q"]) -> Bool[Array, " Q"]:
        """Revokes the certificate if the neighbour of this rank is doubtfully near, unless it is equal."""
        differ = (gallery[indices[:, rank]] != queries).any(axis=-1)
        return certified & ~(differ & (distances[:, rank] < doubtful))

    # Doubtful neighbours are the nearest ones: rarely more than the query itself.
    ranks = (distances < doubtful).sum(axis=1).max(initial=0)
    certified = jax.lax.fori_loop(0, ranks, revoke, certified)

    def settle(query_result: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        query, certified, indices, distances = query_result
        return jax.lax.cond(
            certified, lambda: (indices, distances), lambda: _search_directly(query, gallery, k, doubtful)
        )

    indices, distances = jax.lax.cond(
        certified.all(),
        lambda: (indices, distances),
        lambda: jax.lax.map(settle, (queries, certified, indices, distances)),
    )
    return Neighbors(indices, distances)


def _search_candidates(
    queries: Float[Array, "Q D"], gallery: Float[Array, "G D"], k: int, underflow: float
) -> tuple[Int[Array, "Q k"], Float[Array, "Q k"], Bool[Array, " Q"]]:
    """Returns the k nearest candidates, their distances, and for which queries they are proven the nearest.

    Args:
      queries: [Q, D].
      gallery: [G, D].
      k: the number of neighbours.
      underflow: the total that the products of a score may lose to underflow.
    """
    rows, width = gallery.shape
    num_candidates = min(rows, k + SPARE_CANDIDATES)
    # Distances do not change with the origin, but rounding errors grow with the distance from it.
    origin = gallery.mean(axis=0)
    centered = gallery - origin
    square_norms = jnp.square(centered).sum(axis=-1)
    rounding = (width + 4) * jnp.finfo(gallery.dtype).eps

    def search(query: Float[Array, " D"]) -> tuple[Int[Array, " k"], Float[Array, " k"], Bool[Array, ""]]:
        offset = query - origin
        # Highest precision: TF32, a GPU's default, would need an error bound a thousand times as wide.
        products = jnp.matmul(centered, offset, precision=jax.lax.Precision.HIGHEST)
        scores = jnp.nan_to_num(square_norms - 2 * products, nan=jnp.inf, posinf=jnp.inf, neginf=-jnp.inf)
        negated, candidates = jax.lax.top_k(-scores, num_candidates)
        squares = jnp.square(gallery[candidates] - query).sum(axis=-1)
        indices, nearest = _sort_nearest(candidates, squares, k)
        if num_candidates == rows:
            return indices, jnp.sqrt(nearest), jnp.isfinite(nearest[-1])
        # The smallest squared distance that a row outside the candidates can have. A sum of D products errs
        # by at most (D + 2) eps / 2 of its largest terms, whatever the order of its additions (Higham, 2002,
        # 3.1).
        largest = jnp.square(jnp.linalg.norm(offset) + jnp.sqrt(square_norms.max()))
        # The minimum, not [-1]: XLA sorts the whole gallery if any slice but the first k is read.
        bound = jnp.square(offset).sum() - negated.min() - rounding * largest - underflow
        return indices, jnp.sqrt(nearest), nearest[-1] < bound * (1 - rounding)

    tile = max(1, TILE_BYTES // (gallery.dtype.itemsize * max(rows, num_candidates * width)))
    return jax.lax.map(search, queries, batch_size=tile)


def _search_directly(
    query: Float[Array, " D"], gallery: Float[Array, "G D"], k: int, doubtful: float
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """Compares one query with the whole gallery by direct sums.

    Args:
      query: [D].
      gallery: [G, D].
      k: the number of neighbours.
      doubtful: the distance below which underflow may falsify its square.
    """
    squares = jnp.square(gallery - query).sum(axis=-1)
    indices, nearest = _sort_nearest(jnp.arange(len(gallery), dtype=jnp.int32), squares, k)
    differ = (gallery[indices] != query).any(axis=-1)
    return jax.lax.cond(
        jnp.isfinite(nearest[-1]) & ~(differ & (nearest < doubtful**2)).any(),
        lambda: (indices, jnp.sqrt(nearest)),
        lambda: _search_scaled(query, gallery, squares, k),
    )


def _search_scaled(
    query: Float[Array, " D"], gallery: Float[Array, "G D"], squares: Float[Array, " G"], k: int
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """Compares one query with the whole gallery, scaling the smallest and the largest distances.

    Args:
      query: [D].
      gallery: [G, D].
      squares: [G], the squared distances, which may have overflowed or underflowed; they select the scale.
      k: the number of neighbours.
    """
    limits = jnp.finfo(gallery.dtype)
    # Powers of two round nothing. They bring the squares of the smallest and the largest differences into
    # the range of the dtype.
    small = limits.minexp + limits.nmant + 13  # the exponent below which a sum loses bits to underflow
    up, down = 2.0 ** (limits.maxexp // 2 - small // 2 - 9), 2.0 ** -(limits.maxexp // 2 + 16)
    is_small, is_large = squares < 2.0**small, ~(squares < 2.0 ** (limits.maxexp // 4 * 3))
    factor = jnp.where(is_small, up, jnp.where(is_large, down, 1.0)).astype(gallery.dtype)
    # Before the subtraction, because the differences of large rows may overflow, and those of small ones are
    # subnormal, which is zero to many processors. Equal numbers of small rows may become infinite.
    differences = gallery * factor[:, None] - query * factor[:, None]
    are_equal = is_small[:, None] & (gallery == query)
    scaled = jnp.square(jnp.where(are_equal, 0, differences)).sum(axis=-1)
    size = jnp.where(is_small, 0, jnp.where(is_large, 2, 1))
    rows = jnp.arange(len(gallery), dtype=jnp.int32)
    size, scaled, indices, factor = jax.lax.sort(
        (jnp.where(jnp.isnan(scaled), 3, size), scaled, rows, factor), num_keys=3
    )
    return indices[:k], jnp.sqrt(scaled[:k]) / factor[:k]


def _sort_nearest(
    indices: Int[Array, " m"], squares: Float[Array, " m"], k: int
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """Returns the k smallest of m squared distances, ties to the lower index, NaN last."""
    squares, indices = jax.lax.sort((squares, indices), num_keys=2)
    return indices[:k], squares[:k]
