import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.memory_losses import consistency_loss, off_block_loss, only_blocks

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


def test_consistency_against_loops(rng):
    features, memory = rng.normal(size=(6, 2, 4)), rng.normal(size=(5, 2, 4))
    labels = np.array([[0, 1], [2, -1], [-1, -1], [1, 0], [2, 1], [0, 0]])
    differences = []
    for feature, row in zip(features, labels, strict=True):
        composed = np.zeros((2, 4))
        for n, value in enumerate(row):
            if value >= 0:
                composed += memory[SCHEMA.offsets[n] + value]
        differences.append(np.abs(composed - feature))
    arrays = (jnp.asarray(a, jnp.float32) for a in (features, memory))
    feature, stored = arrays
    loss = consistency_loss(feature, labels, stored, SCHEMA)
    np.testing.assert_allclose(loss, np.mean(differences), rtol=1e-5)


def test_what_is_not_labelled_is_drawn_to_zero():
    features = jnp.full((1, 2, 3), 0.5)
    gradient = jax.grad(consistency_loss)(features, np.array([[-1, -1]]), jnp.ones((5, 2, 3)), SCHEMA)
    np.testing.assert_allclose(gradient, 1 / 6)


def test_off_block_entries_are_counted_and_masked(rng):
    memory = rng.normal(size=(5, 2, 3)).astype(np.float32)
    outside = [np.abs(memory[v, 1 - n]).sum() for v, n in enumerate([0, 0, 0, 1, 1])]
    np.testing.assert_allclose(off_block_loss(memory, SCHEMA), np.sum(outside), rtol=1e-6)
    masked = np.asarray(only_blocks(memory, SCHEMA))
    assert off_block_loss(masked, SCHEMA) == 0
    for v, n in enumerate([0, 0, 0, 1, 1]):
        np.testing.assert_array_equal(masked[v, n], memory[v, n])


def test_what_does_not_fit(unchecked):
    features, labels, memory = jnp.zeros((2, 2, 3)), np.zeros((2, 2), int), jnp.zeros((5, 2, 3))
    for bad in (memory[:4], memory[:, :1], memory[0]):
        for loss in (off_block_loss, only_blocks, lambda m, s: consistency_loss(features, labels, m, s)):
            with pytest.raises(ValueError, match=r"memory must be \[J, N, d\] with J, N = \(5, 2\); got"):
                loss(bad, SCHEMA)
    with pytest.raises(ValueError, match=r"disagree; got \(1, 2, 3\), \(2, 2\) and \(5, 2, 3\)"):
        consistency_loss(features[:1], labels, memory, SCHEMA)
    with pytest.raises(ValueError, match="label -2 of row 0 is outside"):
        consistency_loss(features, labels - 2, memory, SCHEMA)


def test_what_is_infinite_within_its_block_says_nothing_of_the_others():
    memory = np.zeros((5, 2, 3), np.float32)
    memory[0, 0] = np.inf
    assert off_block_loss(memory, SCHEMA) == 0
    assert np.isfinite(only_blocks(memory[:, ::-1], SCHEMA)).all()


def test_a_sum_beyond_half_precision_is_finite():
    memory = jnp.full((SCHEMA.num_values, SCHEMA.num_attributes, 2), 3e4, jnp.float16)
    assert off_block_loss(memory, SCHEMA) == off_block_loss(memory.astype(jnp.float32), SCHEMA)
