import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation import leakage as leakage_module
from gradrev_jax.evaluation.leakage import measure_leakage, permute_within
from gradrev_jax.evaluation.leakage_scores import mean_of_others
from gradrev_jax.evaluation.neighbor_probe import predict_by_neighbors
from gradrev_jax.evaluation.probe_data import Folds, ProbeInputs, conditional_inputs, plain_inputs

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
OTHERS = ~np.eye(2, dtype=bool)
ROWS, WIDTH = 400, 6  # of all small cases, so that they compile once


def words(sizes):
    values = tuple(tuple(map(str, range(size))) for size in sizes)
    return AttributeSchema(tuple(f"a{n}" for n in range(len(sizes))), values)


def small(rng, rows=ROWS):
    labels = rng.integers(0, (3, 2), (rows, 2)).astype(np.int32)
    return rng.normal(size=(rows, 2, WIDTH)).astype(np.float32), labels


def copies(rng, labels, sizes, chance):
    """One-hot blocks of each label, copied with a chance; where it is not, a block is of "none"."""
    blocks = []
    for row in chance:
        parts = []
        for n, size in enumerate(sizes):
            kept = rng.random(len(labels)) < row[n]
            parts.append(np.eye(size + 1)[np.where(kept, labels[:, n], size)])
        blocks.append(np.concatenate(parts, axis=1))
    return np.stack(blocks, axis=1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0, 0.01])
def test_a_graded_leak_is_measured_as_large_as_it_was_made(rng, noise):
    """Where a label is copied with chance p, p of what is open is known, in accuracy and in nats."""
    sizes, rows = (4, 3, 2), 10_000
    common = rng.random((rows, 3)) < 0.4  # of near ties, the most frequent elsewhere is the rarest here
    labels = np.where(common, 0, rng.integers(0, sizes, (rows, 3))).astype(np.int32)
    chance = np.array([[1, 0.5, 0.1], [0.2, 1, 0.8], [0, 0, 1]])
    features = copies(rng, labels, sizes, chance)
    features += noise * rng.normal(size=features.shape).astype(np.float32)
    leakage = measure_leakage(features, labels, words(sizes))
    others = ~np.eye(3, dtype=bool)
    for probe in (leakage.linear, leakage.mlp):
        np.testing.assert_allclose(probe.conditional[others], chance[others], atol=0.02)
        np.testing.assert_allclose(probe.leakage, chance, atol=0.02)
    np.testing.assert_allclose(leakage.control[others], 0, atol=0.01)


@pytest.mark.slow
def test_a_leak_through_correlated_labels_alone_is_no_conditional_leak(rng):
    """The second label is the first with chance 0.8; features hold their own label and noise."""
    own = rng.integers(0, 3, 3000)
    other = np.where(rng.random(3000) < 0.8, own, rng.integers(0, 3, 3000))
    labels = np.stack([own, other], axis=1).astype(np.int32)
    noise = rng.normal(size=(3000, 2, 20))
    noise[..., :3] = np.eye(3)[labels] + 0.05 * noise[..., :3]
    leakage = measure_leakage(noise.astype(np.float32), labels, words((3, 3)))
    right = 0.8 + 0.2 / 3
    for probe in (leakage.linear, leakage.mlp):
        np.testing.assert_allclose(probe.leakage[OTHERS], (right - 1 / 3) / (2 / 3), atol=0.03)
        np.testing.assert_allclose(probe.conditional[OTHERS], 0, atol=0.01)
    np.testing.assert_allclose(leakage.control[OTHERS], 0, atol=0.01)


@pytest.mark.slow
def test_a_leak_is_found_in_a_direction_that_hardly_varies(rng):
    """A hundredth as large as 200 others, so that it is among those that only labels direct to."""
    labels = rng.integers(0, 2, (2400, 2)).astype(np.int32)
    features = rng.normal(size=(2400, 2, 200))
    leak = 2 * labels[:, ::-1] - 1 + 0.1 * rng.normal(size=(2400, 2))
    mixed = features @ rng.normal(size=(200, 200))
    spread = rng.normal(size=200)
    mixed -= (mixed @ spread)[..., None] * spread / (spread @ spread)
    mixed += 0.1 * leak[..., None] * spread
    extra = mixed[1600:].astype(np.float32), labels[1600:]
    arguments = mixed[:1600].astype(np.float32), labels[:1600], words((2, 2))
    leakage = measure_leakage(*arguments, extra=extra, kinds=())
    assert leakage.linear.conditional[OTHERS].min() > 0.9
    assert measure_leakage(*arguments, kinds=()).linear.conditional[OTHERS].min() > 0.9


