"""Opens a model that is shared over a gallery of whoever opens it, whose labels need not be the model's."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.spaces import Images
from gradrev_jax.data.catalogue import PARTS, TEST, Catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.paths import paths_outside, quote_path
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, DataError, first_line, join_lines, join_names
from gradrev_jax.files import expand
from gradrev_jax.models.inference import embedding_dim, encode
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs import builders
from gradrev_jax.runs.formats import FORMATS, image_limits
from gradrev_jax.runs.model_file import MODEL_FILE, Checkpoint, read_checkpoint
from gradrev_jax.runs.restore import restore
from gradrev_jax.serving.space import SearchSpace, open_space

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of images in a folder
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


def open_gallery_catalogue(config: Any, schema: AttributeSchema, given: Mapping[str, Any]) -> Catalogue:
    """Opens the gallery of whoever opens a model: a catalogue, or a folder of images without any labels.

    A folder that has no table is one of images, all of which are its test part.

    Args:
      config: the model's config, with what they gave.
      schema: the model's attributes.
      given: the fields of ``config.data`` that they gave.

    Raises:
      DataError: the catalogue cannot be used, or there is no image.
    """
    data = config.data
    if given.get("root") and "format" not in given and not FORMATS[data.format].required.get("root"):
        data.format = "table"  # what the model was trained on lies in no folder
    root = expand(data.root, "data.root") if data.root else None
    if data.format != "table" or root is None or not root.is_dir() or (root / data.table).exists():
        return relabel(builders.open_catalogue(config), schema)
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"{root} has neither {data.table} nor images; give a folder of images as data.root")
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    limits = image_limits(data)
    outside = {} if limits.outside else paths_outside(root, names)
    if outside:
        problems = [f"{quote_path(names[position])} {leads}" for position, leads in outside.items()]
        raise DataError(
            f"{root}: images that cannot be used; set data.outside=true if you trust the folder:\n"
            f"{join_lines(problems)}"
        )
    labels = np.full((len(names), schema.num_attributes), NOT_LABELLED, np.int32)
    parts = {part: np.arange(len(names) if part == TEST else 0) for part in PARTS}
    return Catalogue(
        schema=schema, images=ImageFiles(root, names, limits.largest_image), labels=labels, parts=parts
    )


def relabel(catalogue: Catalogue, schema: AttributeSchema) -> Catalogue:
    """Returns a catalogue in the attributes and values of a model; what is unknown to it is unlabelled.

    Args:
      catalogue: any catalogue.
      schema: the model's attributes.
    """
    if catalogue.schema == schema:
        return catalogue
    labels = np.full((len(catalogue.labels), schema.num_attributes), NOT_LABELLED, np.int32)
    unknown: list[str] = []
    absent = [name for name in schema.names if name not in catalogue.schema.names]
    if absent:
        say(f"the catalogue has no attribute {join_names(absent)}, for which its images are not labelled")
    for n, name in enumerate(schema.names):
        if name in absent:
            continue
        column = catalogue.schema.names.index(name)
        values = catalogue.schema.values[column]
        positions = {value: position for position, value in enumerate(schema.values[n])}
        unknown += [f"{name}: {value}" for value in values if value not in positions]
        table = np.array([positions.get(value, NOT_LABELLED) for value in values] + [NOT_LABELLED], np.int32)
        labels[:, n] = table[catalogue.labels[:, column]]  # -1, not labelled, is the last
    unknown += [name for name in catalogue.schema.names if name not in schema.names]
    if unknown:
        say(f"the model does not know {join_names(unknown)}; such images count as not labelled")
    return dataclasses.replace(catalogue, schema=schema, labels=labels, queries=None, triplets=None)
