"""What the samples that torch wrote hold, in its formats of before and after 1.6, and torch's AlexNet."""

import jax.numpy as jnp
import numpy as np

EXPECTED = {
    "weight": np.array([[1, 2], [3, 4]], np.float32),
    "bias": np.array([5, 6], np.float32),
    "parameter": np.array([7, 8], np.float32),
    "window": np.array([[4, 8], [6, 10]], np.float32),
    "half": np.array([0.5], np.float16),
    "brain": np.array([1.5], jnp.bfloat16),
    "count": np.array(3, np.int64),
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


BACKBONE = {  # weights of torch's AlexNet, 32 times narrower
    "features.0": (2, 3, 11, 11),
    "features.3": (6, 2, 5, 5),
    "features.6": (12, 6, 3, 3),
    "features.8": (8, 12, 3, 3),
    "features.10": (8, 8, 3, 3),
    "classifier.1": (128, 288),
    "classifier.4": (128, 128),
}
