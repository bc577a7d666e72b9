import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.weights.adde import (
    Architecture,
    encoder_from_torch,
    encoder_to_torch,
    infer_architecture,
    memory_from_torch,
    memory_to_torch,
)
from gradrev_jax.weights.alexnet import backbone_from_torch
from tests.torch_tensors import BACKBONE

SCHEMA = AttributeSchema(("color", "fit", "size"), (("blue", "red"), ("slim",), ("s", "m", "l", "xl")))
WIDTH, DIM = 1 / 32, 5


def model(**fields):
    return AttributeEncoder(SCHEMA, **{"feature_dim": DIM, "width": WIDTH, "tap": "fc7", **fields})


@functools.cache
def shapes(**fields):
    return jax.eval_shape(model(**fields).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def state_dict(rng, *, tap="fc7", heads="shared"):
    """Returns a state dict by torch's own rules: the weight of a Linear is [outputs, inputs]."""
    layers = {f"backbone.{name}": shape for name, shape in BACKBONE.items()}
    if tap.startswith("fc6"):
        del layers["backbone.classifier.4"]
    for n, size in enumerate((2, 1, 4)):
        layers[f"dis_proj.{n}.0"] = (DIM, 128)
        layers[f"dis_proj.{n}.2"] = (DIM, DIM)
        for reader in ("",) if heads == "shared" else ("0.", "1.", "2."):
            layers[f"attr_classifier.{reader}{n}.0"] = (size, DIM)
    tensors = {}
    for name, shape in layers.items():
        tensors[f"{name}.weight"] = (rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    return tensors


@pytest.fixture
def tensors(rng):
    return state_dict(rng)


def assert_same(left, right):
    """Compares two trees to the bit, including the sign of a zero."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(a).view(np.int32), np.asarray(b).view(np.int32), strict=True)


def loops(tensors, x, heads):
    """Computes features [N][d] and logits [N][J] from one image's backbone features, module by module."""
    features, logits = [], []
    for n in range(3):
        hidden = tensors[f"dis_proj.{n}.0.weight"] @ x + tensors[f"dis_proj.{n}.0.bias"]
        features.append(
            tensors[f"dis_proj.{n}.2.weight"] @ np.maximum(hidden, 0) + tensors[f"dis_proj.{n}.2.bias"]
        )
    for j in range(3):
        row = []
        for n in range(3):
            name = f"attr_classifier.{n}.0" if heads == "shared" else f"attr_classifier.{j}.{n}.0"
            row.extend(tensors[f"{name}.weight"] @ features[j] + tensors[f"{name}.bias"])
        logits.append(row)
    return features, logits


@pytest.mark.parametrize(("heads", "tap"), [("shared", "fc7"), ("pairwise", "fc6_relu")])
def test_the_encoder_computes_what_torch_would(heads, tap, rng):
    tensors = state_dict(rng, heads=heads, tap=tap)
    params = encoder_from_torch(shapes(heads=heads, tap=tap), tensors, SCHEMA)
    images = rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
    found = jax.jit(model(heads=heads, tap=tap).apply)(params, images)

    stripped = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    backbone = backbone_from_torch(params["params"]["backbone"], stripped)
    assert_same(params["params"]["backbone"], backbone)
    hidden = jax.jit(AlexNet(tap=tap, width=WIDTH).apply)({"params": backbone}, images)
    for image, x in enumerate(np.asarray(hidden, np.float64)):
        features, logits = loops(tensors, x, heads)
        np.testing.assert_allclose(found.features[image], features, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.logits[image], logits, rtol=1e-4, atol=1e-4)
        assert np.abs(features).mean() > 0.1


@pytest.mark.parametrize(("heads", "tap"), [("shared", "fc6"), ("shared", "fc7"), ("pairwise", "fc7_relu")])
def test_there_and_back_again_to_the_bit(heads, tap, rng):
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes(heads=heads, tap=tap)
    )
    params["params"]["heads"]["bias"][..., 0] = -0.0
    tensors = encoder_to_torch(params, SCHEMA)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in state_dict(rng, heads=heads, tap=tap).items()
    }
    assert all(tensor.flags.c_contiguous and tensor.flags.owndata for tensor in tensors.values())
    assert_same(encoder_from_torch(shapes(heads=heads, tap=tap), tensors, SCHEMA), params)


