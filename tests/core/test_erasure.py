import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.erasure import Erasure, apply_erasure, fit_conditional_erasure, fit_erasure
from gradrev_jax.core.manipulation import class_prototypes

SCHEMA = AttributeSchema(("color", "size", "kind"), (("blue", "green", "red"), ("s", "m"), ("x", "y", "z")))


def example(rng, count=300, dim=12):
    """Features of correlated labels, of which some are missing; every feature shows all of them."""
    first = rng.integers(0, 3, count)
    flips = rng.integers(0, 3, (3, count))
    labels = np.stack([first, np.minimum(first, 1) ^ (flips[0] == 0), (first + flips[1] // 2) % 3], axis=1)
    effects = rng.normal(size=(8, 3, dim))
    features = np.einsum("mj,jnd->mnd", np.asarray(SCHEMA.one_hot(labels), np.float64), effects)
    features += (
        np.einsum("mnd,nde->mne", rng.normal(size=(count, 3, dim)), rng.normal(size=(3, dim, dim))) + 2
    )
    labels[rng.random((count, 3)) < 0.2] = -1
    return features, labels


def slow_covariance(x, own, other, size):
    """Returns the covariance with one-hot labels within strata of the images labelled for both, by loops."""
    total, count = np.zeros((x.shape[1], size)), 0
    for stratum in set(own[own >= 0].tolist()):
        rows = [i for i in range(len(x)) if own[i] == stratum and other[i] >= 0]
        if rows:
            center, shares = x[rows].mean(axis=0), np.eye(size)[other[rows]].mean(axis=0)
            for i in rows:
                total += np.outer(x[i] - center, np.eye(size)[other[i]] - shares)
            count += len(rows)
    return total / count


def slow_covariances(x, labels, n, own):
    pairs = [(labels[:, m], SCHEMA.sizes[m]) for m in range(3) if m != n]
    return np.concatenate([slow_covariance(x, own, other, size) for other, size in pairs], axis=1)


def class_means(x, labels):
    return np.array([x[labels == value].mean(axis=0) for value in np.unique(labels[labels >= 0])])


def shrunk_within(x, own, shrinkage):
    x, own = x[own >= 0], own[own >= 0]
    residuals = np.array([f - x[own == y].mean(axis=0) for f, y in zip(x, own, strict=True)])
    covariance = residuals.T @ residuals
    return covariance + shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def constrained_optimum(covariance, given, wanted):
    """Returns the D of least trace(D covariance D') with D given = wanted, by its stationarity conditions."""
    dim, count = given.shape
    system = np.block([[2 * covariance, given], [given.T, np.zeros((count, count))]])
    right = np.concatenate([np.zeros((dim, dim)), wanted.T])
    return np.linalg.lstsq(system, right, rcond=1e-12)[0][:dim].T


def in_float64(features, erasure):
    return np.einsum("mne,nde->mnd", features, erasure.matrices) + erasure.offsets


def test_erasure_leaves_one_class_mean_of_the_other_attributes(rng):
    features, labels = example(rng)
    erased = in_float64(features, fit_erasure(features, labels, SCHEMA))
    everything = np.zeros(len(labels), np.int64)
    for n in range(3):
        assert np.abs(slow_covariances(features[:, n], labels, n, everything)).max() > 0.1
        np.testing.assert_allclose(slow_covariances(erased[:, n], labels, n, everything), 0, atol=1e-9)
        for m in {0, 1, 2} - {n}:
            means = class_means(erased[:, n], labels[:, m])
            np.testing.assert_allclose(means, np.tile(means[0], (len(means), 1)), atol=1e-9)
        np.testing.assert_allclose(erased[:, n].mean(axis=0), features[:, n].mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("shrinkage", [1e-9, 0.1])
def test_erasure_is_the_constrained_optimum(rng, shrinkage):
    features, labels = example(rng)
    erasure = fit_erasure(features, labels, SCHEMA, shrinkage)
    everything = np.zeros(len(labels), np.int64)
    for n in range(3):
        covariances = slow_covariances(features[:, n], labels, n, everything)
        within = shrunk_within(features[:, n], everything, shrinkage) / len(labels)
        expected = constrained_optimum(within, covariances, covariances)
        np.testing.assert_allclose(np.eye(12) - erasure.matrices[n], expected, atol=1e-7)


def test_erasure_moves_features_less_than_other_projections(rng):
    features, labels = example(rng)
    erasure = fit_erasure(features, labels, SCHEMA, 1e-9)
    moved = np.square(in_float64(features, erasure) - features).sum(axis=(0, 2))
    everything = np.zeros(len(labels), np.int64)
    for n in range(3):
        centered = features[:, n] - features[:, n].mean(axis=0)
        covariances = slow_covariances(features[:, n], labels, n, everything)
        basis = np.linalg.svd(covariances)[0][:, : np.linalg.matrix_rank(covariances, tol=1e-9)]
        complement = np.eye(12) - basis @ basis.T
        for scale in (0, 0.01, 1):  # an orthogonal projection, and oblique ones onto the same columns
            other = basis @ (basis + complement @ rng.normal(size=basis.shape) * scale).T
            np.testing.assert_allclose(other @ covariances, covariances, atol=1e-9)
            assert moved[n] < np.square(centered @ other.T).sum()


def test_conditional_erasure_leaves_the_own_means_and_no_covariance_within_them(rng):
    features, labels = example(rng)
    erased = in_float64(features, fit_conditional_erasure(features, labels, SCHEMA, rank=12))
    for n in range(3):
        own = labels[:, n]
        assert np.abs(slow_covariances(features[:, n], labels, n, own)).max() > 0.1
        np.testing.assert_allclose(slow_covariances(erased[:, n], labels, n, own), 0, atol=1e-9)
        np.testing.assert_allclose(
            class_means(erased[:, n], own), class_means(features[:, n], own), atol=1e-9
        )


def test_conditional_erasure_is_the_constrained_optimum(rng):
    features, labels = example(rng)
    erasure = fit_conditional_erasure(features, labels, SCHEMA, rank=12, shrinkage=0.01)
    for n in range(3):
        covariances = slow_covariances(features[:, n], labels, n, labels[:, n])
        means = class_means(features[:, n], labels[:, n])
        given = np.concatenate([covariances, (means - means[0]).T], axis=1)
        wanted = np.concatenate([covariances, 0 * means.T], axis=1)
        within = shrunk_within(features[:, n], labels[:, n], 0.01) / len(labels)
        expected = constrained_optimum(within, given, wanted)
        np.testing.assert_allclose(np.eye(12) - erasure.matrices[n], expected, atol=1e-7)


def planted(rng, count=4000, strength=1.0):
    """Noise, in which the color's features show the color, and the size along (3, 4, 0, ...) / 5."""
    labels = np.stack([rng.integers(0, size, count) for size in SCHEMA.sizes], axis=1)
    features = rng.normal(size=(count, 3, 8))
    features[:, 0, 7] += 3 * labels[:, 0]
    features[:, 0, :2] += strength * np.array([0.6, 0.8]) * labels[:, 1:2]
    return features, labels


def test_significant_directions_are_those_that_are_planted(rng):
    features, labels = planted(rng)
    erasure = fit_conditional_erasure(features, labels, SCHEMA)
    np.testing.assert_array_equal(erasure.matrices[1:], np.tile(np.eye(8), (2, 1, 1)))
    removed = np.eye(8) - erasure.matrices[0]
    assert np.trace(removed) == pytest.approx(1, abs=1e-9)
    direction = removed @ np.array([0.6, 0.8, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(direction[:2], [0.6, 0.8], atol=0.05)
    one = fit_conditional_erasure(features, labels, SCHEMA, rank=1)
    assert abs(np.linalg.svd(removed)[0][:, 0] @ np.linalg.svd(np.eye(8) - one.matrices[0])[0][:, 0]) > 0.99


def test_noise_is_hardly_ever_significant():
    found = 0
    for seed in range(20):
        features, labels = planted(np.random.default_rng(seed), count=300, strength=0)
        found += (fit_conditional_erasure(features, labels, SCHEMA).offsets != 0).any(axis=1).sum()
    assert found <= 1


def test_the_rank_counts_directions(rng):
    features, labels = example(rng)
    for rank in (0, 1, 2, 3):
        erasure = fit_conditional_erasure(features, labels, SCHEMA, rank=rank)
        traces = np.trace(np.eye(12) - erasure.matrices, axis1=1, axis2=2)
        np.testing.assert_allclose(traces, rank, atol=1e-9)


def test_what_lies_along_the_own_means_is_not_erased(rng):
    """Color and, within color, size move the features along the same axis."""
    labels = np.stack([rng.integers(0, size, 500) for size in SCHEMA.sizes], axis=1)
    features = rng.normal(size=(500, 3, 4)) * 0.1
    features[:, 0, 0] += 5 * (labels[:, 0] == 2) + labels[:, 1]
    erasure = fit_conditional_erasure(features, labels, SCHEMA)
    erased = in_float64(features, erasure)
    means = class_means(erased[:, 0], labels[:, 0])
    np.testing.assert_allclose(means, class_means(features[:, 0], labels[:, 0]), atol=1e-9)
    assert np.linalg.norm(erasure.matrices, 2, axis=(1, 2)).max() < 11


def test_nothing_to_erase_is_the_identity(rng):
    features, labels = example(rng)
    alone = AttributeSchema(("color",), SCHEMA.values[:1])
    constant, none = np.ones_like(features) * np.float32(0.1), np.full_like(labels, -1)
    for fit in (fit_erasure, fit_conditional_erasure):
        for x, y, schema in (
            (features[:, :1], labels[:, :1], alone),
            (constant, labels, SCHEMA),
            (features, none, SCHEMA),
            (features[:0], labels[:0], SCHEMA),
        ):
            erasure = fit(x, y, schema)
            np.testing.assert_array_equal(erasure.matrices, np.tile(np.eye(12), (x.shape[1], 1, 1)))
            assert (erasure.offsets == 0).all()


def test_a_deficient_rank_is_no_obstacle(rng):
    features, labels = example(rng)
    features[..., 8:] = features[..., :4]
    erased = in_float64(features, fit_erasure(features, labels, SCHEMA))
    everything = np.zeros(len(labels), np.int64)
    for n in range(3):
        np.testing.assert_allclose(slow_covariances(erased[:, n], labels, n, everything), 0, atol=1e-9)
    few = (
        fit_erasure(features[:6], labels[:6], SCHEMA),
        fit_conditional_erasure(features[:6], labels[:6], SCHEMA),
    )
    assert all(np.isfinite(array).all() for erasure in few for array in erasure)


def test_apply_maps_each_block_and_prototypes_alike(rng):
    features, labels = example(rng)
    features = features.astype(np.float32)
    erasure = fit_erasure(features, labels, SCHEMA)
    erased = jax.jit(apply_erasure)(features, erasure)
    np.testing.assert_allclose(erased, in_float64(features, erasure), atol=1e-4)
    np.testing.assert_allclose(apply_erasure(features[0], erasure), erased[0], atol=1e-4)
    of_erased = class_prototypes(erased, labels, SCHEMA)
    mapped = apply_erasure(class_prototypes(features, labels, SCHEMA), erasure)
    own = SCHEMA.membership[:, :, None]
    np.testing.assert_allclose(of_erased, mapped * own, atol=1e-4)
    assert apply_erasure(features.astype(jnp.bfloat16), erasure).dtype == jnp.bfloat16


def test_bad_arguments_are_named(unchecked, rng):
    features, labels = example(rng, count=20)
    for fit in (fit_erasure, fit_conditional_erasure):
        for shrinkage in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="shrinkage must be finite and above 0"):
                fit(features, labels, SCHEMA, shrinkage=shrinkage)
    with pytest.raises(ValueError, match="rank must not be below 0, got -1"):
        fit_conditional_erasure(features, labels, SCHEMA, rank=-1)
    with pytest.raises(ValueError, match="rank must be a whole number"):
        fit_conditional_erasure(features, labels, SCHEMA, rank=1.5)
    with pytest.raises(ValueError, match=r"disagree; got \(20, 3, 12\), \(3, 5, 5\) and \(3, 5\)"):
        apply_erasure(features, Erasure(np.zeros((3, 5, 5)), np.zeros((3, 5))))
