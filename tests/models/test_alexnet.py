import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gradrev_jax.models.alexnet import TAPS, AlexNet, AlexNetMaps, adaptive_average_pool, max_pool
from tests.parameter_count import parameter_count
from tests.slow_fsn import slow_convolution, slow_max_pool

CONVOLUTIONS = sum(
    kernel * kernel * inputs * filters + filters
    for kernel, inputs, filters in [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)]
)
FC6, FC7 = 9216 * 4096 + 4096, 4096 * 4096 + 4096


@pytest.mark.parametrize(
    ("tap", "expected"),
    [
        ("fc6", CONVOLUTIONS + FC6),
        ("fc6_relu", CONVOLUTIONS + FC6),
        ("fc7", CONVOLUTIONS + FC6 + FC7),
        ("fc7_relu", CONVOLUTIONS + FC6 + FC7),
    ],
)
def test_exact_parameter_counts(tap, expected):
    images = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(AlexNet(tap=tap).init, jax.random.key(0), images)
    assert parameter_count(shapes) == expected
    assert CONVOLUTIONS == 2_469_696  # torchvision's alexnet().features


def draw(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


IMAGES = draw(1, (2, 64, 64, 3))


def tiny(tap="fc6_relu", **fields):
    return AlexNet(tap=tap, width=1 / 32, **fields)


@functools.cache
def parameters(tap="fc6_relu"):
    """Random parameters of a tiny model; the biases are not zero, so that a forgotten one shows."""
    shapes = jax.eval_shape(tiny(tap).init, jax.random.key(0), IMAGES)
    return jax.tree.map(lambda leaf: draw(0, leaf.shape) / np.sqrt(leaf.size / leaf.shape[-1]), shapes)


def test_layers_against_explicit_loops():
    """Every convolution as a float64 loop over output pixels, every pooling as a window maximum."""
    params = parameters("fc7")["params"]
    x = np.asarray(IMAGES, np.float64)
    for name, stride, padding, pool in [
        ("conv1", 4, 2, True),
        ("conv2", 1, 2, True),
        ("conv3", 1, 1, False),
        ("conv4", 1, 1, False),
        ("conv5", 1, 1, True),
    ]:
        x = np.maximum(slow_convolution(x, params[name], stride, padding), 0)
        maps = x
        x = slow_max_pool(x) if pool else x
    found = jax.jit(AlexNetMaps(width=1 / 32).apply)({"params": params}, IMAGES)
    np.testing.assert_allclose(found, maps, rtol=1e-4, atol=1e-4)
    x = slow_adaptive_pool(x, 6).reshape(2, -1)
    x = np.maximum(x @ np.asarray(params["fc6"]["kernel"], np.float64) + params["fc6"]["bias"], 0)
    x = x @ np.asarray(params["fc7"]["kernel"], np.float64) + params["fc7"]["bias"]
    found = jax.jit(tiny("fc7").apply)({"params": params}, IMAGES)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def slow_adaptive_pool(x, size):
    result = np.zeros((len(x), size, size, x.shape[-1]))
    bounds = [
        (int(np.floor(i * x.shape[1] / size)), int(np.ceil((i + 1) * x.shape[1] / size))) for i in range(size)
    ]
    for i, (top, bottom) in enumerate(bounds):
        for j, (left, right) in enumerate(bounds):
            result[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    return result


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 13])
def test_adaptive_pool_of_smaller_and_larger_inputs(length):
    x = draw(0, (2, length, length, 3))
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), 6), slow_adaptive_pool(x, 6), atol=1e-6)


def test_adaptive_pool_is_nothing_at_224_pixels():
    x = jnp.ones((1, 6, 6, 2))
    assert adaptive_average_pool(x, 6) is x