def test_back_and_there_again_to_the_bit(tensors):
    assert_same(encoder_to_torch(encoder_from_torch(shapes(), tensors, SCHEMA), SCHEMA), tensors)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_does_not_matter(prefix, tensors, rng):
    expected = encoder_from_torch(shapes(tap="fc6"), state_dict(rng, tap="fc6") | tensors, SCHEMA)
    besides = {
        "backbone.classifier.6.weight": np.ones((10, 128)),
        "backbone.classifier.6.bias": np.ones(10),
        "dis_proj.0.1.num_batches_tracked": np.array(3),
    }
    more = {f"{prefix}{name}": tensor for name, tensor in {**tensors, **besides}.items()}
    assert_same(encoder_from_torch(shapes(tap="fc6"), more, SCHEMA), expected)


@pytest.mark.parametrize("prefix", ["module.", "ema.module.model."])
def test_wrappers_of_all_tensors_are_taken_off(prefix, tensors):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    assert infer_architecture(wrapped) == infer_architecture(tensors)
    expected = encoder_from_torch(shapes(), tensors, SCHEMA)
    assert_same(encoder_from_torch(shapes(), wrapped, SCHEMA), expected)
    weight = np.random.default_rng(0).normal(size=(3 * DIM, SCHEMA.num_values))
    found = memory_from_torch({f"{prefix}Memory.weight": weight}, SCHEMA, DIM)
    np.testing.assert_array_equal(found, memory_from_torch({"Memory.weight": weight}, SCHEMA, DIM))


def test_two_models_in_one_file_are_not_taken_for_one(tensors):
    both = {f"{prefix}{name}": tensor for name, tensor in tensors.items() for prefix in ("model.", "ema.")}
    with pytest.raises(WeightsError, match="this is no attribute encoder"):
        encoder_from_torch(shapes(), both, SCHEMA)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_precisions_become_float32(dtype, tensors):
    other = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    expected = {name: tensor.astype(np.float32) for name, tensor in other.items()}
    assert_same(encoder_from_torch(shapes(), other, SCHEMA), encoder_from_torch(shapes(), expected, SCHEMA))


def change(tensors, **changes):
    """Returns the tensors with some replaced, or removed if None; ``__`` stands for a dot."""
    changed = {**tensors, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in changed.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dis_proj__2__0__bias": None}, "^1 of 32 tensors is missing:\n  dis_proj.2.0.bias"),
        ({"dis_proj__3__0__bias": np.ones(5)}, "^1 tensor has no place in a .*:\n  dis_proj.3.0.bias$"),
        ({"Memory__weight": np.ones(5)}, "^1 tensor has no place in a .*:\n  Memory.weight$"),
        ({"module__dis_proj__2__0__bias": np.ones(5)}, "no place in .*\n  module.dis_proj.2.0.bias$"),
        ({"dis_proj__2__0__bias": np.ones(6)}, r"dis_proj.2.0.bias has shape \(6,\); the model needs \(5,\)"),
        ({"dis_proj__2__0__bias": np.ones((5, 1))}, r"dis_proj.2.0.bias has shape \(5, 1\); the"),
        (
            {"dis_proj__1__0__weight": np.ones((128, 5))},
            r"1.0.weight has shape \(128, 5\); the model needs \(5, 128\)",
        ),
        (
            {"dis_proj__0__2__weight": np.array(1.0)},
            r"dis_proj.0.2.weight has shape \(\); the model needs \(5, 5\)",
        ),
        (
            {"dis_proj__2__0__bias": np.ones(5, int)},
            "floating-point numbers, but\n  dis_proj.2.0.bias: int64",
        ),
        (
            {"backbone__features__0__bias": np.array([1, np.nan])},
            "^backbone.features.0.bias has numbers th",
        ),
        ({"attr_classifier__2__0__weight": None}, "^1 of 32 .* missing:\n  attr_classifier.2.0.weight"),
        ({"attr_classifier__1__0__bias": None}, "is missing:\n  attr_classifier.1.0.bias"),
    ],
)
def test_what_is_wrong_is_named(changes, message, tensors):
    with pytest.raises(WeightsError, match=message):
        encoder_from_torch(shapes(), change(tensors, **changes), SCHEMA)


def test_names_and_shapes_are_checked_before_a_number_is_looked_at(tensors):
    """The last tensor is missing, and the first is not finite."""
    tensors["backbone.features.0.weight"][:] = np.inf
    del tensors["attr_classifier.2.0.bias"]
    with pytest.raises(WeightsError, match="is missing:\n  attr_classifier.2.0.bias"):
        encoder_from_torch(shapes(), tensors, SCHEMA)


