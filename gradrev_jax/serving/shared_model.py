"""Opens a model that is shared, and encodes images with it."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.core.spaces import Images
from gradrev_jax.errors import ConfigError, DataError, first_line, join_names
from gradrev_jax.models.inference import embedding_dim, encode
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs.model_file import MODEL_FILE, Checkpoint, read_checkpoint
from gradrev_jax.runs.restore import restore
from gradrev_jax.serving.space import SearchSpace, open_space

RESTATED = ("batch_size",)  # the fields of the protocol that do not change what a model finds


def check_protocol_fields(directory: pathlib.Path, protocol: Mapping[str, Any]) -> None:
    """Raises if fields of a model's protocol are overridden, by which nothing is fitted any more.

    Raises:
      ConfigError: they are.

    Example:
      >>> check_protocol_fields(pathlib.Path("model"), {"batch_size": 8})
    """
    if fixed := [f"protocol.{name}" for name in protocol if name not in RESTATED]:
        raise ConfigError(
            f"{directory} compares and edits as it was exported, so {join_names(fixed)} cannot be given; "
            "give it to gradrev-export-model"
        )


class SharedModel(NamedTuple):
    """Represents a model to share, all parts of which fit each other.

    Attributes:
      checkpoint: the checkpoint that it was exported from.
      encoder: the model.
      params: its parameters.
      space: how images are described, compared and edited.
    """

    checkpoint: Checkpoint
    encoder: Encoder
    params: Any
    space: SearchSpace

    def encode(
        self,
        inputs: Rows,
        labels: Int[np.ndarray, "M N"],
        description: str,
        *,
        batch_size: int,
        progress: bool,
    ) -> Images:
        """Encodes images.

        Args:
          inputs: the inputs of the encoder.
          labels: the labels, -1 where there is none, [M, N].
          description: the text of the progress bar.
          batch_size: the number of images in a batch.
          progress: whether the progress bar is shown.
        """
        found = encode(
            self.params,
            inputs,
            labels,
            self.encoder,
            batch_size=batch_size,
            description=description,
            progress=progress,
        )
        return Images(found.features, found.own_logits, found.embeddings, labels)


def open_model(
    directory: pathlib.Path, encoder: Encoder, representation: str, size: int, step: str
) -> SharedModel:
    """Opens a model to share; its space is read and not fitted.

    Args:
      directory: the folder of the model.
      encoder: its encoder.
      representation: the representation that its config names.
      size: the height and width of its images, or the width of its vectors.
      step: the checkpoint that is asked for; it must be the model's.

    Raises:
      UserError: the model is damaged or of another checkpoint, or its parts do not fit each other.
    """
    checkpoint = read_checkpoint(directory)
    params = restore(directory, checkpoint.stage, encoder, size, step).params
    space = read_space(directory, encoder, representation, params, size)
    return SharedModel(checkpoint, encoder, params, space)


def read_space(
    directory: pathlib.Path, encoder: Encoder, representation: str, params: Any, size: int
) -> SearchSpace:
    """Reads the space of a model, and checks that it is one for its encoder.

    Args:
      directory: the folder of the model.
      encoder: its encoder.
      representation: the representation that its config names.
      params: the encoder's parameters.
      size: the height and width of its images, or the width of its vectors.

    Raises:
      DataError: there is no such space.
    """
    path = directory / MODEL_FILE
    space = open_space(path)
    named = (space.schema, space.missing, space.representation)
    if named != (encoder.schema, encoder.missing, representation):
        raise DataError(f"{path} has the search space of another config or schema; export the model again")
    n = encoder.schema.num_attributes
    width = embedding_dim(encoder, params, size)
    blank = Images(
        np.zeros((1, encoder.blocks.count, encoder.feature_dim), np.float32),
        np.zeros((1, encoder.classes.num_values), np.float32),
        np.zeros((1, width), np.float32),
        np.full((1, n), NOT_LABELLED),
    )
    try:
        represented = space.represent(blank)
    except Exception as error:  # whatever arrays of other shapes lead to
        raise DataError(
            f"{path} has a search space that does not fit its encoder ({first_line(error)}); export the "
            "model again"
        ) from error
    if represented.shape[1:] != space.fitted.memory.shape[1:] or not np.isfinite(represented).all():
        raise DataError(
            f"{path} has a search space for {space.fitted.memory.shape[1:]}, and its encoder gives "
            f"{represented.shape[1:]}; export the model again"
        )
    return space