@pytest.mark.long
def test_a_leak_that_is_not_linear_is_found_by_the_mlp_and_by_neighbours(rng):
    """A label is whether two numbers have the same sign."""
    features, labels = small(rng, rows=1200)
    labels[:, 1] = (features[:, 0, 0] > 0) == (features[:, 0, 1] > 0)
    features[:, 0, 2:] = 0
    leakage = measure_leakage(features, labels, SCHEMA)
    assert abs(leakage.linear.conditional[0, 1]) < 0.05
    assert leakage.mlp.conditional[0, 1] > 0.6
    assert min(leakage.mlp.leakage[0, 1], leakage.knn.leakage[0, 1]) > 0.75


@pytest.mark.long
@pytest.mark.parametrize("missing", [0, 0.3])
def test_the_linear_probe_is_the_logistic_regression_of_its_strength(rng, missing):
    features, labels = small(rng)
    features[:, 0, :2] += np.eye(2)[labels[:, 1]]
    labels[rng.random(labels.shape) < missing] = -1
    scored = 300
    folds = Folds.random(scored, ROWS - scored, 5, 0)
    inputs = conditional_inputs(features, labels, np.stack([labels] * 2), SCHEMA, folds, scored)
    found = leakage_module._score_linear(inputs, folds, SCHEMA)
    j, n, some = 0, 1, slice(3, 5)
    x = inputs.x[j].astype(float)
    for fold in range(2):
        strength = found.strength[j, fold, n]
        assert np.isfinite(strength)
        base = inputs.base[j][inputs.own[j], 3 + fold][:, some].astype(float)
        here = (folds.fold == fold) & (np.arange(ROWS) < scored)
        fit, scored_here = ~here & (labels[:, n] >= 0), here & (labels[:, n] >= 0)

        def losses(weights, rows, base=base):
            logits = base[rows] + x[rows] @ weights.reshape(-1, 2)
            return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(rows.sum()), labels[rows, n]]

        def objective(weights, fit=fit, strength=strength, losses=losses):
            squares = (weights.reshape(-1, 2) ** 2).sum(axis=1) @ inputs.penalty[j]
            return losses(weights, fit).mean() + 0.5 * strength * squares

        solution = minimize(objective, np.zeros(2 * x.shape[1]), tol=1e-10)
        expected = losses(solution.x, scored_here)
        np.testing.assert_allclose(found.loss[j, scored_here, n], expected, atol=2e-3)


@pytest.mark.long
def test_padded_inputs_change_nothing_and_features_that_read_the_same_are_probed_once(rng, monkeypatch):
    features, labels = small(rng)
    features[:, 1] = features[:, 0]
    folds = Folds.random(300, ROWS - 300, 5, 0)
    inputs = plain_inputs(features, labels, SCHEMA, folds, 300)
    counted, run = [], leakage_module._run_linear
    monkeypatch.setattr(leakage_module, "_run_linear", lambda *each: counted.append(each) or run(*each))
    found = leakage_module._score_linear(inputs, folds, SCHEMA)
    assert len(counted) == 1
    assert counted[0][0].x.shape == (ROWS, leakage_module.WIDTH_STEP)
    assert len(counted[0][0].base) == max(SCHEMA.sizes) + 1
    for feature in range(2):
        alone = run(ProbeInputs(*(leaf[feature] for leaf in inputs)), folds, SCHEMA)
        for name, values in alone._asdict().items():
            np.testing.assert_allclose(getattr(found, name)[feature], values, atol=1e-5, err_msg=name)
    other = inputs._replace(labels=np.stack([labels, 1 - labels % 2]))
    leakage_module._score_linear(other, folds, SCHEMA)
    assert len(counted) == 3