def test_another_architecture(tensors):
    resnet = {
        name: np.zeros(3) for name in ("conv1.weight", "bn1.weight", "bn1.bias", "fc.weight", "fc.bias")
    }
    message = (
        r"this is no attribute encoder \(backbone.*, dis_proj.*, attr_classifier.*\): 32 of 32 tensors are "
        r"missing, for example backbone.features.0.weight; the file has bn1.bias, bn1.weight, conv1.weight, f"
    )
    with pytest.raises(WeightsError, match=message):
        encoder_from_torch(shapes(), resnet, SCHEMA)
    alexnet = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if "backb" in name}
    with pytest.raises(WeightsError, match=r"32 of 32 .*; the file has classifier\.1\.bias"):
        encoder_from_torch(shapes(), alexnet, SCHEMA)
    with pytest.raises(WeightsError, match="32 of 32 tensors are missing, .* the file has no others"):
        encoder_from_torch(shapes(), {}, SCHEMA)


def test_classifiers_of_unit_features_are_refused_both_ways(tensors):
    encoder = AttributeEncoder(SCHEMA, feature_dim=DIM, width=WIDTH, tap="fc7", unit_features=True)
    params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(WeightsError, match="classifiers of unit features none; `unit_features` must be off"):
        encoder_from_torch(params, tensors, SCHEMA)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    with pytest.raises(WeightsError, match="classifiers of unit features none; `unit_features` must be off"):
        encoder_to_torch(zeros, SCHEMA)


def test_another_catalogue(tensors):
    other = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
    encoder = AttributeEncoder(other, feature_dim=DIM, width=WIDTH, tap="fc7")
    params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(
        WeightsError,
        match="^the file has 3 attributes of 2, 1, 4 values, the catalogue 2 attributes of 2, 2 values$",
    ):
        encoder_from_torch(params, tensors, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feature_dim": 7}, "^the file has features of width 5, `feature_dim` is 7$"),
        (
            {"width": 1 / 16, "heads": "pairwise"},
            "^the file has shared heads, `heads` is pairwise; the first convolution has 2 filters in the "
            "file and 4 in the model; set `width` to 0.03125$",
        ),
    ],
)
def test_another_model(fields, message, tensors):
    with pytest.raises(WeightsError, match=message) as raised:
        encoder_from_torch(shapes(**fields), tensors, SCHEMA)
    assert sorted(raised.value.arguments) == sorted(fields)


def test_a_file_that_ends_before_the_tap(rng):
    with pytest.raises(
        WeightsError, match="^the backbone of the file ends at fc6; set `tap` to fc6_relu or fc6$"
    ):
        encoder_from_torch(shapes(), state_dict(rng, tap="fc6"), SCHEMA)


def test_what_names_and_shapes_say(rng):
    for prefix in ("", "module."):
        for heads in ("shared", "pairwise"):
            for tap in ("fc6", "fc7"):
                tensors = state_dict(rng, heads=heads, tap=tap)
                found = infer_architecture({f"{prefix}{name}": tensor for name, tensor in tensors.items()})
                assert found == Architecture((2, 1, 4), heads == "pairwise", DIM, 2, tap == "fc7")
    assert infer_architecture({}) == Architecture((), False, None, None, False)
    assert infer_architecture({"attr_classifier.0.0.weight": np.array(1.0)}).sizes == ()


def test_the_memory_is_what_torch_multiplies_with(rng):
    """The prototype of value v of attribute n is block n of Memory's output for the one-hot row of v."""
    weight = rng.normal(size=(3 * DIM, 7)).astype(np.float32)
    memory = memory_from_torch({"module.Memory.weight": weight}, SCHEMA, DIM)
    for value in range(7):
        one_hot = np.arange(7) == value
        made = weight @ one_hot.astype(np.float32)
        for n in range(3):
            np.testing.assert_array_equal(memory[value, n], made[n * DIM : (n + 1) * DIM])
    assert_same(memory_to_torch(memory), {"Memory.weight": weight})
    assert_same(memory_from_torch(memory_to_torch(memory), SCHEMA, DIM), memory)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"memory": np.ones((15, 7))},
            "this is no memory: 1 of 1 tensors are missing, for example Memory.weight",
        ),
        (
            {"Memory.weight": np.ones((15, 7)), "Memory.bias": np.ones(7)},
            "no place in a memory:\n  Memory.bias",
        ),
        (
            {"Memory.weight": np.ones((7, 15))},
            r"weight has shape \(7, 15\); the model needs \(15, 7\)\nThe model has 3 attributes with",
        ),
        (
            {"Memory.weight": np.ones((15, 7), np.int32)},
            "floating-point numbers, but\n  Memory.weight: int32",
        ),
        ({"Memory.weight": np.full((15, 7), np.inf)}, "Memory.weight has numbers that are not finite"),
    ],
)
def test_memories_that_are_none(tensors, message):
    with pytest.raises(WeightsError, match=message):
        memory_from_torch(tensors, SCHEMA, DIM)
