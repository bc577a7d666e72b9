"""Galleries for the tests of vector engines."""

import numpy as np

from gradrev_jax import AttributeSchema
from gradrev_jax.core.normalization import normalize_features
from gradrev_jax.serving.engines.engine import EngineGallery

SCHEMA = AttributeSchema(("color", "size", "fit"), (("blue", "red", "green"), ("s", "m"), ("a", "b")))


def make_gallery(num_rows=200, dim=8, normalize="global", seed=0):
    """Features [G, N, d] of few distinct values, so that there are ties, and the gallery of an engine."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-2, 3, (num_rows, SCHEMA.num_attributes, dim)).astype(np.float32)
    features[:, 0, 0] += 0.5  # none is zero
    features[num_rows // 2 :: 5] = features[0]  # equal rows
    labels = np.stack([rng.integers(-1, size, num_rows) for size in SCHEMA.sizes], axis=1)
    vectors = np.asarray(normalize_features(features, normalize))
    names = [f"{row}.jpg" for row in range(num_rows)]
    return features, EngineGallery(vectors, vectors.shape[1], names, labels, SCHEMA, "the gallery")
