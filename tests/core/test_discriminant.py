import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.discriminant import choose_shrinkage, fit_discriminants, project
from gradrev_jax.core.manipulation import class_prototypes, manipulate

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red", "tan"), ("s", "m"), ("x",)))


def example(rng, count=200, dim=6):
    """Features with class means, correlated scatter and missing labels."""
    labels = np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1)
    mixing = rng.normal(size=(3, dim, dim))
    features = np.einsum("mnd,nde->mne", rng.normal(size=(count, 3, dim)), mixing)
    features += 2 * np.einsum("mj,jnd->mnd", SCHEMA.one_hot(labels), rng.normal(size=(7, 3, dim))) + 5
    return features, labels


def slow_covariances(features, labels):
    """Returns the covariances within and between classes, by loops."""
    known = labels >= 0
    features, labels = features[known], labels[known]
    mean = sum(features) / len(features)
    within = between = np.zeros((features.shape[1],) * 2)
    for value in set(labels.tolist()):
        members = features[labels == value]
        center = sum(members) / len(members)
        between = between + len(members) * np.outer(center - mean, center - mean)
        for member in members:
            within = within + np.outer(member - center, member - center)
    return within / len(features), between / len(features)


def nearest_mean_accuracy(matrix, train, held_out):
    (x, y), (points, right) = train, held_out
    values = np.unique(y[y >= 0])
    means = [(x[y == value] @ matrix).mean(axis=0) for value in values]
    guesses = [values[np.argmin([((p - m) ** 2).sum() for m in means])] for p in points[right >= 0] @ matrix]
    return np.mean(guesses == right[right >= 0])


@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_discriminants_solve_the_generalized_eigenproblem(rng, shrinkage):
    features, labels = example(rng)
    matrices = fit_discriminants(features, labels, SCHEMA, shrinkage)
    assert matrices.shape == (3, 6, 3)
    for n, rank in enumerate((3, 1, 0)):
        matrix = matrices[n, :, :rank]
        assert (matrices[n, :, rank:] == 0).all()
        within, between = slow_covariances(features[:, n], labels[:, n])
        shrunk = within + shrinkage * np.trace(within) / 6 * np.eye(6)
        _, vectors = scipy.linalg.eigh(between, shrunk)
        expected = vectors[:, ::-1][:, :rank]
        np.testing.assert_allclose(matrix.T @ shrunk @ matrix, np.eye(rank), atol=1e-9)
        np.testing.assert_allclose(np.abs(matrix), np.abs(expected), atol=1e-7)
        assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(rank)] > 0).all()


def test_unlabelled_images_and_absent_classes_change_nothing_else(rng):
    features, labels = example(rng)
    labels[labels[:, 0] == 1, 0] = -1
    matrices = fit_discriminants(features, labels, SCHEMA)
    assert (np.abs(matrices).sum(axis=1) > 0).tolist() == [
        [True, True, False],
        [True, False, False],
        [False] * 3,
    ]
    known = labels[:, 0] >= 0
    alone = fit_discriminants(features[known], labels[known], SCHEMA)
    np.testing.assert_allclose(matrices[0], alone[0], atol=1e-12)
    labels[:, 1] = -1
    assert (fit_discriminants(features, labels, SCHEMA)[1] == 0).all()
    assert (fit_discriminants(features[:0], labels[:0], SCHEMA) == 0).all()


def test_no_more_discriminants_than_dimensions(rng):
    features, labels = example(rng, dim=2)
    matrices = fit_discriminants(features, labels, SCHEMA)
    assert (np.abs(matrices).sum(axis=1) > 0).sum(axis=1).tolist() == [2, 1, 0]


def test_constant_and_collapsed_features_give_finite_matrices(rng):
    labels = rng.integers(0, 2, (30, 3)) % SCHEMA.sizes
    constant = np.full((30, 3, 4), 0.1) * np.array([1.0, 3.0, 7.0, 1e6])
    assert (fit_discriminants(constant, labels, SCHEMA) == 0).all()
    centers = rng.normal(size=(7, 3, 4)) * SCHEMA.membership[:, :, None]
    collapsed = np.einsum("mj,jnd->mnd", SCHEMA.one_hot(labels), centers)
    matrices = fit_discriminants(collapsed, labels, SCHEMA)
    assert (matrices[:2, :, 0] != 0).any(axis=1).all()
    assert np.abs(matrices).max() < 1e5, "collapsed classes are as far apart as their scatter allows"


