"""Reads the weights that a backbone starts from, whichever backbone it is and whoever wrote the file."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradrev_jax.errors import WeightsError, join_names
from gradrev_jax.files import HEAD
from gradrev_jax.weights import efficientnet
from gradrev_jax.weights.alexnet import backbone_from_torch, is_alexnet, is_flax, layers_from_flax
from gradrev_jax.weights.numpy_pickle import is_plain_pickle, read_numpy_pickle
from gradrev_jax.weights.reader import naming_file, read_state_dict

Variables = Mapping[str, Any]


class Loaded(NamedTuple):
    """Represents what a file has for a backbone.

    Attributes:
      variables: the backbone's variables, without the layers that the file lacks.
      random_layers: the names of these layers, which the caller leaves at their random weights.
    """

    variables: dict[str, Any]
    random_layers: tuple[str, ...]


class Pretrained(NamedTuple):
    """Represents how a backbone takes the tensors of a file.

    Attributes:
      recognises: whether tensors of these names seem to be of this backbone.
      load: takes the backbone's variables, or their shapes, and tensors by name.
    """

    recognises: Callable[[Collection[str]], bool]
    load: Callable[[Variables, Mapping[str, np.ndarray]], Loaded]


def load_backbone(backbone: str, variables: Variables, path: str | os.PathLike[str]) -> Loaded:
    """Reads the variables of a backbone from a file of weights.

    Args:
      backbone: the name of the backbone.
      variables: its variables, ``{"params": ...}``, with ``"batch_stats"`` if it has any. Only their shapes
        are used, so ``jax.eval_shape`` of its ``init`` will do.
      path: the file: one of ``torch.save``, ``.safetensors``, or a pickle of NumPy arrays.

    Returns:
      A part of a tree like ``variables``, in float32, and the names of the layers that it lacks.

    Raises:
      WeightsError: the backbone takes no weights, the file cannot be read, or its tensors do not fit.

    Example:
      >>> import tempfile
      >>> from safetensors.numpy import save_file
      >>> fc6 = {"kernel": np.zeros((36, 8)), "bias": np.zeros(8)}
      >>> conv1 = {"kernel": np.zeros((1, 1, 3, 64)), "bias": np.zeros(64)}
      >>> variables = {"params": {"conv1": conv1, "fc6": fc6}}
      >>> tensors = {
      ...     "features.0.weight": np.ones((64, 3, 1, 1), np.float32),
      ...     "features.0.bias": np.ones(64, np.float32),
      ... }
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_file(tensors, f"{folder}/alexnet.safetensors")
      ...     loaded = load_backbone("alexnet", variables, f"{folder}/alexnet.safetensors")
      >>> loaded.variables["params"]["conv1"]["kernel"].shape, loaded.random_layers
      ((1, 1, 3, 64), ('fc6',))
    """
    if backbone not in PRETRAINED:
        raise WeightsError(
            f"the `backbone` {backbone} takes no weights from a file; {join_names(list(PRETRAINED))} do",
            arguments=("backbone", "path"),
        )
    tensors = _read_tensors(path)
    seems = [name for name, entry in PRETRAINED.items() if entry.recognises(tensors)]
    if seems and backbone not in seems:
        raise WeightsError(
            f"{path} seems to be of the `backbone` {seems[0]}, not of {backbone}; choose that one, or give "
            "another file",
            arguments=("path", "backbone"),
        )
    try:
        return PRETRAINED[backbone].load(variables, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}", arguments=("path", *error.arguments)) from error


def _read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file by name, whose format is recognised by its first bytes."""
    with naming_file(path) as file, file.open("rb") as opened:
        start = opened.read(HEAD)
    if is_plain_pickle(start):
        return arrays_by_name(read_numpy_pickle(path))
    return read_state_dict(path)


def arrays_by_name(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Returns the arrays of nested dicts by name: their keys, joined by slashes.

    Args:
      tree: the dicts, as ``read_numpy_pickle`` returns them.
      prefix: the beginning of all names.

    Example:
      >>> list(arrays_by_name({"fc": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}))
      ['fc/kernel', 'fc/bias']
    """
    arrays: dict[str, np.ndarray] = {}
    for name, part in tree.items():
        if isinstance(part, Mapping):
            arrays.update(arrays_by_name(part, f"{prefix}{name}/"))
        else:
            arrays[prefix + name] = part
    return arrays


def _load_alexnet(variables: Variables, tensors: Mapping[str, np.ndarray]) -> Loaded:
    """Loads the whole of torchvision's AlexNet, or its convolutions."""
    params = variables["params"]
    layers = (layers_from_flax if is_flax(tensors) else backbone_from_torch)(params, tensors)
    return Loaded({"params": layers}, tuple(layer for layer in params if layer not in layers))


def _load_efficientnet(variables: Variables, tensors: Mapping[str, np.ndarray]) -> Loaded:
    return Loaded(efficientnet.variables_from_torch(variables, tensors), ())


# Backbone -> how it takes the tensors of a file.
PRETRAINED: dict[str, Pretrained] = {
    "alexnet": Pretrained(is_alexnet, _load_alexnet),
    "efficientnet_lite0": Pretrained(efficientnet.is_efficientnet, _load_efficientnet),
}
