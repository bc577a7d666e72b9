import json

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.leakage import measure_leakage, permute_within
from gradrev_jax.evaluation.leakage_scores import mean_of_others

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


def words(sizes):
    return AttributeSchema(
        tuple(f"a{n}" for n in range(len(sizes))), tuple(tuple(map(str, range(size))) for size in sizes)
    )


def copies(rng, labels, sizes, chance):
    """One-hot blocks: of the own label, and of every other label where a copy is made, else of none."""
    blocks = []
    for j in range(len(sizes)):
        parts = []
        for n, size in enumerate(sizes):
            kept = rng.random(len(labels)) < (1 if n == j else chance[j][n])
            parts.append(np.eye(size + 1)[np.where(kept, labels[:, n], size)])
        blocks.append(np.concatenate(parts, axis=1))
    return np.stack(blocks, axis=1).astype(np.float32)


def few(rng, rows=60):
    labels = rng.integers(0, (3, 2), (rows, 2)).astype(np.int32)
    return rng.normal(size=(rows, 2, 5)).astype(np.float32), labels


def test_a_graded_leak_is_measured_as_large_as_it_was_made(rng):
    """Where a uniform label is copied with chance p, accuracy is p + (1 - p) / J and p of H is gone."""
    sizes, rows = (2, 2, 2), 3000
    labels = rng.integers(0, sizes, (rows, 3)).astype(np.int32)
    chance = np.array([[1, 0.5, 0], [0.2, 1, 0.8], [0, 0, 1]])
    features = copies(rng, labels, sizes, chance)
    leakage = measure_leakage(features, labels, words(sizes), kinds=("control",))
    others = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(leakage.linear.conditional[others], chance[others], atol=0.04)
    np.testing.assert_allclose(leakage.linear.leakage, chance, atol=0.06)
    np.testing.assert_allclose(leakage.control[others], 0, atol=0.01)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named(rng):
    features, labels = few(rng)
    for change, message in (
        ({"folds": 2}, "folds must be at least 3"),
        ({"kinds": ("knn", "svm")}, "kinds must be of .* got svm"),
        ({"extra": (features[:, :, :4], labels)}, "extra"),
        ({"extra": (features, labels + 2)}, "extra: label"),
    ):
        with pytest.raises(ValueError, match=message):
            measure_leakage(features, labels, SCHEMA, **change)
    with pytest.raises(ValueError, match="features .* do not fit"):
        measure_leakage(features[1:], labels, SCHEMA)
    features[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="features must be finite"):
        measure_leakage(features, labels, SCHEMA)
    with pytest.raises(DataError, match="leakage needs 5 images or more"):
        measure_leakage(features[4:7], labels[4:7], SCHEMA)


def test_a_permutation_keeps_the_joint_frequencies_with_the_own_label(rng):
    labels = rng.integers(-1, (3, 2), (200, 2)).astype(np.int32)
    permuted = permute_within(labels, 0)
    for j in range(2):
        np.testing.assert_array_equal(permuted[j][:, j], labels[:, j])
        np.testing.assert_array_equal(permuted[j] < 0, labels < 0)
        before, after = (
            np.unique(np.stack([labels[:, j], each], 1), axis=0, return_counts=True)
            for each in (labels[:, 1 - j], permuted[j][:, 1 - j])
        )
        np.testing.assert_array_equal(before[1], after[1])
        assert (permuted[j] != labels).any()


def test_what_is_not_measured_is_none_in_json(rng):
    features, labels = few(rng)
    labels[:, 1] = 0
    labels[:45, 0] = -1
    leakage = measure_leakage(features, labels, SCHEMA)
    content = json.loads(json.dumps(leakage.as_json(SCHEMA), allow_nan=False))
    assert content["attributes"] == ["color", "size"]
    assert content["majority"] == [None, 1.0], "15 labels are too few; one value is always right"
    assert content["matrix"] == content["conditional_matrix"] == [[None, None], [None, None]]
    assert (content["mean"], content["conditional_mean"], content["own_accuracy"]) == (None, None, 1.0)
    assert content["knn"]["accuracy"] == [[None, 1.0], [None, 1.0]]
    assert np.isnan(mean_of_others(leakage.mlp.leakage))
