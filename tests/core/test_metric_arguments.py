import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax import hit_rate, ndcg, precision
from gradrev_jax.core.metric_arguments import changed_mask, known_labels, validate_neighbors
from gradrev_jax.core.metrics import retrieval_scores

NEIGHBORS = np.array([[[0, 1], [0, 0]], [[1, 1], [1, 0]]])  # [Q, K, N]
TARGETS = np.array([[0, 0], [0, 1]])
MASK = np.array([[False, True], [True, True]])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int8])
def test_masks_of_every_dtype_agree(dtype):
    arrays = NEIGHBORS, TARGETS, MASK.astype(dtype)
    parts = ("all", "target", "others")
    traced = jax.jit(lambda *arrays: [ndcg(*arrays, 2, part) for part in parts])(*arrays)
    for part, value in zip(parts, traced, strict=True):
        expected = ndcg(NEIGHBORS, TARGETS, MASK, 2, part)
        np.testing.assert_allclose(ndcg(*arrays, 2, part), expected, rtol=1e-6)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    eager = ndcg(*map(jnp.asarray, arrays), 2, "others")
    np.testing.assert_allclose(eager, traced[2], rtol=1e-6)


def test_one_attribute_a_query_is_a_mask_of_one():
    one = np.array([1, 0])
    for part in ("target", "others"):
        assert ndcg(NEIGHBORS, TARGETS, one, 2, part) == ndcg(
            NEIGHBORS, TARGETS, np.eye(2, dtype=int)[one], 2, part
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (np.array([[0, 2], [1, 0]]), "must be a mask of 0 and 1, got 2"),
        (np.array([[0, -1], [1, 0]]), "must be a mask of 0 and 1, got -1"),
        (np.array([0, 2]), r"must be attributes in \[0, 1\], got 2"),
        (np.array([-1, 0]), r"must be attributes in \[0, 1\], got -1"),
        (np.array([True, False]), "an attribute for each query, must be of an integer dtype, got bool"),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), "changed must be of an integer dtype, got float64"),
        (np.array([0]), r"changed must be \(2,\) or \(2, 2\), got \(1,\)"),
        (np.zeros((2, 3), bool), r"changed must be \(2,\) or \(2, 2\), got \(2, 3\)"),
        (np.zeros((2, 2, 1), bool), r"changed must be \(2,\) or \(2, 2\), got \(2, 2, 1\)"),
        (np.array(0), r"changed must be \(2,\) or \(2, 2\), got \(\)"),
    ],
)
def test_what_is_no_change(unchecked, changed, message):
    with pytest.raises(ValueError, match=message):
        changed_mask(changed, 2, 2)
    for scores in (
        lambda: ndcg(NEIGHBORS, TARGETS, changed, 1),
        lambda: retrieval_scores(NEIGHBORS, TARGETS, changed, (1,)),
    ):
        with pytest.raises(ValueError, match=message):
            scores()


@pytest.mark.parametrize("metric", [hit_rate, precision, lambda *a: ndcg(a[0], a[1], MASK, a[2])])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: NEIGHBORS[0]}, r"neighbor_labels must be \[Q, K, N\], got \(2, 2\)"),
        ({0: NEIGHBORS.astype(float)}, "neighbor_labels must be of an integer dtype, got float64"),
        ({1: TARGETS.astype(float)}, "target_labels must be of an integer dtype, got float64"),
        ({0: NEIGHBORS - 3}, r"neighbor_labels must be at least -1 \(not labelled\), got -3 at \(0, 0, 0\)"),
        ({1: TARGETS * -2}, r"target_labels must be at least -1 \(not labelled\), got -2 at \(1, 1\)"),
        ({2: 1.0}, "k must be a whole number, got 1.0"),
        ({2: -1}, r"k must lie in \[1, 2\]"),
    ],
)
def test_arguments_of_every_metric(unchecked, metric, change, message):
    arguments = [change.get(place, given) for place, given in enumerate((NEIGHBORS, TARGETS, 1))]
    with pytest.raises(ValueError, match=message):
        metric(*arguments)
    with pytest.raises(ValueError, match=message):
        validate_neighbors(*arguments)


def test_traced_labels_below_minus_one_are_not_labelled():
    assert jax.jit(lambda x: known_labels(x, "labels"))(np.array([-100, -1, 3])).tolist() == [-1, -1, 3]


def test_cut_offs(unchecked):
    scores = retrieval_scores(NEIGHBORS, TARGETS, MASK, np.array([1, 2]))
    assert scores["precision"].shape == (2, 2)
    for ks in ((), 3):
        with pytest.raises(ValueError, match="ks must be cut-offs, one at least, got"):
            retrieval_scores(NEIGHBORS, TARGETS, MASK, ks)
    with pytest.raises(ValueError, match=r"a cut-off of ks must be a whole number, got 1\.5"):
        retrieval_scores(NEIGHBORS, TARGETS, MASK, (1.5,))
