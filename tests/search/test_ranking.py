import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.manipulation import NORMALIZATIONS, normalize_features
from gradrev_jax.search.edits import edit, make_changes, make_references
from gradrev_jax.search.products import gallery_products
from gradrev_jax.search.ranking import PAIRS, measure, nearest_edited, rank, smallest

VALUES, ATTRIBUTES, DIM, REFERENCES, QUERIES = 5, 3, 8, 4, 9


def example(rng, how="global", gallery=None, rows=120):
    if gallery is None:
        gallery = rng.normal(size=(rows, ATTRIBUTES, DIM)).astype(np.float32)
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM)).astype(np.float32)
    edits = (rng.integers(-1, 2, (QUERIES, VALUES)) * 0.7).astype(np.float32)
    reference = rng.integers(0, REFERENCES, QUERIES)
    products = gallery_products(gallery, memory, how)
    features = jnp.asarray(rng.normal(size=(REFERENCES, ATTRIBUTES, DIM)), jnp.float32)
    return products, made_references(products, features, how), make_changes(reference, edits)


def made_references(products, features, how="global"):
    rows = normalize_features(features, how).reshape(features.shape)
    return make_references(products, features, rows, how)


def unchanged(reference):
    return make_changes(reference, np.zeros((len(reference), VALUES), np.float32))


def search(arguments, k, how="global", spare=12):
    return nearest_edited(*arguments, k, spare=spare, normalize=how)


def oracle(arguments, k, how):
    """The edited vectors as they are, and every distance to them in float64."""
    products, references, changes = arguments
    vectors = edit(products, references, changes, how).vectors
    rows = np.asarray(products.rows, np.float64)
    found = []
    for vector in np.asarray(vectors, np.float64):
        squares = np.square(rows - vector).sum(axis=(1, 2))
        order = np.argsort(squares, kind="stable")[:k]
        found.append((order, np.sqrt(squares[order])))
    return (np.array(part) for part in zip(*found, strict=True))


@pytest.fixture
def pairs_measured(monkeypatch):
    """How many pairs are measured directly."""
    counts = []

    def counting(rows, vectors, query, candidate):
        counts.append(len(query))
        return measure(rows, vectors, query, candidate)

    monkeypatch.setattr("gradrev_jax.search.ranking.measure", counting)
    return counts


@pytest.mark.parametrize("k", [1, 10, 108, 120])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_far_rows_need_no_measuring(rng, pairs_measured, how, k):
    arguments = example(rng, how)
    indices, distances = oracle(arguments, k, how)
    found = search(arguments, k, how)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    assert found.certified.all()
    assert sum(pairs_measured) < 0.1 * QUERIES * k + 2


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_rows_that_rounding_hides_from_each_other_are_measured(rng, pairs_measured, how):
    """Fives of rows as near to each other as a few times the rounding, all of them mixed up."""
    gallery = rng.normal(size=(60, 1, ATTRIBUTES, DIM)) + 3e-6 * rng.normal(size=(60, 5, ATTRIBUTES, DIM))
    gallery = rng.permutation(gallery.reshape(-1, ATTRIBUTES, DIM)).astype(np.float32)
    arguments = example(rng, how, gallery)
    indices, distances = oracle(arguments, 23, how)
    found = search(arguments, 23, how)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    rows = np.asarray(arguments[0].rows, np.float64)
    same = np.square(rows[found.indices] - rows[indices]).sum(axis=(2, 3))
    assert (same < 1e-8).all()  # of five, whose distances differ in the last bits
    assert found.certified.all()
    assert 20 * QUERIES < sum(pairs_measured) < 36 * QUERIES


def test_what_is_as_near_as_rounding_is_measured(rng):
    """The distance of a row to itself is 0, not the root of what rounding leaves."""
    products, *_ = example(rng)
    rows = products.rows[:REFERENCES]
    references = make_references(products, 3 * rows, rows, "global")
    found = search((products, references, unchanged(np.arange(REFERENCES))), 3)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(REFERENCES))
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    assert (found.distances[:, 1] > 0.1).all()


@pytest.mark.parametrize("rows", [13, 14, 200])
def test_only_what_the_bound_cannot_tell_apart_is_not_certified(rng, rows):
    """All rows alike: whichever are the candidates, the others are as near, unless there are no others."""
    gallery = np.tile(rng.normal(size=(1, ATTRIBUTES, DIM)).astype(np.float32), (rows, 1, 1))
    found = search(example(rng, gallery=gallery), 1)
    assert found.certified.tolist() == [rows == 13] * QUERIES
    np.testing.assert_array_equal(found.indices, 0 if rows == 13 else found.indices)


def test_candidates_that_are_all_measured_certify_what_no_gap_does(rng):
    """Rows a quarter of the bound apart are one group; that the k-th is nearer than the last is certain."""
    direction = rng.normal(size=(ATTRIBUTES, DIM))
    gallery = (1 + 2e-7 * np.arange(4000)[:, None, None]) * direction
    products, _, changes = example(rng, "none", gallery.astype(np.float32))
    references = made_references(products, jnp.asarray(gallery[:REFERENCES], jnp.float32) * 0.98, "none")
    arguments = (products, references, unchanged(changes.reference))
    few, many = (search(arguments, 1, "none", spare) for spare in (3, 2000))
    assert not few.certified.any()
    assert many.certified.all()
    np.testing.assert_array_equal(many.indices, next(iter(oracle(arguments, 1, "none"))))


@pytest.mark.parametrize("pairs", [0, 1, PAIRS[0], PAIRS[0] + 1, PAIRS[1] + 3])
def test_measured_pairs(rng, pairs):
    rows, vectors = (rng.normal(size=(30, ATTRIBUTES, DIM)).astype(np.float32) for _ in range(2))
    query, row = rng.integers(0, 30, (2, pairs))
    expected = np.square(rows[row].astype(np.float64) - vectors[query]).sum(axis=(1, 2))
    np.testing.assert_allclose(
        measure(jnp.asarray(rows), jnp.asarray(vectors), query, row), expected, rtol=1e-6
    )


@pytest.mark.parametrize("count", [1, 5, 64, 97, 1000, 1023])
@pytest.mark.parametrize("m", [1, 3, 40])
def test_smallest_against_a_sort(rng, count, m):
    """Some scores are equal, and what fills no group of columns counts, too."""
    m = min(m, count)
    scores = rng.integers(0, 500, count).astype(np.float32)
    for last in (scores[-1], -1):
        scores[-1] = last
        least, rows = smallest(jnp.asarray(scores), m)
        np.testing.assert_array_equal(least, np.sort(scores)[:m])
        np.testing.assert_array_equal(scores[rows], least)
        assert len(set(rows.tolist())) == m


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA selects on a CPU")
def test_candidates_are_selected_and_not_sorted(rng):
    """A sort of the whole gallery takes XLA ten times as long as all the rest."""
    products, references, changes = example(rng, rows=1234)
    edited = edit(products, references, changes, "global")
    compiled = rank.lower(products, references.products, changes.reference, edited, 15).compile().as_text()
    assert "TopK" in compiled
    assert not [line for line in compiled.splitlines() if " sort(" in line]
