import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.efficientnet import MEAN, SMALLEST_IMAGE, STAGES, STD, EfficientNetLite0
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.weights.efficientnet import variables_from_torch
from gradrev_jax.weights.installed import imagenet_file
from gradrev_jax.weights.reader import read_state_dict

WIDTH = 1 / 8
PHOTOGRAPHS = "GRADREV_PHOTOGRAPHS"  # an environment variable: the folder of the product photographs below
# Image -> its class of ImageNet.
CLASSES = {
    "10237": 409,  # analog clock
    "10004": 842,  # swimming trunks
    "16089": 836,  # sunglass
    "10093": 770,  # running shoe
    "15921": 414,  # backpack
    "11244": 608,  # jean
}


@functools.cache
def shapes(width=WIDTH):
    images = jnp.zeros((1, 32, 32, 3))
    return jax.eval_shape(EfficientNetLite0(width=width).init, jax.random.key(0), images)


def published():
    """The published weights, which a package of its own installs."""
    try:
        return imagenet_file("efficientnet_lite0")
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture
def tensors(rng):
    """The state dict of a network an eighth as wide, laid out by hand from the architecture."""
    tensors = {}

    def convolution(name, *shape):
        tensors[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{leaf}"] = rng.uniform(0.5, 1, channels).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    convolution("_conv_stem", 4, 3, 3, 3)
    norm("_bn0", 4)
    channels, block = 4, 0
    for stage in STAGES:
        for _ in range(stage.repeats):
            name, inner = f"_blocks.{block}", channels * stage.expansion
            if stage.expansion > 1:
                convolution(f"{name}._expand_conv", inner, channels, 1, 1)
                norm(f"{name}._bn0", inner)
            convolution(f"{name}._depthwise_conv", inner, 1, stage.kernel, stage.kernel)
            norm(f"{name}._bn1", inner)
            channels = stage.filters // 8
            convolution(f"{name}._project_conv", channels, inner, 1, 1)
            norm(f"{name}._bn2", channels)
            block += 1
    convolution("_conv_head", 160, channels, 1, 1)
    norm("_bn1", 160)
    tensors["_fc.weight"], tensors["_fc.bias"] = np.zeros((10, 160)), np.array(["unused"])
    return tensors


def test_each_tensor_has_its_place(tensors):
    found = variables_from_torch(shapes(), tensors)
    assert jax.tree.structure(found) == jax.tree.structure(dict(shapes()))
    jax.tree.map(lambda leaf, shape: leaf.shape == shape.shape or pytest.fail(str(shape)), found, shapes())
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    params, statistics = found["params"], found["batch_stats"]
    stem = tensors["_conv_stem.weight"]
    assert params["stem"]["kernel"][2, 0, 1, 3] == stem[3, 1, 2, 0]
    depthwise = tensors["_blocks.3._depthwise_conv.weight"]
    assert params["block3"]["depthwise"]["kernel"][4, 1, 7] == depthwise[7, 0, 4, 1]
    assert params["block3"]["expand"]["kernel"][2, 5] == tensors["_blocks.3._expand_conv.weight"][5, 2, 0, 0]
    project = tensors["_blocks.15._project_conv.weight"]
    assert params["block15"]["project"]["kernel"][9, 8] == project[8, 9, 0, 0]
    for ours, theirs in (
        (("stem_norm",), "_bn0"),
        (("head_norm",), "_bn1"),
        (("block0", "depthwise_norm"), "_blocks.0._bn1"),
        (("block9", "expand_norm"), "_blocks.9._bn0"),
        (("block9", "project_norm"), "_blocks.9._bn2"),
    ):
        weights, running = (
            functools.reduce(lambda part, name: part[name], ours, tree) for tree in (params, statistics)
        )
        np.testing.assert_array_equal(weights["scale"], tensors[f"{theirs}.weight"])
        np.testing.assert_array_equal(weights["bias"], tensors[f"{theirs}.bias"])
        np.testing.assert_array_equal(running["mean"], tensors[f"{theirs}.running_mean"])
        np.testing.assert_array_equal(running["var"], tensors[f"{theirs}.running_var"])


@pytest.mark.parametrize("prefix", ["backbone.", "module.", "module.backbone."])
def test_prefixes(prefix, tensors):
    expected = variables_from_torch(shapes(), tensors)
    found = variables_from_torch(shapes(), {f"{prefix}{name}": tensor for name, tensor in tensors.items()})
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_missing_tensors(tensors):
    del tensors["_blocks.4._bn1.running_var"], tensors["_conv_head.weight"]
    with pytest.raises(
        WeightsError,
        match="^2 of 245 tensors are missing:\n  _blocks.4._bn1.running_var\n  _conv_head.weight$",
    ):
        variables_from_torch(shapes(), tensors)


def test_numbers_that_are_not_finite(tensors):
    tensors["_bn1.running_var"][3] = np.inf
    with pytest.raises(WeightsError, match="^_bn1.running_var has numbers that are not finite"):
        variables_from_torch(shapes(), tensors)


def test_other_widths(tensors):
    with pytest.raises(
        WeightsError,
        match=r"tensors do not fit the model:\n(.*\n)*  _conv_stem.weight has shape \(4, 3, 3, 3\); "
        r"the model needs \(32, 3, 3, 3\)",
    ):
        variables_from_torch(shapes(1.0), tensors)
    tensors["_conv_stem.weight"] = np.zeros((32, 3, 3, 3), np.float32)
    with pytest.raises(
        WeightsError, match="need EfficientNet-Lite0 at full width: set `width` to 1"
    ) as raised:
        variables_from_torch(shapes(), tensors)
    assert raised.value.arguments == ("width",)


def test_other_architectures(tensors):
    alexnet = {f"features.{i}.{leaf}": np.zeros(3) for i in (0, 3, 6) for leaf in ("weight", "bias")}
    with pytest.raises(
        WeightsError, match="^this is no EfficientNet-Lite0 of .*: 245 of 245 .* features.0.bi"
    ):
        variables_from_torch(shapes(), alexnet)
    squeeze = {**tensors, "_blocks.0._se_reduce.weight": np.zeros((1, 4, 1, 1), np.float32)}
    with pytest.raises(
        WeightsError,
        match="^this is no EfficientNet-Lite0 of efficientnet-lite-pytorch: 1 tensor of its blocks has no "
        "place in it, for example _blocks.0._se_reduce.weight; use a file of that network$",
    ):
        variables_from_torch(shapes(), squeeze)
    deeper = {
        **tensors,
        **{
            name.replace(".15.", f".{i}."): t
            for i in (16, 17)
            for name, t in tensors.items()
            if ".15." in name
        },
    }
    with pytest.raises(WeightsError, match="30 tensors of its blocks .* for example _blocks.16._bn0.bias"):
        variables_from_torch(shapes(), deeper)


def test_published_weights_have_the_features_that_torch_computes(rng):
    torch, package = pytest.importorskip("torch"), pytest.importorskip("efficientnet_lite_pytorch")
    path = published()
    images = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    model = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    with torch.inference_mode():
        maps = model.extract_features(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    variables = variables_from_torch(shapes(1.0), read_state_dict(path))
    found = jax.jit(EfficientNetLite0().apply)(variables, jnp.asarray(images))
    np.testing.assert_allclose(found, maps.mean(dim=(2, 3)).numpy(), atol=1e-4)


def test_published_weights_name_what_is_in_photographs():
    folder = os.environ.get(PHOTOGRAPHS)
    if folder is None:
        pytest.skip(f"{PHOTOGRAPHS} names no folder of photographs")
    tensors = read_state_dict(published())
    pixels = np.stack(
        [
            np.asarray(Image.open(pathlib.Path(folder) / f"{name}.jpg").convert("RGB").resize((224, 224)))
            for name in CLASSES
        ]
    )
    variables = variables_from_torch(shapes(1.0), tensors)
    images = PixelInputs(SMALLEST_IMAGE, MEAN, STD).normalize(pixels)
    features = jax.jit(EfficientNetLite0().apply)(variables, images)
    logits = np.asarray(features) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    probabilities = np.asarray(jax.nn.softmax(logits))
    assert probabilities.argmax(axis=1).tolist() == list(CLASSES.values())
    assert probabilities.max(axis=1).mean() > 0.8, "and with confidence"
