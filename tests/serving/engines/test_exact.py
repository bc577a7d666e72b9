import numpy as np
import pytest

from gradrev_jax.serving.engines.engine import Candidates
from gradrev_jax.serving.engines.exact import direct_squares, exact_search

SLACK = 0.3


class NoisyEngine:
    """Ranks a gallery by distances that are wrong by as much as the slack allows."""

    exact, rest_from = True, 10**6

    def __init__(self, gallery, rng, most_candidates=10**6):
        self.gallery, self.num_rows, self.most_candidates = gallery, len(gallery), most_candidates
        # Two rows swap at most if their squares differ by twice the noise.
        self.noise = rng.uniform(-SLACK / 2, SLACK / 2, len(gallery))
        self.counts = []

    def nearest(self, query, count, *, where, exclude):
        self.counts.append(count)
        squares = np.square(self.gallery - query).sum(axis=1) + self.noise
        rows = np.setdiff1d(np.argsort(squares), exclude, assume_unique=True)[:count]
        return Candidates(rows, self.gallery[rows])

    def slack(self, query, rest):
        return SLACK

    def vectors(self, rows):
        return self.gallery[rows]

    def close(self):
        pass


def slow_search(gallery, query, k, exclude=()):
    distances = [
        (float(np.sqrt(np.square(row.astype(np.float64) - query).sum())), number)
        for number, row in enumerate(gallery)
        if number not in exclude
    ]
    return sorted(distances)[:k]


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("exclude", [(), (0, 7)])
def test_the_nearest_are_found_although_the_engine_ranks_them_wrongly(rng, k, exclude):
    for _ in range(20):
        gallery = rng.integers(0, 3, (120, 4)).astype(np.float32) / 2
        query = rng.normal(size=4).astype(np.float32)
        engine = NoisyEngine(gallery, rng)
        found = exact_search(engine, query, k, exclude=exclude, margin=2)
        expected = slow_search(gallery, query, k, exclude)
        assert found.exact
        assert found.rows.tolist() == [row for _, row in expected]
        np.testing.assert_allclose(found.distances, [distance for distance, _ in expected])


def test_a_search_that_is_certain_asks_once(rng):
    engine = NoisyEngine(np.arange(100, dtype=np.float32)[:, None], rng)
    assert exact_search(engine, np.zeros(1, np.float32), 3, margin=2).rows.tolist() == [0, 1, 2]
    assert engine.counts == [5]


def test_more_rows_are_fetched_until_the_kth_is_certain(rng):
    engine = NoisyEngine(np.full((300, 1), 0.1, np.float32), rng)
    found = exact_search(engine, np.zeros(1, np.float32), 3, margin=2)
    assert engine.counts == [5, 40, 320]
    assert (found.rows.tolist(), found.exact) == ([0, 1, 2], True)


def test_what_the_engine_cannot_fetch_is_not_certain(rng):
    engine = NoisyEngine(np.full((300, 1), 0.1, np.float32), rng, most_candidates=100)
    found = exact_search(engine, np.zeros(1, np.float32), 3)
    assert (len(found.rows), found.exact, engine.counts) == (3, False, [35, 100])


def test_an_approximate_engine_is_asked_once_and_said_to_be_so(rng):
    engine = NoisyEngine(np.full((300, 1), 0.1, np.float32), rng)
    engine.exact = False
    assert not exact_search(engine, np.zeros(1, np.float32), 3).exact
    assert engine.counts == [35]


def test_fewer_rows_than_k_are_all_there_are(rng):
    engine = NoisyEngine(np.ones((5, 2), np.float32), rng)
    found = exact_search(engine, np.zeros(2, np.float32), 5, exclude=[1, 2])
    assert (found.rows.tolist(), found.exact) == ([0, 3, 4], True)


@pytest.mark.parametrize("k", [0, -1, 101])
def test_a_k_that_the_engine_cannot_return_is_refused(rng, k):
    engine = NoisyEngine(np.ones((300, 1), np.float32), rng, most_candidates=100)
    with pytest.raises(ValueError, match="k must"):
        exact_search(engine, np.zeros(1, np.float32), k)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_query_or_a_factor_that_is_not_finite_is_refused(rng, bad):
    engine = NoisyEngine(np.ones((3, 1), np.float32), rng)
    engine.rest_from = 0
    for query, rest in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(ValueError, match="finite"):
            exact_search(engine, np.array([query]), 1, rest=rest)


def test_a_factor_of_the_rest_is_that_of_the_distances(rng):
    gallery = rng.normal(size=(200, 6)).astype(np.float32)
    for part in (gallery[:, :4], gallery[:, 4:]):
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    query = rng.normal(size=6)
    for rest in (0.0, 0.3, 5.0):
        engine = ProductEngine(gallery, rng, rest_from=4)
        found = exact_search(engine, query, 5, rest=rest, margin=3)
        expected = slow_search(gallery * [1, 1, 1, 1, rest, rest], query, 5)
        assert (found.rows.tolist(), found.exact) == ([row for _, row in expected], True)
        np.testing.assert_allclose(found.distances, [distance for distance, _ in expected], rtol=1e-6)


class ProductEngine(NoisyEngine):
    """Ranks a gallery whose vectors have parts of one length by products."""

    def __init__(self, gallery, rng, rest_from):
        super().__init__(gallery, rng)
        self.rest_from = rest_from

    def nearest(self, query, count, *, where, exclude):
        rows = np.argsort(-self.gallery @ query)[:count]
        return Candidates(rows, self.gallery[rows])

    def slack(self, query, rest):
        return 1e-5


def test_direct_squares_are_those_of_the_whole_however_they_are_divided(rng, monkeypatch):
    monkeypatch.setattr("gradrev_jax.serving.engines.exact.PAIRS_AT_ONCE", 10)
    vectors, query = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=4)
    factors = [1, 1, 1, 0.5]
    expected = [
        sum((c * float(a) - b) ** 2 for c, a, b in zip(factors, row, query, strict=True)) for row in vectors
    ]
    np.testing.assert_allclose(direct_squares(query, vectors, 3, 0.5), expected, rtol=1e-12)
    assert direct_squares(query, vectors[:0], 3, 0.5).shape == (0,)
