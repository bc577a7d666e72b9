import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.variables import backbone_variables
from gradrev_jax.systems.fsn.model import Branches, FashionSearchNet
from tests import slow_fsn
from tests.parameter_count import parameter_count

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))
LABELS = np.array([[0, 1, 0], [2, -1, 0], [1, 0, -1]])
SHAPES = (3, 3, 5), (3, 3, 6), (3, 6)
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 79, 79, 3)), jnp.float32)  # maps of 4 x 4 cells


def tiny(**fields):
    return FashionSearchNet(SCHEMA, feature_dim=5, width=1 / 32, **fields)


@functools.cache
def parameters(**fields):
    """Random parameters; the biases and the weights are not what they start at, so a forgotten one shows."""
    params = jax.jit(tiny(**fields).init)(jax.random.key(0), IMAGES)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape).astype(np.float32), params)


METHODS = ("__call__", "localized", "regions", "full_output")


@functools.cache
def outputs(**fields):
    """What all methods give, compiled once, because that is what takes time."""

    def apply(params):
        return {name: tiny(**fields).apply(params, IMAGES, method=name) for name in METHODS}

    return jax.jit(apply)(parameters(**fields))


@functools.cache
def compiled_gradient():
    def scalar(params, weights):
        output = tiny().apply(params, IMAGES, method="localized")
        return sum((weight * part).sum() for weight, part in zip(weights, output, strict=True))

    return jax.jit(jax.grad(scalar))


def gradients(*weights):
    """The gradient of a weighted sum of features [3, 3, 5], logits [3, 3, 6] and localising logits [3, 6]."""
    filled = [np.broadcast_to(np.float32(w), shape) for w, shape in zip(weights, SHAPES, strict=True)]
    return compiled_gradient()(parameters(), filled)["params"]


def slow(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])


@pytest.mark.long
@pytest.mark.parametrize("fields", [{}, {"grid": 2, "threshold": 0.6, "weights": "equal"}], ids=str)
def test_against_one_attribute_and_one_pixel_at_a_time(fields):
    params = parameters(**fields)
    weights = slow(params)
    settings = {name: value for name, value in fields.items() if name != "weights"}
    features, logits, localization = slow_fsn.forward(weights, IMAGES, SCHEMA, **settings)
    found = outputs(**fields)["localized"]
    np.testing.assert_allclose(found.features, features, atol=1e-5)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    np.testing.assert_allclose(found.localization, localization, atol=1e-5)
    regions = outputs(**fields)["regions"]
    maps = slow_fsn.alexnet_maps(weights["backbone"], IMAGES)
    expected = slow_fsn.localize(weights["localization"], maps, SCHEMA, fields.get("threshold", 0.2))
    np.testing.assert_allclose(regions.logits, expected[0], atol=1e-5)
    np.testing.assert_array_equal(regions.predicted, expected[1])
    np.testing.assert_allclose(regions.maps, expected[2], atol=1e-5)
    np.testing.assert_array_equal(regions.boxes, expected[3])
    assert len(np.unique(regions.boxes, axis=0)) > 1  # not all the whole map


@pytest.mark.long
def test_all_ways_to_call_it_agree():
    params, found = parameters(), outputs()
    output, described, localized = found["__call__"], found["full_output"], found["localized"]
    for other in (described, localized):
        np.testing.assert_allclose(other.features, output.features, atol=1e-6)
        np.testing.assert_allclose(other.logits, output.logits, atol=1e-6)
    logits = jax.jit(functools.partial(tiny().apply, method="classify"))(params, output.features)
    np.testing.assert_allclose(logits, output.logits, atol=1e-6)
    localization = params["params"]["localization"]
    read = described.embedding @ localization["kernel"] + localization["bias"]
    np.testing.assert_allclose(read, localized.localization, atol=1e-5)


def test_the_weights_of_attributes():
    weights = tiny().apply(parameters(), method="attribute_weights")
    np.testing.assert_allclose(weights, np.exp(parameters()["params"]["log_weights"]), rtol=1e-6)
    equal = tiny(weights="equal").apply(parameters(weights="equal"), method="attribute_weights")
    assert equal.tolist() == [1, 1, 1]


def test_parameter_count_at_full_width():
    images = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(FashionSearchNet(SCHEMA).init, jax.random.key(0), images)
    convolutions = 2_469_696 + (9 * 256 * 512 + 512) + (9 * 512 * 1024 + 1024)
    branches = 3 * (2304 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 340 + 340)
    assert parameter_count(shapes) == convolutions + 1024 * 6 + 6 + branches + 340 * 6 + 6 + 3


