"""ImageNet weights for the backbone, from a file of torchvision's AlexNet; torch is not needed."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import POOLED
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.state_dicts import fitting, laid_out_shapes, unwrapped

# Layer of ours -> module of torchvision's AlexNet.
MODULES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
}
# What stands before a name: nothing, DataParallel's, that of an encoder's backbone (as ADDE-M's), or both.
PREFIXES = ("", "module.", "backbone.", "module.backbone.")
FIRST_BIAS, FILTERS = "features.0.bias", 64  # of AlexNet's first convolution

Layers = Mapping[str, Mapping[str, Any]]


def with_pretrained_backbone(params: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Parameters of an encoder, with its backbone's from a file of torchvision's AlexNet.

    Args:
      params: of an ``AttributeEncoder``, ``{"params": {"backbone": ..., ...}}``, as its ``init`` gives them;
        only the backbone's shapes are looked at, so ``jax.eval_shape`` of it serves to check a file.
      path: a ``.pth`` or ``.safetensors`` file.

    Returns:
      A new tree; all but the backbone is what it was.

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
    try:
        tensors = read_state_dict(path)
    except WeightsError as error:
        raise WeightsError(f"model.pretrained: {error}") from error
    try:
        backbone = backbone_from_torch(params["params"]["backbone"], tensors)
    except WeightsError as error:
        raise WeightsError(f"model.pretrained: {path}: {error}") from error
    return {**params, "params": {**params["params"], "backbone": backbone}}


def backbone_from_torch(params: Layers, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, jax.Array]]:
    """AlexNet's parameters from a state dict of torchvision's.

    Names, shapes and dtypes are checked before anything is converted. Tensors that the tap does not use, as
    those of the last layer, are not looked at.

    Args:
      params: of an ``AlexNet``, layer -> ``{"kernel": ..., "bias": ...}``, for their shapes.
      tensors: ``features.0.weight`` and so on, maybe with ``backbone.`` and wrappers (see ``unwrapped``)
        before it.

    Returns:
      The layers of params, in float32.

    Raises:
      WeightsError: tensors are missing, of other shapes, no floating-point numbers, or not finite.

    Example:
      >>> params = {"fc7": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
      >>> backbone_from_torch(params, {"classifier.4.weight": np.ones((3, 2), np.float32)})
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 of 2 tensors is missing:
        classifier.4.bias
    """
    shapes = laid_out_shapes(backbone_layout, params)
    filters = shapes.get(FIRST_BIAS, (FILTERS,))[0]
    hint = "\nImageNet weights fit AlexNet as it is: set model.width to 1." if filters != FILTERS else ""
    tensors = unwrapped(tensors)
    found = fitting(tensors, shapes, kind="AlexNet of torchvision's", prefixes=PREFIXES, hint=hint)
    return backbone_of(params, found)


def backbone_layout(params: Layers) -> dict[str, Any]:
    """AlexNet's parameters under torchvision's names and in its layout; ``backbone_of`` is the way back.

    Args:
      params: layer -> ``{"kernel": ..., "bias": ...}``, of arrays of any kind.

    Example:
      >>> backbone_layout({"fc7": {"kernel": np.array([[1, 3], [2, 4]]), "bias": np.array([5, 6])}})
      {'classifier.4.weight': array([[1, 2],
             [3, 4]]), 'classifier.4.bias': array([5, 6])}
    """
    tensors: dict[str, Any] = {}
    for layer, leaves in params.items():
        tensors[f"{MODULES[layer]}.weight"] = _weight(layer, leaves["kernel"])
        tensors[f"{MODULES[layer]}.bias"] = leaves["bias"]
    return tensors


def backbone_of(
    layers: Iterable[str], tensors: Mapping[str, np.ndarray], prefix: str = ""
) -> dict[str, dict[str, jax.Array]]:
    """These layers' parameters, of tensors that have been checked."""
    return {
        layer: {
            # Copies: a tensor may be a view of the file's bytes.
            "kernel": jnp.array(_kernel(layer, tensors[f"{prefix}{MODULES[layer]}.weight"])),
            "bias": jnp.array(tensors[f"{prefix}{MODULES[layer]}.bias"]),
        }
        for layer in layers
    }


def _kernel(layer: str, weight: np.ndarray) -> np.ndarray:
    """A weight in Flax's layout: inputs before units, and channels after the pixels that they lie at."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if layer == "fc6":  # reads pooled pixels, which torch flattens channel by channel, we pixel by pixel
        units = len(weight)
        return weight.reshape(units, -1, POOLED, POOLED).transpose(2, 3, 1, 0).reshape(-1, units)
    return weight.T


def _weight(layer: str, kernel: Any) -> Any:
    """A kernel in torch's layout, the way back of ``_kernel``."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if layer == "fc6":
        units = kernel.shape[-1]
        return kernel.reshape(POOLED, POOLED, -1, units).transpose(3, 2, 0, 1).reshape(units, -1)
    return kernel.T
