"""How far two results of a case, or of a search, are from each other, and how far they may be."""

import numpy as np

from gradrev_jax import ManipulationIndex
from gradrev_jax.core import metrics
from gradrev_jax.search.gallery import make_index, retrieve
from tests.parity.cases import KS, LEARNING_RATE, STEPS, Case, Result, Retrieval
from tests.parity.ours import make_schema, retrieval_inputs

TOLERANCES = {"features": 1e-5, "terms": 1e-5, "gradients": 1e-4, "parameters": 1e-3, "moved": 1e-2}
# Which negative is the nearest beyond a positive changes in leaps: as training moves the distances past each
# other, parameters that differ by rounding take one leap a step sooner or later, and part a little.
MOVED_TOLERANCE_WHERE_MINED = 1e-1
# Not at full width: there Adam's first step, which is the gradient's sign, parts parameters whose gradient is
# rounding, and a ReLU whose input comes to be zero up to rounding parts the two sides within a few steps.
AT_FULL_WIDTH = {"parameters": np.inf, "moved": np.inf}
METRICS_TOLERANCE = 1e-12
# Of squared distances between unit vectors, which both sides sum in float32, each in its own order.
ROUNDING = 4e-6


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of two tensors, relative to the largest magnitude expected.

    Not element by element: an element that is a sum of large terms and comes to nearly 0 carries their
    rounding. For a scalar it is the relative difference.
    """
    found, expected = (np.asarray(array, np.float64) for array in (found, expected))
    assert found.shape == expected.shape
    largest, magnitude = np.abs(found - expected).max(), np.abs(expected).max()
    return float(largest / magnitude if magnitude else np.where(largest, np.inf, 0))


def differences(found: Result, expected: Result) -> dict[str, dict[str, float]]:
    """Relative differences of all tensors, by the keys of ``TOLERANCES`` and by name.

    ``moved`` is the parameters' difference relative to the farthest that Adam can have moved them, its rate
    at every step: they move so little that relative to themselves they hardly differ whatever was learned.
    """
    compared = {"features": {"features": relative_difference(found.features, expected.features)}}
    for part in ("terms", "gradients", "parameters"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        if part != "terms":  # ours has a few more
            assert set(ours) == set(theirs)
        compared[part] = {name: relative_difference(ours[name], theirs[name]) for name in theirs}
    compared["moved"] = {
        name: float(np.abs(found.parameters[name] - after).max()) / (STEPS * LEARNING_RATE)
        for name, after in expected.parameters.items()
    }
    return compared


def assert_parity(case: Case, found: Result, expected: Result) -> None:
    """All within the tolerances, and no tensor without a gradient that would hide a difference."""
    assert_healthy(case, expected)
    tolerances = TOLERANCES | ({"moved": MOVED_TOLERANCE_WHERE_MINED} if case.mines else {})
    tolerances |= AT_FULL_WIDTH if case.full_width else {}
    too_far = {
        f"{part} {name}": difference
        for part, of_part in differences(found, expected).items()
        for name, difference in of_part.items()
        if not difference <= tolerances[part]
    }
    assert not too_far, too_far


def assert_healthy(case: Case, result: Result) -> None:
    """Every parameter that the loss reads has a gradient, in a tenth of its elements at least."""
    for name, gradient in result.gradients.items():
        least = gradient.size / 10 if case.reads(name) else 0
        assert np.count_nonzero(gradient) >= least, f"{name} has hardly a gradient"
        assert case.reads(name) or not gradient.any(), f"{name} has a gradient"


def squared_distances(queries: Retrieval) -> np.ndarray:
    """Between the manipulated references and the gallery, normalised, in float64: [Q, G]."""
    gallery = queries.gallery.astype(np.float64)
    edited = gallery[queries.references] + queries.indicators @ queries.weight.T.astype(np.float64)
    gallery, edited = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (gallery, edited))
    return np.stack([np.square(gallery - row).sum(axis=1) for row in edited])


def assert_neighbors(found: np.ndarray, distances: np.ndarray) -> int:
    """Each query's neighbours are the nearest, in order, up to rounding.

    Where the distances of the ranks before and after are farther than rounding, the neighbour must be the
    one; elsewhere it must be as near as the one of its rank.

    Args:
      found: [Q, K], rows of the gallery.
      distances: float64 [Q, G], squared.

    Returns:
      How many neighbours rounding may decide.
    """
    undecided = 0
    for rows, of_row in zip(np.asarray(found).tolist(), distances, strict=True):
        assert len(set(rows)) == len(rows)
        order = np.argsort(of_row, kind="stable")
        gaps = np.diff(np.concatenate([[-np.inf], of_row[order], [np.inf]]))
        for rank, row in enumerate(rows):
            if min(gaps[rank], gaps[rank + 1]) > ROUNDING:
                assert row == order[rank]
            else:
                assert abs(of_row[row] - of_row[order[rank]]) <= ROUNDING
                undecided += 1
    return undecided


def assert_retrieval(queries: Retrieval, neighbors: np.ndarray, sizes: tuple[int, ...]) -> None:
    """Neighbours [Q, K] of the reference, and those that gradrev_jax finds by both its ways."""
    distances = squared_distances(queries)
    near_ties = assert_neighbors(neighbors, distances)
    assert 0 < near_ties < neighbors.size / 2

    schema, k = make_schema(sizes), neighbors.shape[1]
    gallery, memory = retrieval_inputs(queries, schema)
    found = retrieve(make_index(gallery, memory), queries.references, queries.indicators, k, progress=False)
    assert_neighbors(found, distances)
    index = ManipulationIndex.build(gallery, memory, schema)
    searched = index.search(reference_ids=queries.references, indicators=queries.indicators, k=k)
    np.testing.assert_array_equal(searched.indices, found)


def assert_metrics(queries: Retrieval, neighbors: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    """Each metric at all cut-offs, by both ways that gradrev_jax has to them."""
    asked = (queries.labels[neighbors], queries.targets)
    scores = metrics.retrieval_scores(*asked, queries.changed, KS)
    assert set(scores) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name].mean(axis=0), values, rtol=0, atol=METRICS_TOLERANCE)
    one_by_one = {
        "hit_rate": metrics.hit_rate,
        "precision": metrics.precision,
        "ndcg": lambda *asked: metrics.ndcg(*asked[:2], queries.changed, asked[2]),
        "ndcg_target": lambda *asked: metrics.ndcg(*asked[:2], queries.changed, asked[2], part="target"),
        "ndcg_others": lambda *asked: metrics.ndcg(*asked[:2], queries.changed, asked[2], part="others"),
    }
    for name, metric in one_by_one.items():
        values = [metric(*asked, k) for k in KS]
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=METRICS_TOLERANCE)
