import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax import nearest_neighbors
from gradrev_jax.search.neighbors import SPARE_CANDIDATES, _search, drop_excluded, drop_excluded_rows


def oracle(queries, gallery, k):
    """Every distance in float64, query by query, and a stable sort."""
    indices, distances = [], []
    for query in np.asarray(queries, np.float64):
        distance = np.sqrt(((np.asarray(gallery, np.float64) - query) ** 2).sum(axis=1))
        order = np.argsort(distance, kind="stable")[:k]
        indices.append(order)
        distances.append(distance[order])
    return np.array(indices), np.array(distances)


def check(queries, gallery, k):
    found = nearest_neighbors(queries, gallery, k)
    indices, distances = oracle(queries, gallery, k)
    assert found.indices.dtype == jnp.int32
    np.testing.assert_array_equal(found.indices, indices)
    least = min(1e-30, distances[distances > 0].min(initial=1) / 1e6)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=least)
    return found


def small_integers(rng, *shape, largest=3):
    """Squared distances of such rows are exact in float32, so the oracle's ties are ties here."""
    return rng.integers(0, largest + 1, shape).astype(np.float32)


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "width", "k"), [(1, 1, 1), (5, 3, 5), (40, 8, 1), (300, 7, 20), (300, 7, 300)]
)
def test_equals_the_oracle_on_random_rows(rng, rows, width, k):
    check(
        rng.normal(size=(9, width)).astype(np.float32), rng.normal(size=(rows, width)).astype(np.float32), k
    )


@pytest.mark.parametrize("k", [1, 60, 250])
def test_ties_go_to_the_lower_index(rng, k):
    check(small_integers(rng, 20, 2), small_integers(rng, 250, 2), k)


def test_more_ties_than_candidates(rng):
    """All of many equal rows are as near: which ones the product ranks first must not matter."""
    queries = small_integers(rng, 6, 5)
    check(queries, np.tile(small_integers(rng, 2, 5), (2 * SPARE_CANDIDATES, 1)), 10)
    check(np.ones_like(queries), np.ones((4 * SPARE_CANDIDATES, 5), np.float32), 10)


@pytest.mark.long
@pytest.mark.parametrize(("width", "copies"), [(1, 41), (7, 2), (7, 41), (64, 3), (1001, 2), (1001, 41)])
def test_equal_rows_tie_whatever_their_values(rng, width, copies):
    """Equal rows must get equal sums, to the last bit, wherever in the gallery they stand."""
    gallery = np.tile(rng.normal(size=(13, width)).astype(np.float32), (copies, 1))
    check(rng.normal(size=(5, width)).astype(np.float32), gallery, 20)


def test_one_query_among_many_falls_back(rng):
    crowd = np.tile(np.full((1, 3), 50, np.float32), (3 * SPARE_CANDIDATES, 1))
    gallery = np.concatenate([small_integers(rng, 30, 3), crowd, small_integers(rng, 30, 3)])
    queries = np.concatenate([small_integers(rng, 4, 3), crowd[:1], small_integers(rng, 4, 3)])
    check(queries, gallery, 7)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_near_duplicates_far_from_the_origin(rng, offset):
    """|q|² + |g|² - 2 q·g has no correct digit left here; the rows themselves are exact."""
    gallery = (offset + small_integers(rng, 400, 6, largest=50)).astype(np.float32)
    found = check(gallery[:20], gallery, 60)
    np.testing.assert_array_equal(found.distances[:, 0], 0)


def test_distance_to_itself_is_zero_in_high_dimensions(rng):
    gallery = rng.normal(size=(200, 4080)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    found = nearest_neighbors(gallery, gallery, 2)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(200))
    np.testing.assert_array_equal(found.distances[:, 0], 0)


def test_every_order_is_that_of_direct_sums(rng):
    """Rows that differ in the last bits are told apart as a direct sum tells them apart."""
    base = rng.normal(size=64).astype(np.float32)
    gallery = base + rng.normal(size=(500, 64)).astype(np.float32) * 1e-4
    check(base[None], gallery, 400)


@pytest.mark.long
def test_several_tiles_give_what_one_gives(rng, monkeypatch):
    queries, gallery = rng.normal(size=(37, 16)), rng.normal(size=(150, 16))
    whole = nearest_neighbors(queries, gallery, 5)
    jax.clear_caches()
    monkeypatch.setattr("gradrev_jax.search.neighbors.TILE_BYTES", 8 * 4 * 600)
    tiled = nearest_neighbors(queries, gallery, 5)
    jax.clear_caches()
    np.testing.assert_array_equal(tiled.indices, whole.indices)
    np.testing.assert_allclose(tiled.distances, whole.distances, rtol=1e-6)


def test_no_queries():
    found = nearest_neighbors(np.zeros((0, 3), np.float32), np.zeros((4, 3), np.float32), 2)
    assert found.indices.shape == found.distances.shape == (0, 2)


def test_jits(rng):
    queries, gallery = rng.normal(size=(5, 4)), rng.normal(size=(90, 4))
    found = jax.jit(nearest_neighbors, static_argnums=2)(queries, gallery, 3)
    np.testing.assert_array_equal(found.indices, oracle(queries, gallery, 3)[0])


def test_a_nan_row_comes_last_and_hides_no_other(rng):
    gallery = small_integers(rng, 80, 3)
    gallery[10] = np.nan
    rest = np.delete(np.arange(80), 10)
    found = nearest_neighbors(gallery[:3], gallery, 80)
    assert found.indices[:, -1].tolist() == [10] * 3
    np.testing.assert_array_equal(found.indices[:, :-1], rest[oracle(gallery[:3], gallery[rest], 79)[0]])
    few = nearest_neighbors(gallery[:3], gallery, 5)
    np.testing.assert_array_equal(few.indices, rest[oracle(gallery[:3], gallery[rest], 5)[0]])


