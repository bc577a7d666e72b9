import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.fitted_memory import fit_memory
from gradrev_jax.core.indicators import make_indicator
from gradrev_jax.core.manipulation import class_prototypes, manipulate

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


def example(rng, count=120, dim=4, missing=0.2):
    """Correlated labels, some of them missing, and features in which every block shows all of them."""
    color = rng.integers(0, 3, count)
    size = np.minimum(color, 1) ^ (rng.random(count) < 0.2)
    labels = np.stack([color, size, np.zeros(count, int)], axis=1)
    effects = rng.normal(size=(6, 3, dim))
    clean = 5 + np.einsum("mj,jnd->mnd", np.asarray(SCHEMA.one_hot(labels), np.float64), effects)
    shown = np.where(rng.random((count, 3)) < missing, -1, labels)
    return clean, clean + rng.normal(size=clean.shape), labels, shown


def slow_memory(features, labels, schema, ridge):
    """Solves the ridge problem as an ordinary one with an intercept and more rows, block by block."""
    rows, shares = [], np.zeros(schema.num_values)
    for n, (offset, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
        known = [y for y in labels[:, n] if y >= 0]
        shares[offset : offset + size] = [known.count(v) / max(len(known), 1) for v in range(size)]
    for row in labels:
        z = np.zeros(schema.num_values)
        for n, (offset, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
            if row[n] >= 0:
                z[offset : offset + size] = np.eye(size)[row[n]] - shares[offset : offset + size]
        rows.append([1.0, *z])
    penalty = np.concatenate([np.zeros((schema.num_values, 1)), np.eye(schema.num_values)], axis=1)
    system = np.concatenate([rows, ridge**0.5 * penalty])
    memory = np.zeros((schema.num_values, *features.shape[1:]))
    for b in range(schema.num_attributes):
        right = np.concatenate([features[:, b], np.zeros((schema.num_values, features.shape[2]))])
        memory[:, b] = np.linalg.lstsq(system, right, rcond=1e-10)[0][1:]
        for n, (offset, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
            part = slice(offset, offset + size)
            memory[part, b] -= shares[part] @ memory[part, b]
            if n == b:
                memory[part, b] += features[labels[:, n] >= 0, b].mean(axis=0)
    memory[shares == 0] = 0
    return memory


@pytest.mark.parametrize("ridge", [0.0, 1.0, 30.0])
def test_a_fitted_memory_against_loops(rng, ridge):
    _, features, _, labels = example(rng)
    expected = slow_memory(features, labels, SCHEMA, ridge)
    np.testing.assert_allclose(fit_memory(features, labels, SCHEMA, ridge), expected, atol=1e-8)
    single = fit_memory(features.astype(np.float32), labels, SCHEMA, ridge)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_with_one_attribute_it_is_the_memory_of_prototypes(rng):
    schema = AttributeSchema(SCHEMA.names[:1], SCHEMA.values[:1])
    _, features, _, labels = example(rng)
    prototypes = class_prototypes(features[:, :1], labels[:, :1], schema)
    np.testing.assert_allclose(fit_memory(features[:, :1], labels[:, :1], schema, 0.0), prototypes, atol=1e-5)
    little = fit_memory(features[:, :1], labels[:, :1], schema, 1e-6)
    np.testing.assert_allclose(little, prototypes, atol=1e-5)


def test_an_edit_moves_every_block_to_where_the_new_labels_are(rng):
    clean, _, labels, _ = example(rng, missing=0)
    memory = fit_memory(clean, labels, SCHEMA, ridge=0.0)
    blue = np.flatnonzero((labels == [0, 0, 0]).all(axis=1))[0]
    red = np.flatnonzero((labels == [2, 0, 0]).all(axis=1))[0]
    swap = make_indicator(SCHEMA, labels[blue], {"color": "red"})
    np.testing.assert_allclose(manipulate(clean[blue], swap, memory), clean[red], atol=1e-5)
    prototypes = class_prototypes(clean, labels, SCHEMA)
    assert np.abs(manipulate(clean[blue], swap, prototypes) - clean[red]).max() > 0.1


def test_a_strong_ridge_leaves_the_means_and_absent_values_are_zero(rng):
    _, features, _, labels = example(rng)
    memory = fit_memory(features, labels, SCHEMA, ridge=1e12)
    for n in range(3):
        mean = features[labels[:, n] >= 0, n].mean(axis=0)
        expected = SCHEMA.membership[:, n : n + 1] * mean
        np.testing.assert_allclose(memory[:, n], expected, atol=1e-6)
    labels[labels == 2] = -1
    labels[:, 1] = -1
    for ridge in (0.0, 1.0):
        memory = fit_memory(features, labels, SCHEMA, ridge)
        assert (memory != 0).any(axis=(1, 2)).tolist() == [True, True, False, False, False, True]
    assert (fit_memory(features[:0], labels[:0], SCHEMA) == 0).all()


def test_bad_ridges_are_named(rng):
    _, features, _, labels = example(rng)
    for ridge in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="ridge must be finite and not below 0"):
            fit_memory(features, labels, SCHEMA, ridge)
