"""The exact search on the default device beside float64."""

import numpy as np
import pytest

from benchmarks.evaluation import random_evaluation
from benchmarks.search import excess, normalized
from gradrev_jax import ManipulationIndex, class_prototypes, nearest_neighbors

pytestmark = pytest.mark.gpu

K = 50


def test_manipulated_queries_find_the_nearest_rows_and_their_distances(sizes):
    features, labels, queries, schema = random_evaluation(
        sizes["gallery"], sizes["queries"] // 3, sizes["queries"], sizes["dim"]
    )
    memory = np.asarray(class_prototypes(features, labels, schema))
    index = ManipulationIndex.build(features, memory, schema)
    found = index.search(reference_ids=queries.reference, indicators=queries.indicators, k=K)
    rows = np.asarray(found.indices)
    farther = excess(features, memory, queries.reference, queries.indicators, rows, len(queries))
    assert farther < 1e-6  # of squared distances between rows of norm 1
    assert (np.sort(rows, axis=1)[:, 1:] != np.sort(rows, axis=1)[:, :-1]).all()

    some = np.linspace(0, len(queries) - 1, 50).astype(int)
    gallery = normalized(features.astype(np.float64))
    changes = queries.indicators[some] @ memory.astype(np.float64).reshape(len(memory), -1)
    edited = normalized(features[queries.reference[some]].astype(np.float64).reshape(50, -1) + changes)
    expected = np.linalg.norm(edited[:, None] - gallery[rows[some]], axis=-1)
    np.testing.assert_allclose(np.asarray(found.distances)[some], expected, rtol=1e-4, atol=1e-6)


def test_a_session_finds_what_a_search_finds(sizes):
    features, labels, queries, schema = random_evaluation(sizes["gallery"], 2, 10, sizes["dim"])
    memory = np.asarray(class_prototypes(features, labels, schema))
    index = ManipulationIndex.build(features, memory, schema)
    mine = queries.reference == queries.reference[0]
    session = index.session(int(queries.reference[0]))
    found = session.search(queries.indicators[mine], K)
    expected = index.search(reference_ids=queries.reference[mine], indicators=queries.indicators[mine], k=K)
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_plain_neighbours_are_exact_with_ties_and_duplicates(sizes, rng):
    gallery = rng.integers(-2, 3, (sizes["gallery"], 64)).astype(np.float32)  # exact in float32, many ties
    queries = gallery[rng.integers(0, len(gallery), 100)]
    found = nearest_neighbors(queries, gallery, K)
    wide = gallery.astype(np.float64)
    squares = (wide**2).sum(axis=1) - 2 * queries.astype(np.float64) @ wide.T
    squares += (queries.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(found.indices, np.argsort(squares, axis=1, kind="stable")[:, :K])
    assert (np.asarray(found.distances)[:, 0] == 0).all()
