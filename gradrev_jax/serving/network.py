"""The network of a run, for photographs that come one at a time."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.spaces import Images
from gradrev_jax.data.images.limits import LARGEST_IMAGE
from gradrev_jax.errors import DataError
from gradrev_jax.models.forward import make_full_forward
from gradrev_jax.models.inference import select_own
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs import builders
from gradrev_jax.runs.frozen_backbone import FrozenBackbone, make_embed
from gradrev_jax.runs.inputs import open_frozen
from gradrev_jax.runs.restore import restore


class Network(NamedTuple):
    """Represents a network that describes photographs.

    Attributes:
      encoder: the model.
      params: its parameters.
      frozen: the backbone before it, if it is frozen.
      image_size: the height and width of the photographs, in pixels.
      largest_image: the size of the largest photograph that is decoded, in megapixels.
    """

    encoder: Encoder
    params: Any
    frozen: FrozenBackbone | None
    image_size: int
    largest_image: float = LARGEST_IMAGE

    def encode(self, photo: UInt8[np.ndarray, "S S 3"]) -> Images:
        """Encodes a photograph that was turned into a square; it has no labels.

        Args:
          photo: its pixels, [S, S, 3].

        Raises:
          DataError: what the network says of it is not finite.
        """
        inputs: Any = photo[None]
        if self.frozen is not None:
            embed = make_embed(self.frozen.network, self.frozen.inputs, 1)
            inputs = embed(self.frozen.variables, inputs)
        found = jax.device_get(make_full_forward(self.encoder)(self.params, inputs))
        if not all(np.isfinite(array).all() for array in (found.features, found.logits, found.embedding)):
            raise DataError(
                "the network gives numbers that are not finite for this photograph; take another one, or "
                "open another checkpoint"
            )
        logits = np.asarray(self.encoder.blocks.by_attribute(found.logits))
        own_logits = select_own(logits, self.encoder.classes)
        labels = np.full((1, self.encoder.schema.num_attributes), NOT_LABELLED)
        return Images(np.asarray(found.features), own_logits, np.asarray(found.embedding), labels)


def open_network(
    directory: pathlib.Path, config: ConfigDict, schema: AttributeSchema, stage: str, step: int
) -> Network:
    """Restores the network of a run.

    Args:
      directory: the run's folder.
      config: its config.
      schema: its attributes.
      stage: the stage of the checkpoint.
      step: the number of the checkpoint.

    Raises:
      UserError: the checkpoint cannot be read.
      DataError: the network reads vectors that another one computed, which a photograph has not.
    """
    if config.data.embeddings:
        raise DataError(
            f"{directory} was trained on embeddings of another network, so it cannot see photographs; "
            "pick an item of the gallery instead"
        )
    encoder, frozen = builders.build_encoder(config, schema), open_frozen(config, directory)
    size = config.data.image_size
    width = size if frozen is None else frozen.output_width(size)
    shapes = builders.shapes_beside_encoder(config, encoder, stage)
    restored = restore(directory, stage, encoder, width, str(step), beside_encoder=shapes)
    return Network(encoder, restored.params, frozen, size, config.data.largest_image)
