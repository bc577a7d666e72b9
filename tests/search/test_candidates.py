import jax
import numpy as np
import pytest

from gradrev_jax.search.candidates import smallest, smallest_on_host


def select_on_host(scores, m):
    least, rows = smallest_on_host(scores[None], m)
    return least[0], rows[0]


COUNTS = [(1, 1), (5, 3), (15, 1), (64, 1), (97, 3), (97, 40), (97, 97), (1000, 3), (1023, 40)]


@pytest.mark.parametrize("select", [jax.jit(smallest, static_argnums=1), select_on_host])
@pytest.mark.parametrize(("count", "m"), COUNTS)
def test_smallest_against_a_sort(rng, select, count, m):
    """Some scores are equal, and the rest that fills no group counts, too."""
    scores = rng.integers(0, 500, count).astype(np.float32)
    for last in (scores[-1], -1):
        scores[-1] = last
        least, rows = select(scores, m)
        np.testing.assert_array_equal(least, np.sort(scores)[:m])
        np.testing.assert_array_equal(scores[rows], least)
        assert len(set(rows.tolist())) == m


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_scores_come_in_the_order_of_their_rows_on_the_host(rng, dtype):
    scores = rng.integers(-3, 3, (7, 300)).astype(dtype)
    scores[0] = -np.arange(300)
    least, rows = smallest_on_host(scores, 40)
    order = np.argsort(scores, axis=1, kind="stable")[:, :40]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(least, np.take_along_axis(scores, order, axis=1))
    assert (least.dtype, rows.dtype) == (dtype, np.int32)


def test_smallest_of_several_queries_at_once(rng):
    """Queries keep different numbers of scores below their limits; of one, all scores are equal."""
    scores = rng.integers(0, 500, (5, 301)).astype(np.float32)
    scores[2], scores[3, :60] = 7, -1
    least, rows = smallest_on_host(scores, 23)
    np.testing.assert_array_equal(least, np.sort(scores)[:, :23])
    np.testing.assert_array_equal(np.take_along_axis(scores, rows, axis=1), least)
    assert all(len(set(chosen)) == 23 for chosen in rows.tolist())
