"""The pretrained weights that a run's backbone starts from."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax.distributed import say
from gradrev_jax.errors import join_names, naming
from gradrev_jax.files import expand
from gradrev_jax.weights.installed import imagenet_file
from gradrev_jax.weights.pretrained import load_backbone

IMAGENET = "imagenet"  # the value of model.pretrained for the weights that an install brings


def read_starting_weights(config: ConfigDict, variables: Any) -> Any:
    """Reads the weights that ``model.pretrained`` names; says which layers they lack.

    Args:
      config: the config of a run.
      variables: the parameters and statistics of the backbone, or their shapes.

    Returns:
      A tree like ``variables`` without those layers, for ``with_starting_weights``; {} without any weights.

    Raises:
      WeightsError: the weights are not installed, cannot be read, or do not fit the backbone.
    """
    given = config.model.pretrained
    if given is None:
        return {}
    with naming("model.{}", {"path": "model.pretrained"}):
        path = starting_file(config.model.backbone, given)
        loaded = load_backbone(config.model.backbone, variables, path)
    if loaded.random_layers:
        say(f"{path} has no weights of {join_names(loaded.random_layers)}, which start at random")
    return loaded.variables


def with_starting_weights(variables: Any, weights: Any) -> Any:
    """Returns a tree with the leaves of another, which may lack some, in place of its own.

    Args:
      variables: the parameters and statistics of a backbone.
      weights: those to start from, as ``read_starting_weights`` returns them.

    Example:
      >>> with_starting_weights({"params": {"conv1": 0, "fc6": 0}}, {"params": {"conv1": 1}})
      {'params': {'conv1': 1, 'fc6': 0}}
    """
    if not isinstance(weights, Mapping):
        return weights
    return {
        name: with_starting_weights(part, weights[name]) if name in weights else part
        for name, part in variables.items()
    }


def starting_file(backbone: str, given: str) -> pathlib.Path:
    """Returns the file of pretrained weights.

    Args:
      backbone: the name of the backbone.
      given: ``imagenet``, for the file that an install brings, or a path.

    Raises:
      WeightsError: the weights are not installed.
    """
    return imagenet_file(backbone) if given == IMAGENET else expand(given, "model.pretrained")
