"""Search with many manipulated references: in chunks that fit into memory, on all cores, until certified."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.normalization import Normalization, normalize_scaled, weigh_features
from gradrev_jax.core.workers import NUM_WORKERS
from gradrev_jax.search.changes import Changes
from gradrev_jax.search.edits import apply_edits, make_edits
from gradrev_jax.search.neighbors import SPARE_CANDIDATES, nearest_neighbors
from gradrev_jax.search.products import GalleryProducts
from gradrev_jax.search.ranking import exact_squared_distances, search_edits
from gradrev_jax.search.references import ReferenceRows, References, make_references

# Queries and references are padded to one of these numbers, so that few programs are compiled. More
# references than the last are split into equal chunks, padded to a multiple of PADDING.
CHUNK_SIZES = (1, 16, 256)
MAX_REFERENCES, PADDING = 1024, 16
CHUNK_BYTES = 2**29  # bounds the products of references, and the scores of queries, that are held at a time
# The candidates beyond k, in the first round and in a second one for the queries that the first does not
# certify. A few certify nearly all queries.
SPARE_CANDIDATE_ROUNDS = (12, SPARE_CANDIDATES)

# Maps the numbers of references [R] to their features.
TakeReferences = Callable[[Int[np.ndarray, " R"]], ReferenceRows]


def search_all(
    products: GalleryProducts,
    take_references: TakeReferences,
    reference_ids: Int[np.ndarray, " Q"],
    changes: Changes,
    k: int,
    *,
    exact_distances: bool = False,
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """Returns the indices and distances of the k rows nearest to each manipulated reference.

    Args:
      products: the products of the gallery and the memory.
      take_references: the function that returns references by their numbers.
      reference_ids: [Q], the number of each query's reference.
      changes: what the queries change.
      k: the number of neighbours.
      exact_distances: whether all distances are direct sums, which compare with those of other galleries.
    """
    distinct, position = np.unique(reference_ids, return_inverse=True)
    indices = np.zeros((len(reference_ids), k), np.int32)
    distances = np.zeros((len(reference_ids), k), products.rows.dtype)
    parts = products.rows.shape[1] if products.normalize == "attribute" else 1 + changes.num_replaceable
    # On a CPU with many references, each thread takes a chunk of its own: XLA does not divide the additions
    # of short sums among the cores.
    is_divided = jax.default_backend() == "cpu" and len(distinct) >= NUM_WORKERS * CHUNK_SIZES[-1]
    workers = NUM_WORKERS if is_divided else 1
    size = reference_chunk_size(len(distinct), products.square_norms.nbytes * parts, workers)
    # In this order, the queries of a chunk of references are a slice.
    by_reference = np.argsort(position, kind="stable")

    def search(chunk: Int[np.ndarray, " R"]) -> None:
        first, last = np.searchsorted(position[by_reference], (chunk.min(), chunk.max() + 1))
        queries = by_reference[first:last]
        taken = take_references(distinct[chunk])
        references = make_references(products, taken, changes.num_replaceable, by_one_thread=is_divided)
        indices[queries], distances[queries] = search_references(
            products,
            references,
            position[queries] - chunk[0],
            changes.take(queries),
            k,
            exact_distances,
            workers=1 if is_divided else NUM_WORKERS,
        )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(search, _chunks(np.arange(len(distinct)), size)))
    return indices, distances


@jax.jit(static_argnames="normalize")
def weighted_and_normalized(
    features: Float[Array, "R P d"], normalize: Normalization, weights: Float[Array, " P"] | None
) -> ReferenceRows:
    """Returns features weighted like the memory, and like the gallery's rows, for ``make_references``.

    Args:
      features: [R, P, d], the features as they were given.
      normalize: the normalisation.
      weights: [P], the scaled weights of the blocks; None: all 1.
    """
    rows = normalize_scaled(features, normalize, weights).reshape(features.shape)
    return ReferenceRows(weigh_features(features, normalize, weights), rows)


def search_references(
    products: GalleryProducts,
    references: References,
    position: Int[np.ndarray, " Q"],
    changes: Changes,
    k: int,
    exact_distances: bool = False,
    *,
    workers: int = NUM_WORKERS,
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """Returns the result of ``search_all`` for references whose products are computed already.

    Args:
      products: the products of the gallery and the memory.
      references: the references and their products.
      position: [Q], the position of each query's reference among the references.
      changes: what the queries change.
      k: the number of neighbours.
      exact_distances: whether all distances are direct sums.
      workers: the number of threads.
    """
    indices = np.zeros((len(position), k), np.int32)
    distances = np.zeros((len(position), k), products.rows.dtype)
    certified = np.zeros(len(position), bool)
    edits = make_edits(position, changes)
    query_bytes = max(products.square_norms.nbytes, products.rows.nbytes // len(products.rows))

    def search(queries: Int[np.ndarray, " T"], spare_candidates: int) -> None:
        indices[queries], distances[queries], certified[queries] = search_edits(
            products,
            references,
            edits.take(queries),
            k,
            spare_candidates=spare_candidates,
            exact_distances=exact_distances,
        )

    for spare_candidates in SPARE_CANDIDATE_ROUNDS:
        pending = np.flatnonzero(~certified)
        chunks = list(_chunks(pending, _chunk_size(len(pending), query_bytes)))
        if len(chunks) > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(search, chunks, itertools.repeat(spare_candidates)))
        elif chunks:
            search(chunks[0], spare_candidates)
    pending = np.flatnonzero(~certified)
    for queries in _chunks(pending, _chunk_size(len(pending), query_bytes)):
        edited = apply_edits(products, references, edits.take(queries))
        vectors, rows = (x.reshape(len(x), -1) for x in (edited.vectors, products.rows))
        found = nearest_neighbors(vectors, rows, k)
        indices[queries], distances[queries] = (
            _by_direct_sums(products, edited.vectors, np.asarray(found.indices)) if exact_distances else found
        )
    return indices, distances


def _by_direct_sums(
    products: GalleryProducts, vectors: Float[Array, "T P d"], found: Int[np.ndarray, "T k"]
) -> tuple[Int[np.ndarray, "T k"], Float[np.ndarray, "T k"]]:
    """Measures the rows that were found as certified ones are measured, and returns them in that order.

    A plain search adds up in another order, so that equal rows would be told apart by how they were found.
    """
    query = np.repeat(np.arange(len(found)), found.shape[1])
    squares = exact_squared_distances(products.rows, vectors, query, found.ravel()).reshape(found.shape)
    order = np.lexsort((found, squares), axis=1)
    return np.take_along_axis(found, order, axis=1), np.sqrt(np.take_along_axis(squares, order, axis=1))


def _chunk_size(total: int, item_bytes: int) -> int:
    """Returns the smallest of CHUNK_SIZES that holds a total, or else the largest that memory allows."""
    allowed = [size for size in CHUNK_SIZES if size == 1 or size * item_bytes <= CHUNK_BYTES]
    return next((size for size in allowed if size >= total), allowed[-1])


def reference_chunk_size(total: int, reference_bytes: int, workers: int = 1) -> int:
    """Splits many references into equal chunks, as large as memory allows, and returns their size.

    Large products cost less per row than small ones. Few references are chunked like queries.

    Args:
      total: the number of references.
      reference_bytes: the bytes of one reference's products.
      workers: the number of threads that have a chunk each at the same time.
    """
    reference_bytes *= workers
    largest = min(MAX_REFERENCES, CHUNK_BYTES // reference_bytes // PADDING * PADDING)
    if total <= CHUNK_SIZES[-1] or largest <= CHUNK_SIZES[-1]:
        return _chunk_size(total, reference_bytes)
    rounds = -(-total // (largest * workers))
    size = -(-total // (rounds * workers))
    return -(-size // PADDING) * PADDING


def _chunks(items: Int[np.ndarray, " M"], size: int) -> Iterator[Int[np.ndarray, " size"]]:
    """Yields chunks of one size; the last repeats its own items as padding, so one program serves all."""
    for start in range(0, len(items), size):
        yield np.resize(items[start : start + size], size)
