"""The backbones of an encoder, by name.

To add one, write its Flax module in a file of this folder, and add a line to ``BACKBONES``.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
from jax.typing import DTypeLike

from gradrev_jax.models import alexnet


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Represents a family of networks from images to features.

    Attributes:
      build: a function of (tap, width, dropout, dtype) that returns a Flax module; the class of the module if
        these are its first fields. The module is called with (images [B, S, S, 3], train, shard) and returns
        features [B, H]; ``AlexNet`` documents all of these.
      smallest_image: the smallest number of rows, and of columns, of an image.
      taps: the names of the layers whose output can be the feature.
    """

    build: Callable[[str, float, float, DTypeLike], nn.Module]
    smallest_image: int
    taps: tuple[str, ...]


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone(alexnet.AlexNet, alexnet.SMALLEST_IMAGE, alexnet.TAPS),
}


def find_backbone(name: str) -> Backbone:
    """Returns the backbone of a name.

    Raises:
      ValueError: the name is unknown; the message lists the names.

    Example:
      >>> find_backbone("alexnet").taps
      ('fc6', 'fc6_relu', 'fc7', 'fc7_relu')
      >>> find_backbone("resnet")
      Traceback (most recent call last):
      ValueError: backbone must be one of alexnet, got 'resnet'
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {name!r}")
    return BACKBONES[name]