@pytest.mark.parametrize("size", [3, 8])
def test_max_pool_is_flax_max_pool_with_its_gradient(size):
    x = draw(0, (2, size, size, 3))  # no ties
    weight = draw(1, slow_max_pool(x).shape)

    def outputs_and_gradient(pool):
        def weighted(x):
            outputs = pool(x)
            return (outputs * weight).sum(), outputs

        gradient, outputs = jax.jit(jax.grad(weighted, has_aux=True))(x)
        return outputs, gradient

    outputs, gradient = outputs_and_gradient(max_pool)
    expected, expected_gradient = outputs_and_gradient(lambda x: nn.max_pool(x, (3, 3), (2, 2)))
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (4, 6), (7, 5), (8, 9)])
def test_equal_maxima_share_the_gradient(shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, *shape, 2)).astype(np.float32)
    weight = draw(1, (2, *((n - 1) // 2 for n in shape), 2))
    expected = np.zeros(x.shape)
    for image, row, column, channel in np.ndindex(*weight.shape):
        window = np.s_[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        is_largest = x[window] == x[window].max()
        expected[window] += is_largest / is_largest.sum() * weight[image, row, column, channel]
    gradient = jax.jit(jax.grad(lambda x: (max_pool(x) * weight).sum()))(x)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_taps():
    params = parameters("fc7")
    features = jax.jit(lambda params, images: {tap: tiny(tap).apply(params, images) for tap in TAPS})(
        params, IMAGES
    )
    assert {values.shape for values in features.values()} == {(2, 128)}
    for layer in ("fc6", "fc7"):
        assert (features[layer] < 0).any()
        np.testing.assert_array_equal(features[f"{layer}_relu"], np.maximum(features[layer], 0))
    assert not np.array_equal(features["fc6"], features["fc7"])


def test_dropout_comes_before_fc6():
    train = jax.jit(
        lambda images, key: tiny("fc6").apply(parameters("fc6"), images, train=True, rngs={"dropout": key})
    )
    trained = [train(IMAGES, jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert (trained[0] != trained[2]).any()
    # After a dropout at rate 1/2 half the outputs would be zero; before fc6, none is.
    assert (trained[0] != 0).all()


def test_bfloat16_computes_low_and_keeps_parameters():
    features = jax.jit(tiny(dtype=jnp.bfloat16).apply)(parameters(), IMAGES)
    assert features.dtype == jnp.bfloat16
    shapes = jax.eval_shape(tiny(dtype=jnp.bfloat16).init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    exact = jax.jit(tiny().apply)(parameters(), IMAGES)
    np.testing.assert_allclose(features.astype(jnp.float32), exact, atol=0.05 * float(exact.max()))


def check(shape, dtype=jnp.float32, tap="fc6_relu"):
    jax.eval_shape(tiny(tap).init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def test_images_that_are_too_small(unchecked):
    for shape, size in (((1, 62, 62, 3), "62 x 62"), ((1, 64, 62, 3), "64 x 62")):
        with pytest.raises(ValueError, match=f"^images must be at least 63 x 63 pixels, got {size}; resize"):
            check(shape)
    check((1, 63, 63, 3))


def test_unknown_tap(unchecked):
    with pytest.raises(ValueError, match="^tap must be one of fc6_relu, fc6, fc7, fc7_relu, got 'fc8'"):
        check((1, 64, 64, 3), tap="fc8")


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 3, 64, 64), (1, 64, 64, 1), (64, 64)])
def test_what_is_no_batch_of_images(unchecked, shape):
    with pytest.raises(
        ValueError, match=r"^images must be \[B, S, S, 3\], got \(.*\); give a single image as images\[None"
    ):
        check(shape)


def test_images_that_are_not_normalised(unchecked):
    with pytest.raises(ValueError, match="images must be normalised .* got uint8"):
        check((1, 64, 64, 3), jnp.uint8)


def test_an_empty_batch():
    images = jnp.zeros((0, 64, 64, 3))
    network = AlexNet(width=1 / 32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert jax.eval_shape(network.apply, shapes, images).shape == (0, 128)
