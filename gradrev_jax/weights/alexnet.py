"""Loads ImageNet weights for the backbone from a file of torchvision's AlexNet, without torch."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError, join_names
from gradrev_jax.models.alexnet import POOLED
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.state_dicts import Hint, layout_shapes, select_tensors, strip_wrappers

# Layer of ``gradrev_jax.models.alexnet.AlexNet`` -> module of torchvision's AlexNet.
MODULES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
}
# Prefixes of the names: none, DataParallel's, that of an encoder's backbone (as in ADDE-M), or both.
PREFIXES = ("", "module.", "backbone.", "module.backbone.")
FIRST_BIAS, FILTERS = "features.0.bias", 64  # the bias and the number of filters of the first convolution

Layers = Mapping[str, Mapping[str, Any]]


def with_pretrained_backbone(params: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns an encoder's parameters with those of its backbone replaced by a file's.

    Args:
      params: the parameters of an ``AttributeEncoder``, ``{"params": {"backbone": ..., ...}}``. Only the
        shapes of the backbone are used, so a file can be checked with ``jax.eval_shape`` of the encoder's
        ``init``.
      path: the file, ``.pth`` or ``.safetensors``.

    Returns:
      A new tree that shares all other parameters.

    Raises:
      WeightsError: the file cannot be read, or its tensors do not fit.

    Example:
      >>> import tempfile
      >>> from safetensors.numpy import save_file
      >>> params = {"params": {"backbone": {"fc7": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}}}
      >>> tensors = {
      ...     "classifier.4.weight": np.array([[1, 2], [3, 4]], np.float32),
      ...     "classifier.4.bias": np.array([5, 6], np.float16),
      ... }
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_file(tensors, f"{folder}/alexnet.safetensors")
      ...     params = with_pretrained_backbone(params, f"{folder}/alexnet.safetensors")
      >>> params["params"]["backbone"]["fc7"]["kernel"].tolist()
      [[1.0, 3.0], [2.0, 4.0]]
    """
    tensors = read_state_dict(path)
    try:
        backbone = backbone_from_torch(params["params"]["backbone"], tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}", arguments=("path", *error.arguments)) from error
    return {**params, "params": {**params["params"], "backbone": backbone}}


def backbone_from_torch(params: Layers, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, jax.Array]]:
    """Converts a state dict of torchvision's AlexNet to parameters of ``AlexNet``.

    Names, shapes and dtypes are checked before any tensor is converted. Tensors that the tap does not use,
    such as those of the last layer, are ignored.

    Args:
      params: the parameters of an ``AlexNet``, layer -> ``{"kernel": ..., "bias": ...}``, for their shapes.
      tensors: the state dict, ``features.0.weight`` and so on. All names may have the prefix ``backbone.``
        and those of wrappers, see ``strip_wrappers``.

    Returns:
      The parameters of the same layers, in float32.

    Raises:
      WeightsError: tensors are missing, have other shapes, are not floating-point numbers, or not finite.

    Example:
      >>> params = {"fc7": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
      >>> backbone_from_torch(params, {"classifier.4.weight": np.ones((3, 2), np.float32)})
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 of 2 tensors is missing:
        classifier.4.bias
    """
    shapes = layout_shapes(backbone_to_torch, params)
    hint = None
    if shapes.get(FIRST_BIAS, (FILTERS,)) != (FILTERS,):
        hint = Hint("ImageNet weights need AlexNet at full width: set `width` to 1.", arguments=("width",))
    tensors = strip_wrappers(tensors)
    found = select_tensors(tensors, shapes, kind="AlexNet of torchvision", prefixes=PREFIXES, hint=hint)
    return layers_from_torch(params, found)


def backbone_to_torch(params: Layers) -> dict[str, Any]:
    """Renames and transposes parameters of ``AlexNet`` for torchvision; the inverse of ``layers_from_torch``.

    Args:
      params: the parameters, layer -> ``{"kernel": ..., "bias": ...}``; NumPy's, JAX's or traced arrays.

    Raises:
      WeightsError: the parameters are of another backbone.

    Example:
      >>> backbone_to_torch({"fc7": {"kernel": np.array([[1, 3], [2, 4]]), "bias": np.array([5, 6])}})
      {'classifier.4.weight': array([[1, 2],
             [3, 4]]), 'classifier.4.bias': array([5, 6])}
    """
    if unknown := [layer for layer in params if layer not in MODULES]:
        raise WeightsError(
            f"only the backbone alexnet can be converted for torch; this one has {join_names(unknown)}"
        )
    tensors: dict[str, Any] = {}
    for layer, leaves in params.items():
        tensors[f"{MODULES[layer]}.weight"] = _weight(layer, leaves["kernel"])
        tensors[f"{MODULES[layer]}.bias"] = leaves["bias"]
    return tensors


def layers_from_torch(
    layers: Iterable[str], tensors: Mapping[str, np.ndarray], prefix: str = ""
) -> dict[str, dict[str, jax.Array]]:
    """Converts tensors that have been checked to the parameters of these layers."""
    return {
        layer: {
            # ``jnp.array`` copies, because a tensor may be a view of the file's bytes.
            "kernel": jnp.array(_kernel(layer, tensors[f"{prefix}{MODULES[layer]}.weight"])),
            "bias": jnp.array(tensors[f"{prefix}{MODULES[layer]}.bias"]),
        }
        for layer in layers
    }


def _kernel(layer: str, weight: np.ndarray) -> np.ndarray:
    """Converts a weight to the layout of Flax: inputs before units, and channels after pixels."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if layer == "fc6":  # its inputs are flattened channel by channel in torch, pixel by pixel here
        units = len(weight)
        return weight.reshape(units, -1, POOLED, POOLED).transpose(2, 3, 1, 0).reshape(-1, units)
    return weight.T


def _weight(layer: str, kernel: Any) -> Any:
    """Converts a kernel to the layout of torch; the inverse of ``_kernel``."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if layer == "fc6":
        units = kernel.shape[-1]
        return kernel.reshape(POOLED, POOLED, -1, units).transpose(3, 2, 0, 1).reshape(units, -1)
    return kernel.T
