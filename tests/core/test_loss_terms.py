import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.loss_terms import TermInputs, compactness

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
LABELS = np.array([[0, 1, 0], [2, -1, 0], [-1, 0, 0], [2, 1, 0], [1, 0, -1]], np.int32)
SCALE = 8.0


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def batch(features, weights, labels=LABELS, schema=SCHEMA):
    """Inputs of a term whose logits are scaled cosines."""
    logits = SCALE * jnp.einsum("bnd,vd->bnv", features, weights)
    return TermInputs(features, logits, jnp.asarray(labels), schema, 0.5, cosine_scale=SCALE)


def compactness_by_loops(features, weights, labels, schema):
    total = 0.0
    for n, offset in enumerate(schema.offsets):
        found = [
            np.square(feature[n] - weights[offset + row[n]]).sum()
            for feature, row in zip(features, labels, strict=True)
            if row[n] >= 0
        ]
        total += np.mean(found) if found else 0.0
    return total


@pytest.fixture
def geometry(rng):
    features = unit(rng.normal(size=(5, 3, 4)))
    weights = unit(rng.normal(size=(6, 4)))
    return features.astype(np.float32), weights.astype(np.float32)


def test_compactness_is_the_mean_squared_distance_to_the_own_classifier(geometry):
    expected = compactness_by_loops(*geometry, LABELS, SCHEMA)
    np.testing.assert_allclose(compactness(batch(*geometry)), expected, rtol=1e-5)


def test_the_gradient_of_compactness_is_that_of_the_distances(geometry):
    """On the logits, by which it is computed: -2 / scale over the number of labelled images."""
    inputs = batch(*geometry)
    gradient = jax.grad(lambda logits: compactness(inputs._replace(logits=logits)))(inputs.logits)
    expected = np.zeros(inputs.logits.shape)
    for b, row in enumerate(LABELS):
        for n, value in enumerate(row):
            if value >= 0:
                expected[b, n, SCHEMA.offsets[n] + value] = -2 / SCALE / (LABELS[:, n] >= 0).sum()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_compactness_of_what_is_not_labelled_is_0(geometry):
    assert compactness(batch(*geometry, labels=np.full_like(LABELS, -1))) == 0
    features, weights = geometry
    assert compactness(batch(features[:0], weights, labels=LABELS[:0])) == 0
    one = batch(features[:1], weights, labels=LABELS[:1])
    expected = compactness_by_loops(features[:1], weights, LABELS[:1], SCHEMA)
    np.testing.assert_allclose(compactness(one), expected, rtol=1e-5)


def test_compactness_needs_cosines(geometry):
    with pytest.raises(ValueError, match="compactness needs cosines: set unit_features"):
        compactness(batch(*geometry)._replace(cosine_scale=None))