def test_bfloat16_rows_are_compared_in_float32(rng):
    gallery = jnp.asarray(small_integers(rng, 60, 4), jnp.bfloat16)
    found = nearest_neighbors(gallery[:2], gallery, 4)
    assert found.distances.dtype == jnp.float32
    check(np.asarray(gallery[:2], np.float32), np.asarray(gallery, np.float32), 4)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_beyond_the_gallery_is_an_error_with_both_numbers(k):
    with pytest.raises(ValueError, match=f"gallery's 4 rows, got {k}"):
        nearest_neighbors(np.zeros((1, 3), np.float32), np.zeros((4, 3), np.float32), k)


def test_rows_of_another_width_are_an_error(unchecked):
    with pytest.raises(ValueError, match="queries are 3 wide but the gallery is 2 wide"):
        nearest_neighbors(np.zeros((1, 3), np.float32), np.zeros((4, 2), np.float32), 1)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA selects on a CPU")
def test_candidates_are_selected_and_not_sorted(rng):
    queries, gallery = jnp.zeros((4, 3)), jnp.zeros((1234, 3))
    assert "TopK" in _search.lower(queries, gallery, 5).compile().as_text()


@pytest.mark.parametrize("rows", [9, 3 * SPARE_CANDIDATES])
@pytest.mark.parametrize("size", [2.0**power for power in (-120, -83, -64, -50, 57, 64, 83, 122)])
def test_distances_of_any_size(rng, rows, size):
    """Their squares vanish, lose digits, or overflow in float32."""
    gallery = (small_integers(rng, rows, 6, largest=9) * size).astype(np.float32)
    check(np.concatenate([gallery[:3], gallery[:3] + np.float32(4 * size)]), gallery, 4)


@pytest.mark.parametrize("rows", [12, 5 * SPARE_CANDIDATES])
def test_rows_of_every_size_in_one_gallery(rng, rows):
    sizes = 10.0 ** np.linspace(-36, 37, rows)
    gallery = np.outer(rng.permutation(sizes), [1, -1, 2, 0]).astype(np.float32)
    check(np.zeros((1, 4), np.float32), gallery, rows)
    check(np.zeros((1, 4), np.float32), gallery, 3)


def test_a_huge_query_spoils_no_other(rng):
    gallery = small_integers(rng, 90, 3)
    queries = np.concatenate([gallery[:4], np.full((1, 3), 1e30, np.float32)])
    check(queries, gallery, 5)


def test_what_is_no_row(unchecked):
    for queries, gallery in (((3,), (4, 3)), ((1, 3), (3,)), ((1, 1, 3), (4, 3))):
        with pytest.raises(ValueError, match=r"queries must be \[Q, D\] and gallery \[G, D\]; got .* and"):
            nearest_neighbors(np.zeros(queries, np.float32), np.zeros(gallery, np.float32), 1)


@pytest.mark.parametrize("k", [2, np.int64(2), np.array(2)])
def test_k_of_every_library(unchecked, k):
    gallery = np.arange(4, dtype=np.float32)[:, None]
    assert nearest_neighbors(gallery[:1], gallery, k).indices.tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"k must be a whole number, got 2\.0 of type float"):
        nearest_neighbors(gallery[:1], gallery, float(k))


def test_integer_rows_are_compared_in_float32(unchecked):
    gallery = np.array([[3], [100], [0]], np.int8)
    found = nearest_neighbors(np.array([[-100]], np.int8), gallery, 3)
    assert found.indices.tolist() == [[2, 0, 1]]
    assert found.distances.tolist() == [[100, 103, 200]]


def test_rows_that_are_not_finite_come_last():
    gallery = np.array([[np.inf], [2], [np.nan], [-np.inf], [3]], np.float32)
    found = nearest_neighbors(np.zeros((1, 1), np.float32), gallery, 5)
    assert found.indices.tolist() == [[1, 4, 0, 3, 2]]


def test_the_excluded_row_goes_or_else_the_last():
    indices, distances = drop_excluded(
        np.array([[4, 2, 9], [4, 2, 9], [4, 2, 9]]), np.array([[0.0, 1, 2]] * 3), np.array([2, 7, 9])
    )
    assert indices.tolist() == [[4, 9], [4, 2], [4, 2]]
    assert distances.tolist() == [[0, 2], [0, 1], [0, 1]]
    assert drop_excluded(np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros(0, int))[0].shape == (0, 2)
    rows = np.array([[4, 2, 9], [4, 2, 9]])
    assert drop_excluded_rows(rows, np.array([2, 7])).tolist() == [[4, 9], [4, 2]]


def test_differences_that_are_subnormal_are_told_apart(rng):
    """Found by use: small rows were scaled after the subtraction, when their differences had become zero."""
    rows = rng.uniform(1, 2, (200, 6)).astype(np.float32) * np.float32(2e-38)  # normal numbers
    large = nearest_neighbors(rows[:5] * np.float32(2) ** 100, rows * np.float32(2) ** 100, 9)
    small = nearest_neighbors(rows[:5], rows, 9)
    np.testing.assert_array_equal(small.indices, large.indices)
    expected = np.ldexp(np.asarray(large.distances, np.float64), -100)
    np.testing.assert_allclose(small.distances, expected, rtol=1e-5, atol=np.finfo(np.float32).tiny)
