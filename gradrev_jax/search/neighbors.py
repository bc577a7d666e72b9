"""Exact Euclidean nearest neighbours."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import whole_number

TILE_BYTES = 2**27  # bounds the scores and candidates held at a time
SPARE_CANDIDATES = 32  # more of them certify more queries, and cost a direct distance each


class Neighbors(NamedTuple):
    """The k nearest gallery rows of each query, nearest first.

    Attributes:
      indices: int32 [Q, k], rows of the gallery.
      distances: [Q, k], Euclidean.
    """

    indices: Int[Array, "Q k"]
    distances: Float[Array, "Q k"]


def nearest_neighbors(
    queries: Float[Array | np.ndarray, "Q D"], gallery: Float[Array | np.ndarray, "G D"], k: int
) -> Neighbors:
    """The k gallery rows nearest to each query: exact, ascending, ties to the lower index.

    Every reported distance is the root of a direct sum of (q - g)², so a row's distance to itself is 0, and
    the order is that of these sums over the **whole** gallery. They are not all computed: one matrix product
    ranks the gallery by |g|² - 2 q·g, a few more than k candidates are measured directly, and a bound on the
    product's rounding error certifies that no other row can belong among the first k. A query for which it
    does not (with many rows as good as equally far, say) is measured against the whole gallery.

    Pure, and may be jitted with k static. A row with NaN is farther than any other. Distances may be as small
    or large as numbers can be: a query whose squares overflow or vanish is measured anew, scaled.

    Args:
      queries: [Q, D]; Q may be 0.
      gallery: [G, D].
      k: neighbours wanted, a whole number from 1 to G.

    Returns:
      Indices and distances, [Q, k].

    Raises:
      ValueError: k outside 1 to G or no whole number, queries or a gallery that are no rows, or rows of
        different width.

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
    rows, width = gallery.shape
    num_candidates = min(rows, k + SPARE_CANDIDATES)
    # Distances do not change with the origin, but rounding errors grow with the distance from it.
    origin = gallery.mean(axis=0)
    centered = gallery - origin
    square_norms = jnp.square(centered).sum(axis=-1)
    limits = jnp.finfo(gallery.dtype)
    rounding = (width + 4) * limits.eps
    # What products that underflow can amount to, and the distance whose square that may falsify.
    underflow = 8 * (width + 4) * float(limits.tiny)
    doubtful = (underflow / float(limits.eps)) ** 0.5

    def search(query: Float[Array, " D"]) -> tuple[Int[Array, " k"], Float[Array, " k"], Bool[Array, ""]]:
        offset = query - origin
        # Highest precision: TF32, a GPU's default, would need a bound a thousand times as wide.
        products = jnp.matmul(centered, offset, precision=jax.lax.Precision.HIGHEST)
        scores = jnp.nan_to_num(square_norms - 2 * products, nan=jnp.inf, posinf=jnp.inf, neginf=-jnp.inf)
        negated, candidates = jax.lax.top_k(-scores, num_candidates)
        squares = jnp.square(gallery[candidates] - query).sum(axis=-1)
        indices, nearest = nearest_of(candidates, squares, k)
        if num_candidates == rows:
            return indices, jnp.sqrt(nearest), jnp.isfinite(nearest[-1])
        # The least that a row which is no candidate can measure. Sums of D products err by at most
        # (D + 2) eps / 2 of their largest terms, in whatever order they are added (Higham, 2002, 3.1).
        largest = jnp.square(jnp.linalg.norm(offset) + jnp.sqrt(square_norms.max()))
        # The minimum, not [-1]: XLA sorts the whole gallery where a slice other than the first k is read.
        bound = jnp.square(offset).sum() - negated.min() - rounding * largest - underflow
        return indices, jnp.sqrt(nearest), nearest[-1] < bound * (1 - rounding)

    def search_all(query: Float[Array, " D"]) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
        squares = jnp.square(gallery - query).sum(axis=-1)
        indices, nearest = nearest_of(jnp.arange(rows), squares, k)
        differ = (gallery[indices] != query).any(axis=-1)
        return jax.lax.cond(
            jnp.isfinite(nearest[-1]) & ~(differ & (nearest < doubtful**2)).any(),
            lambda: (indices, jnp.sqrt(nearest)),
            lambda: _nearest_of_any_size(query, gallery, squares, k),
        )

    at_once = max(1, TILE_BYTES // (gallery.dtype.itemsize * max(rows, num_candidates * width)))
    indices, distances, certified = jax.lax.map(search, queries, batch_size=at_once)

    def without_vanished(rank: Int[Array, ""], certified: Bool[Array, " Q"]) -> Bool[Array, " Q"]:
        """All but queries of which another row is doubtfully near; an equal row is truly 0 from its query."""
        differ = (gallery[indices[:, rank]] != queries).any(axis=-1)
        return certified & ~(differ & (distances[:, rank] < doubtful))

    # The doubtful are the nearest: rarely more than the query itself.
    ranks = (distances < doubtful).sum(axis=1).max(initial=0)
    certified = jax.lax.fori_loop(0, ranks, without_vanished, certified)

    def settle(arguments: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        query, certified, indices, distances = arguments
        return jax.lax.cond(certified, lambda: (indices, distances), lambda: search_all(query))

    indices, distances = jax.lax.cond(
        certified.all(),
        lambda: (indices, distances),
        lambda: jax.lax.map(settle, (queries, certified, indices, distances)),
    )
    return Neighbors(indices, distances)


def _nearest_of_any_size(
    query: Float[Array, " D"], gallery: Float[Array, "G D"], squares: Float[Array, " G"], k: int
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """The k nearest rows and their distances, of which the smallest and the largest are measured scaled.

    Args:
      query: [D].
      gallery: [G, D].
      squares: [G], squared distances, which may have overflowed or vanished; they tell how to scale.
      k: neighbours wanted.
    """
    limits = jnp.finfo(gallery.dtype)
    # Powers of two, which round nothing: the least difference squares to a number, and the largest, too.
    up, down = 2.0 ** (1 - limits.minexp // 2), 2.0 ** -(limits.maxexp // 2 + 16)
    is_small, is_large = squares < 2.0 ** (limits.minexp // 2), ~(squares < 2.0 ** (limits.maxexp // 4 * 3))
    factor = jnp.where(is_small, up, jnp.where(is_large, down, 1.0)).astype(gallery.dtype)
    # Large rows are scaled before they are subtracted, as their differences may overflow; small ones after.
    first, then = jnp.where(is_large, factor, 1)[:, None], jnp.where(is_large, 1, factor)[:, None]
    scaled = jnp.square((gallery * first - query * first) * then).sum(axis=-1)
    size = jnp.where(is_small, 0, jnp.where(is_large, 2, 1))
    size, scaled, indices, factor = jax.lax.sort(
        (jnp.where(jnp.isnan(scaled), 3, size), scaled, jnp.arange(len(gallery)), factor), num_keys=3
    )
    return indices[:k], jnp.sqrt(scaled[:k]) / factor[:k]


def nearest_of(
    indices: Int[Array, " m"], squares: Float[Array, " m"], k: int
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """The k smallest of m squares, ties to the lower index, NaN last."""
    squares, indices = jax.lax.sort((squares, indices), num_keys=2)
    return indices[:k], squares[:k]
