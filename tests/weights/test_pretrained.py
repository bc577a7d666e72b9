import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.efficientnet import EfficientNetLite0
from gradrev_jax.weights.efficientnet import variables_from_torch
from gradrev_jax.weights.installed import INSTALLED, imagenet_file
from gradrev_jax.weights.numpy_pickle import read_numpy_pickle
from gradrev_jax.weights.pretrained import PRETRAINED, arrays_by_name, load_backbone
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.writer import write_state_dict
from tests.torch_tensors import BACKBONE

MODULES = {"alexnet": AlexNet, "efficientnet_lite0": EfficientNetLite0}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@functools.cache
def shapes(backbone="alexnet", width=1.0):
    return jax.eval_shape(MODULES[backbone](width=width).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def installed(backbone):
    try:
        return imagenet_file(backbone)
    except WeightsError as error:
        pytest.skip(str(error))


def state_dict(rng, modules=BACKBONE):
    """The tensors of torchvision's AlexNet, 32 times narrower."""
    tensors = {}
    for name in modules:
        tensors[f"{name}.weight"] = rng.normal(size=BACKBONE[name]).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(size=BACKBONE[name][0]).astype(np.float32)
    return tensors


def test_every_backbone_with_installed_weights_can_read_them():
    assert list(PRETRAINED) == list(INSTALLED)


def test_the_installed_alexnet_is_torchvisions_convolutions():
    path = installed("alexnet")
    loaded = load_backbone("alexnet", shapes(), path)
    assert loaded.random_layers == ("fc6",)
    assert tuple(loaded.variables["params"]) == LAYERS
    with path.open("rb") as file:  # a package that is trusted here, to have NumPy read it
        expected = pickle.load(file)["AlexNet_0"]
    for number, layer in enumerate(LAYERS):
        leaves = loaded.variables["params"][layer]
        assert leaves.keys() == {"kernel", "bias"}
        for name, leaf in leaves.items():
            assert leaf.shape == shapes()["params"][layer][name].shape
            np.testing.assert_array_equal(leaf, expected[f"Conv_{number}"][name], strict=True)
    # As torchvision's weights of 2014 print.
    first = loaded.variables["params"]["conv1"]
    np.testing.assert_allclose(first["kernel"][0, :3, 0, 0], [0.11864, 0.09407, 0.09544], atol=1e-5)
    np.testing.assert_allclose(first["bias"][0], -0.97055, atol=1e-5)


@pytest.mark.long
def test_the_installed_efficientnet_is_taken_whole():
    path = installed("efficientnet_lite0")
    variables = shapes("efficientnet_lite0")
    loaded = load_backbone("efficientnet_lite0", variables, path)
    assert loaded.random_layers == ()
    expected = variables_from_torch(variables, read_state_dict(path))
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, expected)


def test_installed_weights_need_the_full_width():
    for backbone in PRETRAINED:
        path = installed(backbone)
        with pytest.raises(WeightsError, match="at full width: set `width` to 1.$") as raised:
            load_backbone(backbone, shapes(backbone, 0.5), path)
        assert str(raised.value).startswith(f"{path}: tensors do not fit the model:")
        assert raised.value.arguments == ("path", "width")


def test_installed_weights_of_another_backbone():
    other = {"alexnet": "efficientnet_lite0", "efficientnet_lite0": "alexnet"}
    for backbone, wrong in other.items():
        path = installed(backbone)
        with pytest.raises(
            WeightsError,
            match=f"^{path} seems to be of the `backbone` {backbone}, not of {wrong}; choose that one, or",
        ) as raised:
            load_backbone(wrong, shapes(wrong), path)
        assert raised.value.arguments == ("path", "backbone")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_convolutions_alone(suffix, rng, tmp_path):
    path = tmp_path / f"alexnet{suffix}"
    tensors = state_dict(rng, [name for name in BACKBONE if name.startswith("features")])
    write_state_dict(path, tensors)
    loaded = load_backbone("alexnet", shapes(width=1 / 32), path)
    assert loaded.random_layers == ("fc6",)
    assert tuple(loaded.variables["params"]) == LAYERS
    np.testing.assert_array_equal(
        loaded.variables["params"]["conv3"]["kernel"], tensors["features.6.weight"].transpose(2, 3, 1, 0)
    )


def test_a_whole_file_is_taken_whole(rng, tmp_path):
    write_state_dict(tmp_path / "alexnet.pth", state_dict(rng))
    loaded = load_backbone("alexnet", shapes(width=1 / 32), str(tmp_path / "alexnet.pth"))
    assert loaded.random_layers == ()
    assert jax.tree.map(lambda leaf: leaf.shape, loaded.variables) == jax.tree.map(
        lambda leaf: leaf.shape, shapes(width=1 / 32)
    )


def test_errors_name_the_file(rng, tmp_path):
    path = tmp_path / "alexnet.safetensors"
    tensors = state_dict(rng)
    del tensors["features.0.bias"]
    write_state_dict(path, tensors)
    with pytest.raises(WeightsError, match=f"^{path}: 1 of 12 tensors is missing:\n  features.0.bias$"):
        load_backbone("alexnet", shapes(width=1 / 32), path)
    path = tmp_path / "none.pth"
    with pytest.raises(WeightsError, match=f"^{path} does not exist$"):
        load_backbone("alexnet", shapes(), path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=f"^{path} is empty$"):
        load_backbone("alexnet", shapes(), path)


def test_tensors_of_no_known_backbone(tmp_path):
    path = tmp_path / "other.ckpt"
    path.write_bytes(pickle.dumps({"VGG16_0": {"Conv_0": {"bias": np.ones(64, np.float32)}}}))
    with pytest.raises(
        WeightsError, match=f"^{path}: this is no AlexNet .*the file has VGG16_0/Conv_0/bias$"
    ):
        load_backbone("alexnet", shapes(), path)
    with pytest.raises(WeightsError, match=f"^{path}: this is no EfficientNet-Lite0"):
        load_backbone("efficientnet_lite0", shapes("efficientnet_lite0"), path)


def test_a_backbone_that_takes_no_weights(tmp_path):
    with pytest.raises(
        WeightsError, match="^the `backbone` embeddings takes no weights .*; alexnet, efficientnet_lite0 do$"
    ):
        load_backbone("embeddings", {"params": {}}, tmp_path / "none.pth")


def test_names_of_nested_arrays():
    path = installed("alexnet")
    arrays = arrays_by_name(read_numpy_pickle(path))
    assert len(arrays) == 15
    assert arrays["AlexNet_0/Conv_0/kernel"].shape == (11, 11, 3, 64)
    assert arrays_by_name({"a": {}}) == {}