def test_an_offset_adds_no_discriminant(rng):
    features, labels = example(rng)
    matrices = fit_discriminants(features, labels, SCHEMA)
    far = fit_discriminants(features + 1e7, labels, SCHEMA)
    np.testing.assert_allclose(far, matrices, atol=1e-4)


@pytest.mark.long
def test_projecting_and_manipulating_commute(rng):
    features, labels = example(rng)
    matrices = fit_discriminants(features, labels, SCHEMA).astype(np.float32)
    features = features.astype(np.float32)
    memory = class_prototypes(features, labels, SCHEMA)
    small = project(memory, matrices)
    projected = jax.jit(project)(features, matrices)
    np.testing.assert_allclose(projected, np.einsum("mnd,ndk->mnk", features, matrices), atol=1e-4)
    np.testing.assert_allclose(class_prototypes(projected, labels, SCHEMA), small, atol=1e-4)
    swap = np.array([-1, 0, 1, 0, 0, 1, 0])
    expected = project(manipulate(features[0], swap, memory), matrices)
    np.testing.assert_allclose(manipulate(projected[0], swap, small), expected, atol=1e-4)
    assert project(features.astype(jnp.bfloat16), matrices).dtype == jnp.bfloat16


def test_directions_that_only_others_use_are_gone(rng):
    """Own values along the first axis; a loud nuisance along the second is projected out."""
    schema = AttributeSchema(("own",), (("a", "b"),))
    labels = rng.integers(0, 2, (2000, 1))
    features = rng.normal(size=(2000, 1, 5))
    features[:, 0, 0] += 3 * labels[:, 0]
    nuisance = rng.integers(0, 2, 2000)
    features[:, 0, 1] += 50 * nuisance
    projected = np.asarray(project(features, fit_discriminants(features, labels, schema, 0.001)))[:, 0, 0]
    assert abs(np.corrcoef(projected, nuisance)[0, 1]) < 0.06
    assert abs(np.corrcoef(projected, labels[:, 0])[0, 1]) > 0.8


def test_the_chosen_shrinkage_is_the_best_by_loops(rng):
    features, labels = example(rng, count=60, dim=20)
    held_out = example(np.random.default_rng(1), count=150, dim=20)
    held_out = features[rng.integers(0, 60, 150)] + 2 * held_out[0], held_out[1]
    candidates = (0.01, 10.0, 0.3, 100.0)
    chosen = choose_shrinkage(features, labels, held_out, SCHEMA, candidates)
    for n in (0, 1):
        scores = {}
        for value in candidates:
            matrix = fit_discriminants(features, labels, SCHEMA, value)[n]
            train = features[:, n], labels[:, n]
            scores[value] = nearest_mean_accuracy(matrix, train, (held_out[0][:, n], held_out[1][:, n]))
        assert chosen[n] == max(value for value in candidates if scores[value] == max(scores.values()))
    assert chosen[2] == 100
    assert fit_discriminants(features, labels, SCHEMA, chosen).shape == (3, 20, 3)


def test_features_that_vary_too_little_in_training_call_for_shrinkage(rng):
    """Dimensions that are almost constant in training, and noise elsewhere, mislead without shrinkage."""
    schema = AttributeSchema(("own",), (("a", "b"),))

    def part(count, scale):
        labels = rng.integers(0, 2, (count, 1))
        features = rng.normal(size=(count, 1, 30)) * np.where(np.arange(30) < 3, 1, scale)
        features[:, 0, 0] += 3 * labels[:, 0]
        return features, labels

    train, held_out = part(100, 0.01), part(1000, 1.0)
    assert choose_shrinkage(*train, held_out, schema)[0] >= 0.1


def test_bad_arguments_are_named(unchecked, rng):
    features, labels = example(rng, count=20)
    for shrinkage in (0.0, -1.0, np.nan, np.array([0.1, 0.1, np.inf])):
        with pytest.raises(ValueError, match="shrinkage must be finite and above 0"):
            fit_discriminants(features, labels, SCHEMA, shrinkage)
    with pytest.raises(ValueError, match=r"one number, or one for each of 3, got \(2,\)"):
        fit_discriminants(features, labels, SCHEMA, np.ones(2))
    with pytest.raises(ValueError, match=r"disagree; got \(20, 3, 6\) and \(3, 5, 2\)"):
        project(features, np.ones((3, 5, 2)))
    with pytest.raises(ValueError, match="features have 6 numbers, and held_out has 5"):
        choose_shrinkage(features, labels, (features[..., :5], labels), SCHEMA)
    with pytest.raises(ValueError, match="at least one candidate"):
        choose_shrinkage(features, labels, (features, labels), SCHEMA, ())
