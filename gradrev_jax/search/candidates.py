"""Finds the gallery rows with the smallest scores |g|² - 2 q·g, which are sums of products."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int64

from gradrev_jax.search.edits import EditedFeatures, ScoreTerms
from gradrev_jax.search.neighbors import TILE_BYTES
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.references import References
from gradrev_jax.search.sums import ONE_THREAD

SCORE_BYTES = 2**22  # of the scores that a CPU holds at a time; more leave its cache before they are selected


class Query(NamedTuple):
    """Represents a query, or several along a first axis, as scores are computed from it.

    Attributes:
      position: the position of the reference among the ``References``.
      terms: the terms of its products with the gallery.
    """

    position: Int[Array, "*Q"]
    terms: ScoreTerms


def find_candidates(
    products: GalleryProducts,
    references: References,
    position: Int[np.ndarray, " Q"],
    edited: EditedFeatures,
    m: int,
) -> tuple[Float[np.ndarray, "Q m"], Int[np.ndarray, "Q m"]]:
    """Returns the m smallest scores |g|² - 2 q·g of each query, ascending, and their gallery rows g.

    Args:
      products: the products of the gallery and the memory.
      references: the references and their products.
      position: [Q], the position of each query's reference among the references.
      edited: the references as the queries edit them.
      m: the number of rows per query.
    """
    num_queries = len(position)
    # jnp.asarray would compile a program for each shape.
    queries = Query(jax.device_put(position.astype(np.int32)), edited.terms)
    if jax.default_backend() != "cpu":
        scores, rows = _find_on_device(products, references, queries, m)
        return np.array(scores), np.array(rows)  # copies, because a caller may write into them
    # A single query uses all cores; of many, each thread has a chunk, see ``search_references``.
    score = _score_rows_by_all_threads if num_queries == 1 else _score_rows_by_one_thread
    count = min(num_queries, max(1, SCORE_BYTES // products.square_norms.nbytes))
    found = np.zeros((num_queries, m), products.rows.dtype), np.zeros((num_queries, m), np.int32)
    for start in range(0, num_queries, count):
        start = min(start, num_queries - count)  # the last repeats some, so that one program serves all
        scores = np.asarray(score(products, references, queries, start, count=count))
        for whole, part in zip(found, smallest_on_host(scores, m), strict=True):
            whole[start : start + count] = part
    return found


def _scores_of_one(
    products: GalleryProducts,
    references: References,
    query: Query,
) -> Float[Array, " G"]:
    """Returns the scores of one query, finite.

    Args:
      products: the products of the gallery and the memory.
      references: the references and their products.
      query: one query.
    """
    of_blocks, (position, terms) = references.blocks, query
    # One slice per row, because XLA would copy the result of a gather.
    sums = jax.lax.dynamic_index_in_dim(references.products, position, axis=1, keepdims=False)
    summands = [scale * product for scale, product in zip(terms.scales, sums, strict=True)]
    if of_blocks is not None and terms.blocks is not None and terms.block_factors is not None:
        for block, factor in zip(terms.blocks, terms.block_factors, strict=True):
            place, size = (block, position, np.int32(0)), (1, 1, of_blocks.shape[2])
            summands.append(factor * jax.lax.dynamic_slice(of_blocks, place, size)[0, 0])
    for entry, factor in zip(terms.entries, terms.entry_factors, strict=True):
        summands.append(factor * jax.lax.dynamic_index_in_dim(products.table, entry, keepdims=False))
    scores = products.square_norms - 2 * functools.reduce(jnp.add, summands)
    return jnp.where(jnp.isfinite(scores), scores, jnp.finfo(scores.dtype).max)


def _score_rows(
    products: GalleryProducts,
    references: References,
    queries: Query,
    start: Int[Array, ""] | int,
    *,
    count: int,
) -> Float[Array, "count G"]:
    """Returns all scores of some queries."""
    score = functools.partial(_scores_of_one, products, references)
    taken = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, count), queries)
    if count == 1:
        return score(jax.tree.map(lambda x: x[0], taken))[None]
    return jax.lax.map(score, taken)  # one query at a time, whose scores stay in the cache


_score_rows_by_all_threads = jax.jit(_score_rows, static_argnames="count")
_score_rows_by_one_thread = jax.jit(_score_rows, static_argnames="count", compiler_options=ONE_THREAD)


@functools.partial(jax.jit, static_argnames="m")
def _find_on_device(
    products: GalleryProducts,
    references: References,
    queries: Query,
    m: int,
) -> tuple[Float[Array, "Q m"], Int[Array, "Q m"]]:
    """Returns ``find_candidates`` as one program, for devices other than a CPU."""

    def search(query: Query) -> tuple[Array, Array]:
        return smallest(_scores_of_one(products, references, query), m)

    # Several queries at a time, as many as their terms fit into memory.
    terms = queries.terms
    num_terms = terms.entries.shape[1] + (0 if terms.blocks is None else terms.blocks.shape[1])
    tile = max(1, TILE_BYTES // (products.square_norms.nbytes * (1 + num_terms)))
    return jax.lax.map(search, queries, batch_size=tile)


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
    size = group_size(len(scores), m)
    minima = group_minima(scores, size)
    num_groups = len(minima)
    groups = jax.lax.top_k(-minima, m)[1] + num_groups * jnp.arange(size)[:, None]
    # The last rows, fewer than a group has, are in no group.
    rows = jnp.concatenate([groups.reshape(-1), jnp.arange(num_groups * size, len(scores))])
    negated, chosen = jax.lax.top_k(-scores[rows], m)
    return -negated, rows[chosen]


def smallest_on_host(
    scores: Float[np.ndarray, "Q G"], m: int
) -> tuple[Float[np.ndarray, "Q m"], Int[np.ndarray, "Q m"]]:
    """Returns ``smallest`` of each query; NumPy selects several times as fast as XLA on a CPU.

    The m-th smallest minimum of the groups is a limit that at least m scores keep, and few others. Equal
    scores come in the order of their rows.

    Args:
      scores: [Q, G], finite.
      m: the number of scores to return.
    """
    minima = group_minima(scores, group_size(scores.shape[1], m))
    limits = np.partition(minima, m - 1, axis=1)[:, m - 1 : m]
    position = np.flatnonzero(scores <= limits)
    firsts = np.searchsorted(position, scores.shape[1] * np.arange(len(scores) + 1))
    counts = np.diff(firsts)
    query = np.repeat(np.arange(len(scores)), counts)
    least, rows = scores.ravel()[position], position - query * scores.shape[1]
    if scores.dtype != np.float32:
        order = np.lexsort((rows, least, query))[firsts[:-1, None] + np.arange(m)]
        return least[order], rows[order].astype(np.int32)
    # One line per query, padded behind. Whole numbers are sorted in half of the time that it takes to find an
    # order and to take two arrays in it.
    line = np.arange(len(scores)) * counts.max() - firsts[:-1]
    keys = np.full((len(scores), counts.max()), np.iinfo(np.int64).max)
    keys.put(np.arange(len(position)) + line[query], _keys(least, rows))
    keys.sort(axis=1)
    return _of_keys(keys[:, :m])


def _keys(scores: Float32[np.ndarray, " M"], rows: Int[np.ndarray, " M"]) -> Int64[np.ndarray, " M"]:
    """Returns whole numbers that ascend as scores do, and where these are equal, as rows do."""
    return (_turned(scores.view(np.int32).astype(np.int64)) << 32) | rows


def _of_keys(
    keys: Int64[np.ndarray, "Q m"],
) -> tuple[Float32[np.ndarray, "Q m"], Int[np.ndarray, "Q m"]]:
    """Returns the scores and the rows that ``_keys`` made keys of."""
    return _turned(keys >> 32).astype(np.int32).view(np.float32), keys.astype(np.int32)


def _turned(bits: Int64[np.ndarray, "*M"]) -> Int64[np.ndarray, "*M"]:
    """Turns the bits of numbers below 0 round, which ascend as these descend; done twice, it is undone."""
    return bits ^ ((bits >> 63) & 0x7FFFFFFF)


def group_size(count: int, m: int) -> int:
    """Returns the number of rows per group, with which the m smallest of a count are quickly found."""
    size = round((count / m) ** 0.5)
    return size if size >= 4 else 1


def group_minima(scores: Float[Array | np.ndarray, "*Q G"], size: int) -> Float[Array | np.ndarray, "*Q n"]:
    """Returns the minimum of each group: of n groups, group i has the rows i, i + n, i + 2 n and so on."""
    num_groups = scores.shape[-1] // size
    grouped = scores[..., : num_groups * size].reshape(*scores.shape[:-1], size, num_groups)
    return grouped.min(axis=-2)
