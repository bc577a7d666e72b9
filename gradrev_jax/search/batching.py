"""Search with many manipulated references: in portions that fit, on all cores, until each is certain."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import check_integers, whole_number
from gradrev_jax.core.manipulation import Normalization, normalize_features
from gradrev_jax.search.edits import References, edit, make_changes, make_references
from gradrev_jax.search.neighbors import SPARE_CANDIDATES, nearest_neighbors
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.ranking import nearest_edited

# Queries, and references, are padded to one of these numbers, so that few programs are compiled; more
# references than the last are taken in equal chunks, padded to a multiple of PADDING.
SIZES = (1, 16, 256)
REFERENCES_AT_ONCE, PADDING = 1024, 16
CHUNK_BYTES = 2**29  # bounds the products of references, and the scores of queries, held at a time
# Candidates besides the k at first, and for the queries that those do not certify. A few certify nearly all.
SPARES = (12, SPARE_CANDIDATES)
WORKERS = os.cpu_count() or 1  # each searches a chunk of queries, most of which is no parallel work in itself

# Row numbers -> features [R, N, d], not normalised, and normalised.
TakeRows = Callable[[Int[np.ndarray, " R"]], tuple[Float[Array, "R N d"], Float[Array, "R N d"]]]


def search_all(
    products: GalleryProducts,
    take: TakeRows,
    rows: Int[np.ndarray, " Q"],
    edits: Float[np.ndarray, "Q J"],
    k: int,
    normalize: Normalization,
    *,
    measure_all: bool = False,
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """Indices and distances of the k rows nearest to each edited reference.

    Args:
      products: of the gallery and the memory.
      take: gives the references of these numbers.
      rows: [Q], the number of the reference that each query edits.
      edits: [Q, J], indicators times strength.
      k: neighbours wanted.
      normalize: how features are normalised after the manipulation.
      measure_all: whether all distances are direct sums, as they must be to be compared with others.
    """
    distinct, reference = np.unique(rows, return_inverse=True)
    indices = np.zeros((len(rows), k), np.int32)
    distances = np.zeros((len(rows), k), products.rows.dtype)
    parts = products.rows.shape[1] if normalize == "attribute" else 1
    at_once = references_at_once(len(distinct), products.square_norms.nbytes * parts)
    order = np.argsort(reference, kind="stable")
    for some in _chunks(np.arange(len(distinct)), at_once):
        first, last = np.searchsorted(reference[order], (some.min(), some.max() + 1))
        queries = order[first:last]
        references = make_references(products, *take(distinct[some]), normalize)
        indices[queries], distances[queries] = search_references(
            products, references, reference[queries] - some[0], edits[queries], k, normalize, measure_all
        )
    return indices, distances


@jax.jit(static_argnames="normalize")
def normalized(features: Float[Array, "R N d"], normalize: Normalization) -> Float[Array, "R N d"]:
    """Features normalised as a gallery's rows are."""
    return normalize_features(features, normalize).reshape(features.shape)


def search_references(
    products: GalleryProducts,
    references: References,
    reference: Int[np.ndarray, " Q"],
    edits: Float[np.ndarray, "Q J"],
    k: int,
    normalize: Normalization,
    measure_all: bool = False,
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """As ``search_all``, with references whose products are there."""
    indices = np.zeros((len(reference), k), np.int32)
    distances = np.zeros((len(reference), k), products.rows.dtype)
    certified = np.zeros(len(reference), bool)
    changes = make_changes(reference, edits)
    bytes_each = max(products.square_norms.nbytes, products.rows[0].nbytes)

    def search(queries: Int[np.ndarray, " P"], spare: int) -> None:
        indices[queries], distances[queries], certified[queries] = nearest_edited(
            products,
            references,
            changes.of(queries),
            k,
            spare=spare,
            normalize=normalize,
            measure_all=measure_all,
        )

    for spare in SPARES:
        pending = np.flatnonzero(~certified)
        chunks = list(_chunks(pending, _at_once(len(pending), bytes_each)))
        if len(chunks) > 1:
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(search, chunks, itertools.repeat(spare)))
        elif chunks:
            search(chunks[0], spare)
    left = np.flatnonzero(~certified)
    for queries in _chunks(left, _at_once(len(left), bytes_each)):
        edited = edit(products, references, changes.of(queries), normalize)
        vectors, rows = (x.reshape(len(x), -1) for x in (edited.vectors, products.rows))
        indices[queries], distances[queries] = nearest_neighbors(vectors, rows, k)
    return indices, distances


