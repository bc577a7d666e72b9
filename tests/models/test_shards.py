import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.models.shards import BatchShard, own_part, whole_batch

OUTPUTS = {"a": np.arange(8.0).reshape(4, 2), "b": np.arange(4)}


def test_without_a_shard_everything_is_the_batch():
    assert own_part(jnp.arange(3), None).tolist() == [0, 1, 2]
    assert whole_batch(OUTPUTS, None) is OUTPUTS


def test_padding_is_cut_off_and_has_no_gradient():
    shard = BatchShard(jnp.arange(4), size=3)
    outputs = whole_batch(jax.tree.map(jnp.asarray, OUTPUTS), shard)
    jax.tree.map(lambda leaf, expected: np.testing.assert_array_equal(leaf, expected[:3]), outputs, OUTPUTS)
    gradient = jax.grad(lambda x: jnp.square(whole_batch(x, shard)).sum())(jnp.ones(4))
    assert gradient.tolist() == [2, 2, 2, 0]


def test_a_shard_takes_its_own_of_the_batchs_random_numbers():
    draws = jnp.array([10, 11, 12, 13, 14])
    assert own_part(draws, BatchShard(jnp.array([2, 3]), size=5)).tolist() == [12, 13]
    assert own_part(draws, BatchShard(jnp.array([4, 5, 6]), size=5))[0] == 14


def test_outputs_of_an_axis_come_together():
    """vmap's axis has the same collectives as pmap's."""
    shards = jnp.arange(6.0).reshape(3, 2)

    def loss(part, index):
        shard = BatchShard(2 * index + jnp.arange(2), size=5, axis="devices")
        batch = whole_batch(part, shard)
        return jnp.square(batch).sum(), batch

    mapped = jax.vmap(jax.grad(loss, has_aux=True), axis_name="devices")
    gradient, batches = mapped(shards, jnp.arange(3))
    assert batches.tolist() == [[0, 1, 2, 3, 4]] * 3
    # Three times the gradient, of which the mean over devices is taken: see whole_batch.
    assert (gradient / 3).tolist() == [[0, 2], [4, 6], [8, 0]]
