"""The backbones of an encoder, by name.

To add one, write its Flax module in a file of this folder, and add a line to ``BACKBONES``.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
from jax.typing import DTypeLike

from gradrev_jax.models import alexnet, efficientnet, embeddings
from gradrev_jax.models.inputs import PixelInputs, VectorInputs


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Represents a family of networks from images, or stored vectors, to features.

    Attributes:
      build: a function of (tap, width, dropout, dtype) that returns a Flax module; the class of the module if
        these are its first fields. The module is called with (inputs, train, shard) and returns features
        [B, H]; ``AlexNet`` documents all of these. Batch normalisation is that of ``models.batch_norm``.
      inputs: what it reads: ``PixelInputs``, with their smallest size and their normalisation, or
        ``VectorInputs``.
      taps: the names of the layers whose output can be the feature; the first is the usual one.
      uneven_taps: those of them whose numbers differ in size, because they come from several layers; where
        the network is frozen, each number is divided by its standard deviation.
    """

    build: Callable[[str, float, float, DTypeLike], nn.Module]
    inputs: PixelInputs | VectorInputs
    taps: tuple[str, ...]
    uneven_taps: tuple[str, ...] = ()


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone(alexnet.AlexNet, PixelInputs(alexnet.SMALLEST_IMAGE), alexnet.TAPS),
    "efficientnet_lite0": Backbone(
        efficientnet.EfficientNetLite0,
        PixelInputs(efficientnet.SMALLEST_IMAGE, efficientnet.MEAN, efficientnet.STD),
        efficientnet.TAPS,
        uneven_taps=efficientnet.UNEVEN_TAPS,
    ),
    "embeddings": Backbone(embeddings.Embeddings, VectorInputs(), embeddings.TAPS),
}


def find_backbone(name: str) -> Backbone:
    """Returns the backbone of a name.

    Raises:
      ValueError: the name is unknown; the message lists the names.

    Example:
      >>> find_backbone("alexnet").taps
      ('fc6_relu', 'fc6', 'fc7', 'fc7_relu')
      >>> find_backbone("resnet")
      Traceback (most recent call last):
      ValueError: backbone must be one of alexnet, efficientnet_lite0, embeddings, got 'resnet'
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {name!r}")
    return BACKBONES[name]
