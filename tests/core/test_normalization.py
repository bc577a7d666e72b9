import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.normalization import (
    NORMALIZATIONS,
    normalize_features,
    normalize_scaled,
    scale_weights,
    weigh_features,
)

FEATURES = np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32)


def test_normalizations(unchecked):
    flat = FEATURES.reshape(50, -1)
    np.testing.assert_array_equal(normalize_features(FEATURES, "none"), flat)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(normalize_features(FEATURES), unit, atol=1e-6)
    by_attribute = np.asarray(normalize_features(FEATURES, "attribute")).reshape(50, 3, 4)
    np.testing.assert_allclose(np.linalg.norm(by_attribute, axis=2), 3**-0.5, atol=1e-6)
    assert (normalize_features(np.zeros((1, 3, 4), np.float32)) == 0).all()
    with pytest.raises(ValueError, match="how must be one of global, attribute, none, got 'l2'"):
        normalize_features(FEATURES, "l2")


@pytest.mark.parametrize("how", ["global", "attribute"])
def test_features_of_any_size_are_normalised(how):
    normalize = jax.jit(normalize_features, static_argnums=1)
    expected = normalize(FEATURES, how)
    for size in (1e-37, 1e-25, 1e-19, 1e19, 1e25, 1e37):
        found = normalize((FEATURES * np.float32(size)).astype(np.float32), how)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.1 if size < 1e-36 else 1e-6)


def test_features_that_are_no_rows_of_attributes(unchecked):
    with pytest.raises(ValueError, match=r"features must be \[\.\.\., N, d\], got \(4,\)"):
        normalize_features(np.zeros(4, np.float32))


def test_whole_numbers_are_normalised_as_float32(unchecked):
    np.testing.assert_allclose(normalize_features(np.array([[3], [4]])), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("weights", [[2, 1, 0.5], [0, 3, 1], [0, 0, 2]])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_weights_multiply_blocks_before_a_joint_and_after_a_separate_normalisation(how, weights):
    scaled = np.array(weights) / np.sqrt(np.mean(np.square(weights)))
    for features, found in zip(FEATURES, normalize_features(FEATURES, how, weights), strict=True):
        blocks = features.astype(np.float64)
        if how == "attribute":
            blocks /= np.linalg.norm(blocks, axis=1, keepdims=True) * 3**0.5
        blocks *= scaled[:, None]
        if how == "global":
            blocks /= np.linalg.norm(blocks)
        np.testing.assert_allclose(found, blocks.reshape(-1), rtol=1e-5, atol=1e-7)
        if how != "none":
            assert abs(np.linalg.norm(found) - 1) < 1e-6


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_a_common_factor_of_the_weights_changes_nothing(how):
    expected = normalize_features(FEATURES, how)
    np.testing.assert_array_equal(normalize_features(FEATURES, how, [0.7] * 3), expected)
    weights = np.array([1, 2, 3])
    weighted = normalize_features(FEATURES, how, weights)
    np.testing.assert_allclose(normalize_features(FEATURES, how, 1e200 * weights), weighted, rtol=1e-6)
    np.testing.assert_allclose(normalize_features(FEATURES, how, 1e-200 * weights), weighted, rtol=1e-6)


def test_what_an_attribute_of_weight_0_holds_is_not_looked_at():
    features = FEATURES.copy()
    features[:, 1] = np.nan
    for how in NORMALIZATIONS:
        expected = normalize_features(FEATURES, how, [2, 0, 1])
        np.testing.assert_array_equal(normalize_features(features, how, [2, 0, 1]), expected)


def test_scaled_weights_have_a_mean_square_of_1():
    scaled = scale_weights([1, 2, 2], 3)
    np.testing.assert_allclose(scaled, np.array([1, 2, 2]) / 3**0.5, rtol=1e-12)
    assert scale_weights([1, 1e-19, 1e-17], 3).tolist()[1] == 0
    assert scale_weights([1, 1e-19, 1e-17], 3).tolist()[2] > 0
    assert scale_weights(None, 3) is None
    assert scale_weights(np.array([5, 5]), 2) is None


def test_scaled_weights_may_be_traced():
    weights = scale_weights([1, 2, 0], 3)
    for how in NORMALIZATIONS:
        found = jax.jit(normalize_scaled, static_argnums=1)(FEATURES, how, weights.astype(np.float32))
        np.testing.assert_allclose(found, normalize_features(FEATURES, how, [1, 2, 0]), rtol=1e-6)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_weighing_before_or_after_a_manipulation_is_the_same(how):
    weights, features = scale_weights([1, 4, 0.1], 3), jnp.asarray(FEATURES)
    edited = weigh_features(features[0] + features[1], how, weights)
    apart = weigh_features(features[0], how, weights) + weigh_features(features[1], how, weights)
    np.testing.assert_allclose(edited, apart, rtol=1e-5, atol=1e-6)
