import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.manipulation import class_prototypes, mean_prototypes, memory_from_sums, prototype_sums

SCHEMA = AttributeSchema(("color", "size"), (("blue", "red", "green"), ("s", "m")))


def test_blocks_of_their_own_are_taken_without_a_copy():
    blocks = np.zeros((3, 4, 2))
    taken = FeatureBlocks((0, 1), 4).by_attribute(blocks)
    assert np.shares_memory(taken, blocks)
    assert taken.shape == (3, 2, 2)


@pytest.mark.parametrize("of_attribute", [(0, 0), (1, 0), (2, 1)])
def test_every_attribute_has_the_block_that_it_is_read_from(rng, of_attribute):
    blocks, made = rng.normal(size=(3, 3, 2)), FeatureBlocks(of_attribute, 3)
    assert not made.are_own
    for array in (blocks, jnp.asarray(blocks, jnp.float32)):
        for n, block in enumerate(of_attribute):
            np.testing.assert_array_equal(made.by_attribute(array)[:, n], array[:, block])
    assert made.of_value(SCHEMA).tolist() == [of_attribute[0]] * 3 + [of_attribute[1]] * 2


@pytest.mark.parametrize(("of_attribute", "count"), [((0, 1), 1), ((-1, 0), 2), ((), 1)])
def test_a_block_that_is_not_there_is_refused(of_attribute, count):
    with pytest.raises(ValueError, match="of_attribute must lie in"):
        FeatureBlocks(of_attribute, count)


@pytest.mark.parametrize(
    "made", [FeatureBlocks.own(SCHEMA), FeatureBlocks.shared(SCHEMA), FeatureBlocks((2, 0), 3)]
)
def test_prototypes_stand_in_the_blocks_of_their_values(rng, made):
    """Beside a loop over values; a value without images has zeros, also where blocks are shared."""
    features = rng.normal(size=(30, made.count, 4)).astype(np.float32)
    labels = np.stack([rng.integers(-1, 2, 30), rng.integers(-1, 2, 30)], axis=1)  # never green
    sums = prototype_sums(made.by_attribute(features), labels, SCHEMA)
    memory = np.asarray(memory_from_sums(sums, SCHEMA, made))
    expected = np.zeros((5, made.count, 4))
    for v, n in enumerate(SCHEMA.attribute_of):
        chosen = features[labels[:, n] == v - SCHEMA.offsets[n], made.of_attribute[n]]
        expected[v, made.of_attribute[n]] = chosen.mean(axis=0) if len(chosen) else 0
    np.testing.assert_allclose(memory, expected, rtol=1e-5, atol=1e-6)
    means = [expected[SCHEMA.attribute_of == n, made.of_attribute[n]].mean(axis=0) for n in range(2)]
    np.testing.assert_allclose(mean_prototypes(memory, SCHEMA, made), means, rtol=1e-5, atol=1e-6)
    if made.are_own:
        np.testing.assert_array_equal(memory, class_prototypes(features, labels, SCHEMA))
