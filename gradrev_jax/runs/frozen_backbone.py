"""Opens a backbone that is not trained, keeps its weights in the run's folder, and computes its features."""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from gradrev_jax.errors import WeightsError, join_names
from gradrev_jax.models.backbones import find_backbone
from gradrev_jax.models.initialization import jit_once
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.runs import model_file
from gradrev_jax.runs.starting_weights import read_starting_weights, with_starting_weights
from gradrev_jax.weights.instructions import LONGEST_NAME
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.writer import write_state_dict

BACKBONE_FILE = "backbone.safetensors"
SEPARATOR = "/"  # between the names of a module and of its parameters, in the file


class FrozenBackbone(NamedTuple):
    """Represents a backbone that is not trained.

    Attributes:
      network: the Flax module.
      inputs: the images that it reads.
      variables: its parameters and statistics.
      fingerprint: a hash of the network and of its weights, which tells its features from those of another.
    """

    network: nn.Module
    inputs: PixelInputs
    variables: Any
    fingerprint: str

    def output_width(self, image_size: int) -> int:
        """Returns the number of features of an image, without computing any.

        Args:
          image_size: the height and width of the images, in pixels.
        """
        example = self.inputs.example(image_size)
        return int(jax.eval_shape(self.network.apply, self.variables, example).shape[-1])


def open_frozen_backbone(config: ConfigDict, directory: pathlib.Path) -> FrozenBackbone:
    """Returns the frozen backbone of a run: the one in its folder, or else the one that its config names.

    Args:
      config: the config of the run, whose tap is set.
      directory: the folder of the run, which need not exist.

    Raises:
      WeightsError: the weights cannot be read, or are of another network.
      WorkdirError: the weights of a shared model do not fit its config.
    """
    backbone = find_backbone(config.model.backbone)
    assert isinstance(backbone.inputs, PixelInputs), "the config was checked"
    network = backbone.build(config.model.tap, config.model.width, 0.0, jnp.float32)
    example = backbone.inputs.example(config.data.image_size)
    path = directory / BACKBONE_FILE
    is_shared = model_file.holds_model(directory)  # then a stranger's config must not choose the file
    if is_shared or path.exists():
        shapes = jax.eval_shape(network.init, jax.random.key(0), example)
        variables = (
            model_file.read_tree(directory, model_file.BACKBONE, shapes)
            if is_shared
            else _read_variables(path, shapes)
        )
    else:
        variables = jit_once(network.init)(jax.random.key(config.seed), example)
        variables = with_starting_weights(variables, read_starting_weights(config, variables))
    name = f"{config.model.backbone} {config.model.tap} {config.model.width}"
    return FrozenBackbone(network, backbone.inputs, variables, _fingerprint(name, variables))


def _read_variables(path: pathlib.Path, shapes: Any) -> Any:
    """Reads the weights that a run keeps.

    Raises:
      WeightsError: they cannot be read, or are not those of the network.
    """
    tensors, wanted = read_state_dict(path), _by_path(shapes)
    differing = sorted(
        name[:LONGEST_NAME]
        for name in tensors.keys() | wanted.keys()
        if name not in tensors
        or name not in wanted
        or (tensors[name].shape, tensors[name].dtype) != (wanted[name].shape, wanted[name].dtype)
    )
    if differing:
        raise WeightsError(
            f"{path} is of another network than the config, or damaged: it differs in "
            f"{join_names(differing)}; restore it from a copy"
        )
    if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise WeightsError(f"{path} has numbers that are not finite in {bad[0]}; restore it from a copy")
    return flax.traverse_util.unflatten_dict(
        {tuple(name.split(SEPARATOR)): tensor for name, tensor in tensors.items()}
    )


def save_frozen_backbone(directory: pathlib.Path, frozen: FrozenBackbone) -> None:
    """Writes the weights of a frozen backbone into a run's folder, unless they are there.

    The folder is then complete without the file or the package that the weights came from. They are kept
    once, and not in each checkpoint, because no step changes them.

    Raises:
      WeightsError: the folder cannot be written to.
    """
    path = directory / BACKBONE_FILE
    if not path.exists():
        write_state_dict(path, _arrays_by_path(frozen.variables))


@functools.lru_cache(maxsize=4)  # one compilation for all parts
def make_embed(
    network: nn.Module, inputs: PixelInputs, views: int
) -> Callable[[Any, UInt8[Array | np.ndarray, "B S S 3"]], Float[Array, "B V D"]]:
    """Returns a jitted function of (variables, images) that computes a frozen backbone's features.

    Args:
      network: the Flax module.
      inputs: the images that it reads.
      views: 1: of the image; 2: of the image and of its mirror image.
    """

    def embed(variables: Any, images: UInt8[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B V D"]:
        pixels = jnp.asarray(images)
        seen = [pixels, pixels[:, :, ::-1]][:views]
        features: list[Any] = [network.apply(variables, inputs.normalize(view)) for view in seen]
        return jnp.stack(features, axis=1)

    return jax.jit(embed)


def _fingerprint(name: str, variables: Any) -> str:
    """Returns a hash of a network's name, tap and width, and of its weights."""
    key = hashlib.blake2b(name.encode(), digest_size=16)
    for name, leaf in sorted(_arrays_by_path(variables).items()):
        key.update(f"{name} {leaf.shape} {leaf.dtype}".encode())
        key.update(np.ascontiguousarray(leaf).tobytes())
    return key.hexdigest()


def _arrays_by_path(variables: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in _by_path(variables).items()}


def _by_path(variables: Any) -> dict[str, Any]:
    """Returns the leaves of nested variables by their names in the file."""
    return {SEPARATOR.join(path): leaf for path, leaf in flax.traverse_util.flatten_dict(variables).items()}
