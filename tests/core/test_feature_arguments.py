import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_arguments import check_features, concrete_features

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
FEATURES, LABELS = np.zeros((4, 2, 3), np.float32), np.zeros((4, 2), np.int32)


def test_shapes_that_agree_pass_traced_or_not():
    check_features(FEATURES, LABELS, SCHEMA)
    jax.jit(lambda f, y: check_features(f, y, SCHEMA))(FEATURES, LABELS)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (FEATURES[:, :1], LABELS),
        (FEATURES[:3], LABELS),
        (FEATURES[0], LABELS),
        (FEATURES[:, :1], LABELS[:, :1]),
    ],
)
def test_shapes_that_disagree_are_in_the_message(features, labels, unchecked):
    with pytest.raises(ValueError, match=r"features must be \[M, N, d\].*with N = 2; got \(.*\) and \(.*\)"):
        check_features(features, labels, SCHEMA)


def test_concrete_features_are_numpy_arrays_of_at_least_float32():
    for dtype, expected in ((jnp.bfloat16, np.float32), (np.float32, np.float32), (np.float64, np.float64)):
        features, labels = concrete_features(FEATURES.astype(dtype), LABELS, SCHEMA)
        assert type(features) is type(labels) is np.ndarray
        assert features.dtype == expected
    assert concrete_features(jnp.asarray(FEATURES), jnp.asarray(LABELS), SCHEMA)[0].shape == (4, 2, 3)


def test_labels_out_of_range_and_numbers_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="label 2 of row 1 is outside"):
        concrete_features(FEATURES, LABELS + np.array([[0], [2], [0], [0]], np.int32), SCHEMA)
    for number in (np.nan, np.inf):
        features = FEATURES.copy()
        features[2, 1, 0] = number
        with pytest.raises(ValueError, match="image 2 has a number that is not, for attribute 'size'"):
            concrete_features(features, LABELS, SCHEMA)