@pytest.mark.parametrize("missing", [0, 0.5, 0.99])
def test_neighbours_vote_as_in_a_plain_loop(rng, missing):
    features, labels = small(rng, rows=200)
    labels[rng.random(labels.shape) < missing] = -1
    fold = rng.integers(0, 4, 150)
    found = predict_by_neighbors(features[:, 0], labels, fold, SCHEMA, neighbors=7)
    for row, n in np.ndindex(150, 2):
        others = [i for i in range(200) if (i >= 150 or fold[i] != fold[row]) and labels[i, n] >= 0]
        others.sort(key=lambda i, row=row: np.linalg.norm(features[i, 0] - features[row, 0]))
        votes = labels[others[:7], n].tolist()
        most = max(map(votes.count, votes), default=0)
        tied = [value for value in set(votes) if votes.count(value) == most]
        assert found[row, n] in (tied or [-1])
        if tied:
            ranks = [sum(rank for rank, vote in enumerate(votes) if vote == value) for value in tied]
            assert ranks[tied.index(found[row, n])] == min(ranks)


@pytest.mark.long
def test_missing_labels_change_nothing_but_what_is_counted(rng):
    features, labels = small(rng)
    features[:, 0, :2] = np.eye(2)[labels[:, 1]]
    labels[rng.random(labels.shape) < 0.4] = -1
    leakage = measure_leakage(features, labels, SCHEMA)
    for probe in (leakage.linear, leakage.mlp, leakage.knn):
        assert probe.accuracy[0, 1] > 0.95
        assert abs(probe.leakage[1, 0]) < 0.3
    assert leakage.linear.conditional[0, 1] > 0.9


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named(rng):
    features, labels = small(rng)
    for change, message in (
        ({"folds": 2}, "folds must be at least 3"),
        ({"folds": 5.0}, "folds must be a whole number"),
        ({"kinds": "knn"}, "kinds must be a collection of names, got the string 'knn'"),
        ({"extra": (features.astype(float) * 1e60, labels)}, "extra must be finite in float32"),
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
        np.testing.assert_array_equal(permuted[j] < 0, labels < 0)
        before, after = (
            np.unique(np.stack([labels[:, j], each], 1), axis=0, return_counts=True)
            for each in (labels[:, 1 - j], permuted[j][:, 1 - j])
        )
        np.testing.assert_array_equal(before[1], after[1])
        np.testing.assert_array_equal(permuted[j][:, j], labels[:, j])
        assert (permuted[j] != labels).any()


@pytest.mark.long
def test_what_is_not_measured_is_none_in_json(rng):
    features, labels = small(rng)
    labels[:, 1] = 0
    labels[15:, 0] = -1
    leakage = measure_leakage(features, labels, SCHEMA)
    content = json.loads(json.dumps(leakage.as_json(SCHEMA), allow_nan=False))
    assert content["attributes"] == ["color", "size"]
    assert content["majority"] == [None, 1.0], "15 labels are too few; one value is always right"
    assert content["matrix"] == content["conditional_matrix"] == [[None, None], [None, None]]
    assert (content["mean"], content["conditional_mean"], content["own_accuracy"]) == (None, None, 1.0)
    assert content["knn"]["accuracy"] == [[None, 1.0], [None, 1.0]]
    assert np.isnan(mean_of_others(leakage.mlp.leakage))


@pytest.mark.long
def test_one_attribute_leaks_into_no_other(rng):
    features, labels = small(rng, rows=60)
    leakage = measure_leakage(features[:, :1], labels[:, :1], words((3,)), kinds=())
    content = leakage.as_json(words((3,)))
    assert (content["mean"], content["conditional_mean"]) == (None, None)
    assert (content["mlp"], content["knn"], content["control"]) == (None, None, None)


@pytest.mark.long
def test_as_few_images_as_folds_are_too_few_to_measure(rng):
    features, labels = small(rng, rows=5)
    assert np.isnan(measure_leakage(features, labels, SCHEMA, kinds=()).linear.accuracy).all()


def test_arrays_of_jax_are_measured_as_those_of_numpy(rng):
    features, labels = small(rng)
    one, other = (
        measure_leakage(*arrays, SCHEMA, kinds=("control",), extra=arrays)
        for arrays in ((features, labels), (jnp.asarray(features), jnp.asarray(labels)))
    )
    np.testing.assert_array_equal(one.linear.leakage, other.linear.leakage)
