"""ImageNet weights for the backbone, from a file of torchvision's AlexNet; torch is not needed."""

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.alexnet import POOLED
from gradrev_jax.torch_files import read_state_dict

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
      tensors: ``features.0.weight`` and so on, maybe with a ``module.`` or ``backbone.`` before it.

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
    shapes = _torch_shapes(params)
    found = _find(tensors, list(shapes))
    _check(found, shapes)
    converted = {name: _as_float32(name, tensor) for name, tensor in found.items()}
    return {
        layer: {
            # Copies: a tensor may be a view of the file's bytes.
            "kernel": jnp.array(_kernel(layer, converted[f"{MODULES[layer]}.weight"])),
            "bias": jnp.array(converted[f"{MODULES[layer]}.bias"]),
        }
        for layer in params
    }


def _torch_shapes(params: Layers) -> dict[str, tuple[int, ...]]:
    """Name and shape, in torch's layout, of each tensor that the layers need."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, leaves in params.items():
        *window, inputs, units = leaves["kernel"].shape
        shapes[f"{MODULES[layer]}.weight"] = (units, inputs, *window)
        shapes[f"{MODULES[layer]}.bias"] = (units,)
    return shapes


def _find(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named tensors, under the prefix that most of them have."""
    prefix = max(PREFIXES, key=lambda prefix: sum(prefix + name in tensors for name in names))
    missing = [name for name in names if prefix + name not in tensors]
    unused = sorted(tensors.keys() - {prefix + name for name in names})
    if len(missing) > len(names) / 2:
        there = ", ".join(unused[:4]) + (", ..." if len(unused) > 4 else "")
        raise WeightsError(
            f"this is no AlexNet of torchvision's: {len(missing)} of {len(names)} tensors are missing, "
            f"{missing[0]} for one, and it has {there or 'no others'}"
        )
    if missing:
        lines = []
        for name in missing:
            near = difflib.get_close_matches(prefix + name, unused, n=1, cutoff=0.8)
            lines.append(prefix + name + (f" (there is {near[0]})" if near else ""))
        verb = "is" if len(missing) == 1 else "are"
        raise WeightsError(f"{len(missing)} of {len(names)} tensors {verb} missing:\n{_listed(lines)}")
    return {name: tensors[prefix + name] for name in names}


def _check(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless all tensors have their shapes, and are floating-point numbers."""
    differing = [
        f"{name} is {tensor.shape}, and {shapes[name]} is wanted"
        for name, tensor in found.items()
        if tensor.shape != shapes[name]
    ]
    if differing:
        filters = shapes.get(FIRST_BIAS, (FILTERS,))[0]
        hint = "\nImageNet weights fit AlexNet as it is: set model.width to 1." if filters != FILTERS else ""
        raise WeightsError(f"tensors do not fit the model:\n{_listed(differing)}{hint}")
    if others := [
        f"{name}: {tensor.dtype}"
        for name, tensor in found.items()
        if not jnp.issubdtype(tensor.dtype, jnp.floating)
    ]:
        raise WeightsError(f"weights must be floating-point numbers, but\n{_listed(others)}")


def _as_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # told of below
        converted = tensor.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise WeightsError(f"{name} holds numbers that are not finite (in float32); the file is of no use")
    return converted


def _kernel(layer: str, weight: np.ndarray) -> np.ndarray:
    """A weight in Flax's layout: inputs before units, and channels after the pixels that they lie at."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if (
        layer == "fc6"
    ):  # reads the pooled pixels, which torch flattens channel by channel and we pixel by pixel
        units = len(weight)
        return weight.reshape(units, -1, POOLED, POOLED).transpose(2, 3, 1, 0).reshape(-1, units)
    return weight.T


def _listed(problems: Sequence[str]) -> str:
    return "\n".join(f"  {problem}" for problem in problems)
