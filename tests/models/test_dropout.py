import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.dropout import Dropout
from gradrev_jax.models.shards import BatchShard

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 50)), jnp.float32)
RNGS = {"dropout": jax.random.key(1)}


class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, shard=None):
        return Dropout(0.3)(x, shard)


class Flax(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.3, deterministic=False)(x)


def test_on_one_device_it_is_that_of_flax():
    np.testing.assert_allclose(Ours().apply({}, X, rngs=RNGS), Flax().apply({}, X, rngs=RNGS), rtol=1e-6)


@pytest.mark.parametrize("rows", [[0, 1], [4, 5], [3, 0, 5]])
def test_an_image_keeps_its_mask_wherever_it_is(rows):
    expected = Ours().apply({}, X, rngs=RNGS)[np.array(rows)]
    shard = BatchShard(jnp.array(rows), size=6)
    np.testing.assert_array_equal(Ours().apply({}, X[np.array(rows)], shard, rngs=RNGS), expected)


def test_a_rate_of_0_needs_no_random_numbers():
    assert Dropout(0.0).apply({}, X) is X