def test_its_convolutions_are_named_and_shaped_as_those_of_alexnet():
    images = jnp.zeros((1, 64, 64, 3))
    alexnet = jax.eval_shape(AlexNet(width=0.5).init, jax.random.key(0), images)["params"]
    own = jax.eval_shape(FashionSearchNet(SCHEMA, width=0.5).init, jax.random.key(0), images)
    del alexnet["fc6"]
    assert backbone_variables(own) == {"params": alexnet}


def has_gradient(tree):
    return any(leaf.any() for leaf in jax.tree.leaves(tree))


@pytest.mark.long
def test_the_branches_do_not_train_the_localising_classifiers_nor_these_the_branches():
    of_branches, of_regions = gradients(1, 1, 0), gradients(0, 0, 1)
    assert has_gradient(of_branches["backbone"])
    assert has_gradient(of_regions["backbone"])
    assert not has_gradient(of_branches["localization"])
    assert not has_gradient([of_regions[name] for name in ("branches", "heads", "log_weights")])


def test_a_branch_is_trained_by_its_own_attribute_alone():
    own = (np.arange(3)[:, None] == 1) & (SCHEMA.attribute_of == 1)
    found = gradients(0, own, 0)
    for leaf in [*jax.tree.leaves(found["branches"]), found["log_weights"]]:
        assert leaf[1].any()
        assert not leaf[np.array([0, 2])].any()
    assert not found["heads"]["kernel"][:, SCHEMA.attribute_of != 1].any()


def test_gradients_against_finite_differences():
    """Of a step along the gradient itself, in float64, where boxes stay as they are."""
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]

    def by_loops(params):
        found = slow_fsn.forward(params, np.asarray(IMAGES), SCHEMA)
        return sum((weight * part).sum() for weight, part in zip(weights, found, strict=True))

    found, params = slow({"params": gradients(*weights)}), slow(parameters())
    for name in found:
        length = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(found[name])))
        ends = [
            by_loops(
                {**params, name: jax.tree.map(lambda leaf, g, s=s: leaf + s * g, params[name], found[name])}
            )
            for s in (1e-6 / length, -1e-6 / length)
        ]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, length, rtol=1e-4)


def test_in_training_an_image_keeps_its_dropout_wherever_it_is():
    branches = Branches(3, 16, 5, 0.5, jnp.float32)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 8)), jnp.float32)
    rows, rngs = jnp.array([2, 0]), {"dropout": jax.random.key(1)}

    def apply(x):
        params = branches.init(jax.random.key(0), x, False, None)
        whole = branches.apply(params, x, True, None, rngs=rngs)
        part = branches.apply(params, x[rows], True, BatchShard(rows, size=4), rngs=rngs)
        return whole, part, branches.apply(params, x, False, None)

    whole, part, without = jax.jit(apply)(x)
    np.testing.assert_allclose(part, whole[rows], atol=1e-6)
    assert np.abs(whole - without).max() > 1e-3


def test_missing_labels_can_be_a_class():
    encoder = tiny(missing="value")
    output = jax.eval_shape(lambda key: encoder.init_with_output(key, IMAGES)[0], jax.random.key(0))
    assert output.logits.shape == (3, 3, 9)
    assert encoder.class_labels(LABELS)[1, 1] == 2


def test_in_bfloat16_outputs_are_float32():
    encoder = tiny(dtype=jnp.bfloat16)
    output = jax.eval_shape(lambda params: encoder.apply(params, IMAGES, method="localized"), parameters())
    assert {leaf.dtype for leaf in output} == {np.dtype("float32")}


def test_it_reads_images_of_31_pixels():
    shape = jax.eval_shape(tiny().init_with_output, jax.random.key(0), jnp.zeros((1, 31, 31, 3)))[0]
    assert shape.features.shape == (1, 3, 5)


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({"weights": "none"}, IMAGES, "weights must be one of learned, equal, got 'none'"),
        ({"threshold": 1.0}, IMAGES, "threshold must be at least 0 and below 1, got 1.0"),
        ({"grid": 0}, IMAGES, "size must be at least 1, got 0"),
        ({}, jnp.zeros((1, 30, 30, 3)), "at least 31 x 31 pixels, got 30 x 30"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(fields, images, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(**fields).init, jax.random.key(0), images)


def test_features_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"features must be \[B, 3, 5\], got \(2, 3, 4\)"):
        tiny().apply(parameters(), jnp.zeros((2, 3, 4)), method="classify")
