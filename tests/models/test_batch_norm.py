import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.batch_norm import BatchNorm, batch_statistics
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import STATISTICS


@pytest.fixture
def variables(rng):
    """Parameters and running statistics of three channels, all different."""
    scale, bias, mean, var = jnp.asarray(rng.uniform(0.5, 2.0, (4, 3)), jnp.float32)
    return {"params": {"scale": scale, "bias": bias}, STATISTICS: {"mean": mean, "var": var}}


def normalized(x, mean, var, params, epsilon=1e-3):
    """Normalises number by number, in float64."""
    out = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        c = place[-1]
        deviation = (float(x[place]) - mean[c]) / (var[c] + epsilon) ** 0.5
        out[place] = deviation * float(params["scale"][c]) + float(params["bias"][c])
    return out


def moments(x):
    """The mean, the variance of N numbers, and that of N - 1, of each channel, one after the other."""
    columns = [[float(value) for value in channel] for channel in x.reshape(-1, x.shape[-1]).T]
    means = [sum(column) / len(column) for column in columns]
    squares = [sum((value - m) ** 2 for value in column) for column, m in zip(columns, means, strict=True)]
    count = len(columns[0])
    return np.array(means), np.array(squares) / count, np.array(squares) / max(count - 1, 1)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5, 3), (1, 1, 1, 3)])
def test_training_uses_the_batch_and_moves_the_running_statistics(shape, variables, rng):
    x = jnp.asarray(rng.normal(2, 3, size=shape), jnp.float32)
    mean, var, unbiased = moments(x)
    y, changed = BatchNorm(momentum=0.9).apply(variables, x, True, mutable=[STATISTICS])
    np.testing.assert_allclose(y, normalized(x, mean, var, variables["params"]), rtol=2e-5, atol=2e-5)
    running = variables[STATISTICS]
    for name, new in (("mean", mean), ("var", unbiased)):
        expected = 0.9 * np.asarray(running[name], np.float64) + 0.1 * new
        np.testing.assert_allclose(changed[STATISTICS][name], expected, rtol=1e-5)


def test_inference_and_frozen_training_use_the_running_statistics(variables, rng):
    x = jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32)
    running = variables[STATISTICS]
    expected = normalized(x, running["mean"], running["var"], variables["params"])
    inference, unchanged = BatchNorm().apply(variables, x, mutable=[STATISTICS])
    frozen, nothing = BatchNorm().apply(variables, x, True, mutable=[])
    for y in (inference, frozen, BatchNorm().apply(variables, x, True)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, unchanged[STATISTICS], running)
    assert nothing == {}


def test_initialising_leaves_the_statistics_at_the_normal_distribution(rng):
    created = BatchNorm().init(jax.random.key(0), jnp.asarray(rng.normal(5, 2, size=(8, 3))), True)
    assert jax.tree.map(lambda leaf: leaf.tolist(), created) == {
        "params": {"scale": [1, 1, 1], "bias": [0, 0, 0]},
        STATISTICS: {"mean": [0, 0, 0], "var": [1, 1, 1]},
    }


def test_padding_is_left_out_on_one_device(variables, rng):
    x = jnp.asarray(rng.normal(size=(5, 2, 2, 3)), jnp.float32)
    expected, expected_changes = BatchNorm().apply(variables, x, True, mutable=[STATISTICS])
    padded = jnp.concatenate([x, jnp.full((3, 2, 2, 3), jnp.nan)])
    shard = BatchShard(jnp.arange(8), size=5)
    y, changes = BatchNorm().apply(variables, padded, True, shard, mutable=[STATISTICS])
    np.testing.assert_allclose(y[:5], expected, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes, expected_changes)


def test_a_large_mean_costs_no_digits(rng):
    x = (1000 + rng.normal(size=(4096, 1))).astype(np.float32)
    mean, var, count = batch_statistics(jnp.asarray(x))
    np.testing.assert_allclose(
        [mean[0], var[0], count], [x.mean(dtype=float), x.var(dtype=float), 4096], 1e-5
    )


def test_half_precision_keeps_statistics_in_float32(variables, rng):
    x = jnp.asarray(rng.normal(3, 1, size=(64, 4, 4, 3)), jnp.bfloat16)
    y, changed = BatchNorm(dtype=jnp.bfloat16).apply(variables, x, True, mutable=[STATISTICS])
    exact, exact_changes = BatchNorm().apply(variables, x.astype(jnp.float32), True, mutable=[STATISTICS])
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    jax.tree.map(np.testing.assert_array_equal, changed, exact_changes)


def test_gradients_are_those_of_finite_differences(variables, rng):
    x, weights = rng.normal(size=(2, 3, 2, 2, 3))
    params = {name: np.asarray(leaf, np.float64) for name, leaf in variables["params"].items()}

    def slow_loss(x, params):
        mean, var, _ = moments(x)
        return float((np.sin(normalized(x, mean, var, params)) * weights).sum())

    def loss(x, params):
        given = {"params": params, STATISTICS: variables[STATISTICS]}
        y, _ = BatchNorm().apply(given, x, True, mutable=[STATISTICS])
        return (jnp.sin(y) * weights).sum()

    found = jax.grad(loss, (0, 1))(*jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (x, params)))
    leaves, structure = jax.tree.flatten((x, params))
    for number, gradient in enumerate(jax.tree.leaves(found)):
        for place in np.ndindex(leaves[number].shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [leaf.copy() for leaf in leaves]
                moved[number][place] += step
                values.append(slow_loss(*jax.tree.unflatten(structure, moved)))
            np.testing.assert_allclose(gradient[place], (values[0] - values[1]) / 2e-5, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_four_devices_compute_what_one_computes():
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.batch_norm_on_four_devices"],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1"},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(result["mode"], result["images"]) for result in results] == [
        (mode, images) for images in (7, 8, 4) for mode in ("pmap", "shard_map")
    ]
    for result in results:
        assert set(result["apart"]) == {"outputs", "statistics", "gradients"}
        assert max(result["apart"].values()) < 1e-12, result
        assert min(result["size"].values()) > 0.1, "what is compared is not nothing"
