"""Converts weights of PyTorch's EfficientNet-Lite0 for the backbone of that name, without torch."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gradrev_jax.errors import WeightsError
from gradrev_jax.models.efficientnet import STEM
from gradrev_jax.weights.state_dicts import Hint, select_tensors, strip_wrappers

KIND = "EfficientNet-Lite0 of efficientnet-lite-pytorch"
PREFIXES = ("", "backbone.")
# Module of ``gradrev_jax.models.efficientnet`` -> module of the PyTorch package.
MODULES = {"stem": "_conv_stem", "stem_norm": "_bn0", "head": "_conv_head", "head_norm": "_bn1"}
BLOCK_MODULES = {
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project_norm": "_bn2",
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
BLOCKS, BATCHES = "_blocks.", "num_batches_tracked"
Path = tuple[str, ...]  # collection, block if there is one, module, leaf


def variables_from_torch(
    variables: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Converts a state dict of the PyTorch package to the variables of ``EfficientNetLite0``.

    Names, shapes and dtypes are checked before any tensor is converted. The last layer (``_fc``) and
    PyTorch's counts of batches are ignored.

    Args:
      variables: the variables of an ``EfficientNetLite0``, ``{"params": ..., "batch_stats": ...}``. Only
        their shapes are used, so ``jax.eval_shape`` of its ``init`` will do.
      tensors: the state dict, ``_conv_stem.weight`` and so on. All names may have the prefix ``backbone.``
        and those of wrappers, see ``strip_wrappers``.

    Returns:
      The same variables, in float32.

    Raises:
      WeightsError: tensors are missing, have other shapes, are not floating-point numbers, or not finite; or
        they are of another EfficientNet.

    Example:
      >>> variables = {"params": {"stem_norm": {"scale": jnp.zeros(2), "bias": jnp.zeros(2)}}}
      >>> variables_from_torch(variables, {"_bn0.weight": np.ones(2, np.float32)})
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: 1 of 2 tensors is missing:
        _bn0.bias
    """
    leaves: dict[Path, Any] = flatten_dict(variables)
    names = {path: _tensor_name(path) for path in leaves}
    shapes = {names[path]: _tensor_shape(path[-2], leaf.shape) for path, leaf in leaves.items()}
    tensors = strip_wrappers(tensors)
    _check_blocks(tensors, shapes)
    hint = None
    if shapes.get("_bn0.bias", (STEM,)) != (STEM,):
        hint = Hint(
            "These weights need EfficientNet-Lite0 at full width: set `width` to 1.", arguments=("width",)
        )
    found = select_tensors(tensors, shapes, kind=KIND, prefixes=PREFIXES, hint=hint)
    # ``jnp.array`` copies, because a tensor may be a view of the file's bytes.
    converted = {path: jnp.array(_leaf(path[-2], found[name])) for path, name in names.items()}
    return unflatten_dict(converted)


def is_efficientnet(names: Collection[str]) -> bool:
    """Returns whether tensors of these names seem to be of an EfficientNet from the PyTorch packages.

    Example:
      >>> is_efficientnet(["module._conv_stem.weight"]), is_efficientnet(["features.0.weight"])
      (True, False)
    """
    return any(name.endswith(f"{MODULES['stem']}.weight") for name in names)


def _check_blocks(tensors: Iterable[str], names: Iterable[str]) -> None:
    """Raises an error if blocks have more tensors, as those of EfficientNet-B0, which would fit otherwise."""
    known = {prefix + name for prefix in PREFIXES for name in names}
    if others := sorted(
        name for name in tensors if BLOCKS in name and not name.endswith(BATCHES) and name not in known
    ):
        counted = "1 tensor of its blocks has"
        if len(others) > 1:
            counted = f"{len(others)} tensors of its blocks have"
        raise WeightsError(
            f"this is no {KIND}: {counted} no place in it, for example {others[0]}; "
            "use a file of that network"
        )


def _tensor_name(path: Path) -> str:
    """Returns the name of a leaf in PyTorch."""
    *blocks, module, leaf = path[1:]
    if not blocks:
        return f"{MODULES[module]}.{LEAVES[leaf]}"
    return f"{BLOCKS}{blocks[0].removeprefix('block')}.{BLOCK_MODULES[module]}.{LEAVES[leaf]}"


def _tensor_shape(module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a leaf in PyTorch, where kernels are [filters, inputs, rows, columns]."""
    if module in ("stem", "depthwise"):
        *pixels, inputs, filters = shape if module == "stem" else (*shape[:2], 1, shape[2])
        return (filters, inputs, *pixels)
    return (*shape[::-1], 1, 1) if module in ("expand", "project", "head") else shape


def _leaf(module: str, tensor: np.ndarray) -> np.ndarray:
    """Converts a tensor to the layout of its module, whose shape ``_tensor_shape`` takes."""
    if module == "stem":
        return tensor.transpose(2, 3, 1, 0)
    if module == "depthwise":
        return tensor[:, 0].transpose(1, 2, 0)
    return tensor[:, :, 0, 0].T if module in ("expand", "project", "head") else tensor