def checked_edits(
    indicators: Int[Array | np.ndarray, "Q J"] | Float[Array | np.ndarray, "Q J"],
    strength: float,
    *,
    num_queries: int,
    num_values: int,
    dtype: np.dtype,
) -> Float[np.ndarray, "Q J"]:
    """Indicators times strength.

    Raises:
      ValueError: there are not as many as queries, or not of as many values; something is not finite.
    """
    if indicators.shape != (num_queries, num_values):
        raise ValueError(
            f"{num_queries} queries need indicators [{num_queries}, {num_values}], got {indicators.shape}"
        )
    if np.shape(strength) != () or not np.isfinite(strength):
        raise ValueError(f"strength must be one finite number, got {strength}")
    edits = np.asarray(indicators, dtype) * np.asarray(strength, dtype)
    finite = np.isfinite(edits).all(axis=1)
    if not finite.all():
        raise ValueError(f"indicators times strength are not finite in row {int(finite.argmin())}")
    return edits


def checked_k(k: int, num_rows: int, *, exclude_reference: bool) -> int:
    """Returns k as an int of Python's, where there are k rows to find.

    Raises:
      ValueError: k beyond the gallery, below 1, or no whole number.
    """
    k = whole_number(k, "k")
    allowed = num_rows - exclude_reference
    if not 1 <= k <= allowed:
        left = f", the query excluded, of {num_rows}" if exclude_reference else ""
        raise ValueError(f"k must lie between 1 and the gallery's {allowed} rows{left}, got {k}")
    return k


def checked_rows(rows: Int[Array | np.ndarray, " Q"], num_rows: int) -> Int[np.ndarray, " Q"]:
    """Row numbers as an array of NumPy's.

    Raises:
      ValueError: one outside the gallery, or what is no list of whole numbers.
    """
    rows = np.asarray(rows)
    check_integers(rows, "reference_ids")
    if rows.ndim != 1:
        raise ValueError(f"reference_ids must be [Q], got {rows.shape}")
    outside = rows[(rows < 0) | (rows >= num_rows)]
    if outside.size:
        raise ValueError(f"references must lie between 0 and {num_rows - 1}, got {outside[0]}")
    return rows


def without(
    indices: Int[np.ndarray, "Q K"],
    distances: Float[np.ndarray, "Q K"],
    excluded: Int[np.ndarray, " Q"],
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """All but each query's excluded row, or but the last where that is not among them."""
    is_excluded = indices == excluded[:, None]
    is_excluded[~is_excluded.any(axis=1), -1] = True
    shape = len(indices), indices.shape[1] - 1
    return indices[~is_excluded].reshape(shape), distances[~is_excluded].reshape(shape)


def _at_once(total: int, bytes_each: int) -> int:
    """How many of a total to take at once: the least size that holds all, or the largest that fits."""
    allowed = [size for size in SIZES if size == 1 or size * bytes_each <= CHUNK_BYTES]
    return next((size for size in allowed if size >= total), allowed[-1])


def references_at_once(total: int, bytes_each: int) -> int:
    """As ``_at_once``, but many in as large and equal chunks as fit: products cost less by the hundred."""
    largest = min(REFERENCES_AT_ONCE, CHUNK_BYTES // bytes_each // PADDING * PADDING)
    if total <= SIZES[-1] or largest <= SIZES[-1]:
        return _at_once(total, bytes_each)
    each = -(-total // -(-total // largest))
    return -(-each // PADDING) * PADDING


def _chunks(items: Int[np.ndarray, " M"], size: int) -> Iterator[Int[np.ndarray, " size"]]:
    """Items in chunks of one size; the last is padded with its own, so that one compilation serves all."""
    for start in range(0, len(items), size):
        yield np.resize(items[start : start + size], size)
