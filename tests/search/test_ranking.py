import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.search.batching import weighted_and_normalized
from gradrev_jax.search.changes import Changes
from gradrev_jax.search.edits import apply_edits, make_edits
from gradrev_jax.search.products import gallery_products
from gradrev_jax.search.ranking import (
    PAIR_BATCHES,
    exact_squared_distances,
    search_edits,
    sort_in_places,
)
from gradrev_jax.search.references import ReferenceRows, make_references

VALUES, ATTRIBUTES, DIM, REFERENCES, QUERIES = 5, 3, 8, 4, 9


def example(rng, how="global", gallery=None, rows=120):
    if gallery is None:
        gallery = rng.normal(size=(rows, ATTRIBUTES, DIM)).astype(np.float32)
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM)).astype(np.float32)
    indicators = (rng.integers(-1, 2, (QUERIES, VALUES)) * 0.7).astype(np.float32)
    reference = rng.integers(0, REFERENCES, QUERIES)
    products = gallery_products(gallery, memory, how)
    features = jnp.asarray(rng.normal(size=(REFERENCES, ATTRIBUTES, DIM)), jnp.float32)
    references = make_references(products, weighted_and_normalized(features, how, None))
    return products, references, make_edits(reference, Changes(indicators))


def no_edits(reference):
    return make_edits(reference, Changes(np.zeros((len(reference), VALUES), np.float32)))


def search(arguments, k, spare_candidates=12):
    return search_edits(*arguments, k, spare_candidates=spare_candidates)


def exact_squares(arguments):
    """Every squared distance to the edited vectors in float64, [Q, G]."""
    products, references, edits = arguments
    vectors = np.asarray(apply_edits(products, references, edits).vectors, np.float64)
    rows = np.asarray(products.rows, np.float64)
    return np.square(vectors[:, None] - rows).sum(axis=(2, 3))


def oracle(arguments, k):
    squares = exact_squares(arguments)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return order, np.sqrt(np.take_along_axis(squares, order, axis=1))


@pytest.fixture
def exact_pairs(monkeypatch):
    """The number of pairs in each call whose distance is computed exactly."""
    counts = []

    def counting(rows, vectors, query, candidate):
        counts.append(len(query))
        return exact_squared_distances(rows, vectors, query, candidate)

    monkeypatch.setattr("gradrev_jax.search.ranking.exact_squared_distances", counting)
    return counts


@pytest.mark.long
@pytest.mark.parametrize("k", [1, 10, 108, 120])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_far_rows_need_no_exact_distance(rng, exact_pairs, how, k):
    arguments = example(rng, how)
    indices, distances = oracle(arguments, k)
    found = search(arguments, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    assert found.certified.all()
    assert sum(exact_pairs) < 0.1 * QUERIES * k + 2


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_rows_that_rounding_hides_from_each_other_are_compared_exactly(rng, exact_pairs, how):
    """Groups of five rows that differ by a few times the rounding error, in random order."""
    gallery = rng.normal(size=(60, 1, ATTRIBUTES, DIM)) + 3e-6 * rng.normal(size=(60, 5, ATTRIBUTES, DIM))
    gallery = rng.permutation(gallery.reshape(-1, ATTRIBUTES, DIM)).astype(np.float32)
    arguments = example(rng, how, gallery)
    indices, distances = oracle(arguments, 23)
    found = search(arguments, 23)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    rows = np.asarray(arguments[0].rows, np.float64)
    same = np.square(rows[found.indices] - rows[indices]).sum(axis=(2, 3))
    assert (same < 1e-8).all()  # one of the five, whose distances differ in the last bits
    assert found.certified.all()
    assert 20 * QUERIES < sum(exact_pairs) < 36 * QUERIES


def test_distances_that_rounding_could_hide_are_computed_exactly(rng):
    """The distance of a row to itself is 0, not the root of what rounding leaves."""
    products, *_ = example(rng)
    rows = products.rows[:REFERENCES]
    references = make_references(products, ReferenceRows(3 * rows, rows))
    found = search((products, references, no_edits(np.arange(REFERENCES))), 3)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(REFERENCES))
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    assert (found.distances[:, 1] > 0.1).all()


@pytest.mark.long
@pytest.mark.parametrize("rows", [13, 14, 200])
def test_equal_rows_are_certified_only_if_all_are_candidates(rng, rows):
    """All rows are equal, so any row outside the 13 candidates is as near as those inside."""
    gallery = np.tile(rng.normal(size=(1, ATTRIBUTES, DIM)).astype(np.float32), (rows, 1, 1))
    arguments = example(rng, gallery=gallery)
    found = search(arguments, 1)
    assert found.certified.tolist() == [rows == 13] * QUERIES
    squares = exact_squares(arguments)
    assert (squares == squares[:, :1]).all()  # every row is a right answer, the first is that of the tie rule
    assert ((found.indices >= 0) & (found.indices < rows)).all()
    np.testing.assert_allclose(found.distances, np.sqrt(squares[:, :1]), rtol=1e-6)
    if rows == 13:
        assert (found.indices == 0).all()


@pytest.mark.long
def test_exact_distances_certify_candidates_that_no_gap_separates(rng):
    """Rows a quarter of the bound apart are one group; that the k-th is nearer than the last is certain."""
    direction = rng.normal(size=(ATTRIBUTES, DIM))
    gallery = ((1 + 2e-7 * np.arange(4000)[:, None, None]) * direction).astype(np.float32)
    products, _, edits = example(rng, "none", gallery)
    features = jnp.asarray(gallery[:REFERENCES] * np.float32(0.98))
    references = make_references(products, ReferenceRows(features, features))
    arguments = (products, references, no_edits(edits.position))
    few, many = (search(arguments, 1, spare) for spare in (3, 2000))
    assert not few.certified.any()
    assert many.certified.all()
    np.testing.assert_array_equal(many.indices, oracle(arguments, 1)[0])


@pytest.mark.parametrize("pairs", [0, 1, PAIR_BATCHES[0], PAIR_BATCHES[0] + 1, PAIR_BATCHES[1] + 3])
def test_exact_squared_distances_against_float64(rng, pairs):
    rows, vectors = (rng.normal(size=(30, ATTRIBUTES, DIM)).astype(np.float32) for _ in range(2))
    query, row = rng.integers(0, 30, (2, pairs))
    expected = np.square(rows[row].astype(np.float64) - vectors[query]).sum(axis=(1, 2))
    found = exact_squared_distances(jnp.asarray(rows), jnp.asarray(vectors), query, row)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize("count", [0, 1, 700])
def test_pairs_are_sorted_within_their_places(rng, count, has_ties, dtype):
    place = np.sort(rng.integers(0, 40, count)) + (2**31 - 40)
    squares = (rng.integers(0, 3, count) if has_ties else rng.permutation(count) * 1e-3).astype(dtype)
    squares[: count // 50], squares[count // 50 : count // 25] = np.inf, np.nan
    rows = rng.integers(0, 9, count).astype(np.int32)
    last = np.where(np.isnan(squares), np.inf, squares), np.isnan(squares)  # as NumPy sorts NaN

    def keys(order):
        return [(place[i], last[0][i], last[1][i], rows[i]) for i in order]

    assert keys(sort_in_places(place, squares, rows)) == sorted(keys(range(count)))
