"""Batch normalisation on one device and on four, in a process of its own: how far the results come apart."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gradrev_jax.models.batch_norm import BatchNorm
from gradrev_jax.models.shards import AXIS, BatchShard, own_part, whole_batch

RNG = np.random.default_rng(0)
NORM = BatchNorm(dtype=jnp.float64)
VARIABLES = {
    "params": {"scale": RNG.normal(size=3), "bias": RNG.normal(size=3)},
    "batch_stats": {"mean": RNG.normal(size=3), "var": RNG.uniform(1, 2, size=3)},
}
PROJECTION, WEIGHTS = RNG.normal(size=(3, 3)), RNG.normal(size=(8, 2, 2, 3))
DEVICES = 4


def computed(x, shard):
    """The outputs of a batch, the new statistics, and the gradients of parameters before and in the layer."""

    def loss(params):
        given = {"params": params["norm"], "batch_stats": VARIABLES["batch_stats"]}
        y, changed = NORM.apply(given, x @ params["projection"], True, shard, mutable=["batch_stats"])
        y = whole_batch(y, shard)
        return (jnp.sin(y) * WEIGHTS[: len(y)]).sum(), (y, changed)

    params = jax.tree.map(jnp.asarray, {"projection": PROJECTION, "norm": VARIABLES["params"]})
    gradients, (outputs, statistics) = jax.grad(loss, has_aux=True)(params)
    if shard is not None and shard.axis:
        gradients = jax.lax.pmean(gradients, shard.axis)
    return {"outputs": outputs, "statistics": statistics, "gradients": gradients}


def on_devices(x, mode):
    """The same, by four devices."""
    share = -(-len(x) // DEVICES)
    padded = own_part(x, BatchShard(jnp.arange(share * DEVICES), len(x)))

    def on_device(part):
        rows = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
        return computed(part, BatchShard(rows, len(x), AXIS))

    if mode == "pmap":
        mapped = jax.pmap(on_device, axis_name=AXIS, out_axes=None)
        return mapped(padded.reshape(DEVICES, share, *x.shape[1:]))
    mesh, split = Mesh(np.asarray(jax.devices()), (AXIS,)), PartitionSpec(AXIS)
    shared = jax.shard_map(on_device, mesh=mesh, in_specs=split, out_specs=PartitionSpec(), check_vma=False)
    return jax.jit(shared)(padded)


def main():
    """Print a line of JSON for each number of images and mode."""
    for images in (7, 8, 4):
        x = jnp.asarray(RNG.normal(2, 3, size=(images, 2, 2, 3)))
        alone = jax.jit(lambda x: computed(x, None))(x)
        for mode in ("pmap", "shard_map"):
            found = on_devices(x, mode)
            apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), alone, found)
            biggest = jax.tree.map(lambda leaf: float(np.abs(leaf).max()), found)
            line = {"mode": mode, "images": images}
            for name, tree in (("apart", apart), ("size", biggest)):
                line[name] = {part: max(jax.tree.leaves(leaves)) for part, leaves in tree.items()}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
