import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.fusion import compute_apart


def kernels(function, *arrays):
    """Returns the numbers of calls and of fusions in a program of the CPU."""
    text = jax.jit(function).lower(*arrays).compile().as_text()
    return [len(re.findall(rf" {kind}\(", text)) for kind in ("call", "fusion")]


def first(x):
    return jnp.where(x > 0.5, jnp.square(x), x)  # jnp.where is a function that JAX compiles


def second(x):
    return x[:4] + 2 * x[4:]


def test_it_is_computed_once_and_apart():
    x = jnp.linspace(0.0, 1.0, 8)
    assert kernels(lambda x: second(first(x)), x) == [0, 1]
    assert kernels(lambda x: second(compute_apart(first, x)), x) == [1, 2]


def test_values_and_gradients_are_those_of_the_function():
    x = jnp.linspace(0.0, 1.0, 8)

    def total(function):
        return jax.jit(jax.value_and_grad(lambda x: jnp.sin(function(x)).sum()))(x)

    for ours, expected in zip(
        total(lambda x: second(compute_apart(first, x))), total(lambda x: second(first(x))), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


def test_it_takes_and_returns_trees():
    pair = compute_apart(lambda tree, x: {"sum": tree["a"] + x, "a": tree["a"]}, {"a": jnp.ones(2)}, 2.0)
    assert jax.tree.map(lambda leaf: leaf.tolist(), pair) == {"sum": [3.0, 3.0], "a": [1.0, 1.0]}


@pytest.mark.parametrize(("platform", "expected"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_only_a_cpu_leaves_a_call_in_the_program(platform, expected):
    traced = jax.jit(lambda x: second(compute_apart(first, x))).trace(jnp.ones(8))
    assert ("inlineable" in traced.lower(lowering_platforms=(platform,)).as_text()) == expected
