import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.models.efficientnet import (
    STAGES,
    EfficientNetLite0,
    same_padding,
)
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import STATISTICS
from tests.parameter_count import parameter_count

NARROW = 1 / 8


@functools.cache
def narrow_variables():
    return jax.jit(EfficientNetLite0(width=NARROW).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def drawn_variables(rng, variables):
    """The same variables with numbers that a mistake in one of them would change the features by."""

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        spread = 0.5 if name in ("bias", "mean") else (1.5 / np.prod(leaf.shape[:-1])) ** 0.5
        if name == "kernel" and path[-2].key == "depthwise":
            spread = 1 / leaf.shape[0]
        return jnp.asarray(rng.normal(0, spread, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, variables)


def slow_levels(variables, images):
    """Computes the network layer by layer as its definition reads, in float64, with loops over outputs.

    Returns the means over positions of the first convolution, of each stage, and of the last layer.
    """
    params, statistics = variables["params"], variables[STATISTICS]

    def norm(x, *path, bounded=True):
        scale, bias, mean, var = (
            np.asarray(functools.reduce(lambda part, name: part[name], path, tree)[leaf], np.float64)
            for tree, leaf in (
                (params, "scale"),
                (params, "bias"),
                (statistics, "mean"),
                (statistics, "var"),
            )
        )
        x = (x - mean) / np.sqrt(var + 1e-3) * scale + bias
        return np.minimum(np.maximum(x, 0), 6) if bounded else x

    def windows(x, size, stride):
        lengths = [-(-length // stride) for length in x.shape[1:3]]
        totals = [
            max((n - 1) * stride + size - length, 0) for n, length in zip(lengths, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)))
        for i, j in np.ndindex(*lengths):
            yield i, j, x[:, i * stride : i * stride + size, j * stride : j * stride + size]

    def convolve(x, kernel, stride, product):
        kernel = np.asarray(kernel, np.float64)
        shape = [-(-length // stride) for length in x.shape[1:3]]
        out = np.empty((len(x), *shape, kernel.shape[-1]))
        for i, j, window in windows(x, len(kernel), stride):
            out[:, i, j] = np.einsum(product, window, kernel)
        return out

    x = convolve(np.asarray(images, np.float64), params["stem"]["kernel"], 2, "bhwc,hwcf->bf")
    x = norm(x, "stem_norm")
    levels = [x.mean(axis=(1, 2))]
    block = 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            name, y = f"block{block}", x
            if expansion > 1:
                y = norm(y @ np.asarray(params[name]["expand"]["kernel"], np.float64), name, "expand_norm")
            stride = first_stride if repeat == 0 else 1
            y = convolve(y, params[name]["depthwise"]["kernel"], stride, "bhwc,hwc->bc")
            y = norm(y, name, "depthwise_norm")
            y = y @ np.asarray(params[name]["project"]["kernel"], np.float64)
            y = norm(y, name, "project_norm", bounded=False)
            x = y if repeat == 0 else x + y
            block += 1
        levels.append(x.mean(axis=(1, 2)))
    x = norm(x @ np.asarray(params["head"]["kernel"], np.float64), "head_norm")
    return [*levels, x.mean(axis=(1, 2))]


def test_it_has_the_parameters_of_efficientnet_lite0():
    shapes = jax.eval_shape(EfficientNetLite0().init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    classifier = 1280 * 1000 + 1000
    assert parameter_count(shapes["params"]) == 4_652_008 - classifier == 3_371_008
    block = shapes["params"]["block1"]
    kernels = {name: leaves["kernel"].shape for name, leaves in block.items() if "kernel" in leaves}
    assert kernels == {"expand": (16, 96), "depthwise": (3, 3, 96), "project": (96, 24)}
    assert "expand" not in shapes["params"]["block0"]
    assert sum(name.startswith("block") for name in shapes["params"]) == 16


@pytest.mark.long
@pytest.mark.parametrize(
    ("tap", "size", "pixels_at_once"),
    [("levels", 40, 2 * 40**2), ("pooled", 45, 0)],
    ids=["all levels, in two groups, of 2 and of 1", "at once"],
)
def test_features_are_those_of_the_definition(tap, size, pixels_at_once, rng):
    variables = drawn_variables(rng, narrow_variables())
    images = rng.normal(size=(3, size, size, 3)).astype(np.float32)
    levels = slow_levels(variables, images)
    assert len(levels) == 1 + len(STAGES) + 1
    expected = np.concatenate(levels, axis=1) if tap == "levels" else levels[-1]
    network = EfficientNetLite0(tap=tap, width=NARROW, pixels_at_once=pixels_at_once)
    found = jax.jit(network.apply)(variables, jnp.asarray(images))
    assert levels[-1].shape == (3, 160)
    assert np.ptp(expected, axis=0).mean() > 1e-2, "features tell images apart"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_only_a_cpu_computes_in_groups_and_without_grouped_convolutions():
    forward = jax.jit(EfficientNetLite0(width=NARROW, pixels_at_once=32**2).apply)
    traced = forward.trace(narrow_variables(), jnp.zeros((4, 32, 32, 3)))
    for platform, loops, convolutions in (("cpu", 1, 0), ("cuda", 0, 17)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.while"), text.count("stablehlo.convolution")) == (loops, convolutions)


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count):
    network = EfficientNetLite0(width=NARROW, pixels_at_once=32**2)
    shape = jax.eval_shape(network.apply, narrow_variables(), jnp.zeros((count, 32, 32, 3))).shape
    assert shape == (count, 160)


@pytest.mark.parametrize("size", [32, 33, 57])
def test_any_size_from_the_smallest_on_works(size):
    images = jnp.zeros((1, size, size, 3))
    shape = jax.eval_shape(EfficientNetLite0(width=NARROW).apply, narrow_variables(), images).shape
    assert shape == (1, 160)


def test_bad_input():
    with pytest.raises(ValueError, match="images must be at least 32 x 32 pixels, got 31 x 31"):
        EfficientNetLite0().init(jax.random.key(0), jnp.zeros((1, 31, 31, 3)))
    with pytest.raises(ValueError, match="tap must be one of pooled, levels, got 'fc6'"):
        EfficientNetLite0(tap="fc6").init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_padding_is_tensorflows():
    """Outputs are inputs / stride, rounded up, and the odd zero is below and to the right."""
    for length, size, stride, expected in (
        (224, 3, 2, (0, 1)),
        (225, 3, 2, (1, 1)),
        (56, 5, 2, (1, 2)),
        (57, 5, 2, (2, 2)),
        (1, 5, 2, (2, 2)),
        (14, 5, 1, (2, 2)),
        (7, 3, 1, (1, 1)),
    ):
        padding = same_padding(jnp.zeros((1, length, length, 1)), size, stride)
        assert padding == (expected, expected)
        assert (length + sum(expected) - size) // stride + 1 == -(-length // stride)


@functools.cache
def training(dropout=0.5):
    """A step's forward pass: (variables, images, images but for padding) -> (features, new statistics)."""
    network = EfficientNetLite0(width=NARROW, dropout=dropout)

    def train(variables, images, size):
        shard = None if size is None else BatchShard(jnp.arange(len(images)), size)
        keys = {"dropout": jax.random.key(1)}
        return network.apply(variables, images, True, shard, mutable=[STATISTICS], rngs=keys)

    return jax.jit(train, static_argnums=2)


@pytest.mark.long
def test_training_drops_features_and_moves_statistics(rng):
    variables = narrow_variables()
    images = jnp.asarray(rng.normal(size=(3, 64, 64, 3)), jnp.float32)
    features, changed = training()(variables, images, None)
    assert 0.4 < (features == 0).mean() < 0.8
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), changed[STATISTICS], variables[STATISTICS])
    assert all(jax.tree.leaves(moved))


@pytest.mark.long
def test_frozen_statistics_train_as_inference_computes(rng):
    network, variables = EfficientNetLite0(width=NARROW, dropout=0.0), narrow_variables()
    images = jnp.asarray(rng.normal(size=(2, 64, 64, 3)), jnp.float32)
    inference, frozen = jax.jit(
        lambda variables, images: [network.apply(variables, images, train) for train in (False, True)]
    )(variables, images)
    np.testing.assert_allclose(frozen, inference, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_padding_of_a_shard_changes_nothing(rng):
    """But for rounding, which batch normalisation of three images magnifies."""
    variables = narrow_variables()
    images = jnp.asarray(rng.normal(size=(3, 64, 64, 3)), jnp.float32)
    expected, expected_changes = training()(variables, images, None)
    padded = jnp.concatenate([images, jnp.ones((2, 64, 64, 3))])
    found, changes = training()(variables, padded, 3)
    np.testing.assert_allclose(found[:3], expected, atol=1e-2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), changes, expected_changes)


@pytest.mark.long
def test_half_precision_is_close(rng):
    variables = drawn_variables(rng, narrow_variables())
    images = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)
    exact = slow_levels(variables, images)[-1]
    half = jax.jit(EfficientNetLite0(width=NARROW, dtype=jnp.bfloat16).apply)(variables, images)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.1 * np.abs(exact).max())
