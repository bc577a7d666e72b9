"""Opens the catalogue that is searched, whose labels need not be those that a model was trained on."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import PARTS, TEST, Catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.paths import paths_outside, quote_path
from gradrev_jax.distributed import say
from gradrev_jax.errors import DataError, did_you_mean, join_lines, join_names
from gradrev_jax.files import expand
from gradrev_jax.runs import builders
from gradrev_jax.runs.formats import FORMATS, image_limits

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of images in a folder
METADATA = "._"  # begins the names of files that macOS writes beside others, which hold no image


def open_catalogue_of_run(config: ConfigDict, schema: AttributeSchema) -> Catalogue:
    """Opens the catalogue of a run as it is now, in the attributes and values that the run was trained on.

    A shop goes on: values come and go, and tables get columns. What the run does not know is not labelled.

    Args:
      config: the run's config.
      schema: the run's attributes.

    Raises:
      DataError: the catalogue cannot be used.
    """
    config = config.copy_and_resolve_references()
    if config.data.format == "table" and not config.data.attributes:
        config.data.attributes = schema.names  # other columns might be refused, such as a price
    return _open(config, schema)


def open_catalogue_for_model(
    config: ConfigDict, schema: AttributeSchema, given: Mapping[str, Any]
) -> Catalogue:
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
        return _open(config, schema)
    paths = sorted(path for path in root.rglob("*") if _is_image(path))
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


def _is_image(path: pathlib.Path) -> bool:
    """Returns whether a path in a folder without a table is that of an image, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(METADATA) and path.is_file()


def _open(config: ConfigDict, schema: AttributeSchema) -> Catalogue:
    """Opens a catalogue in the attributes and values of a model, without what holds for training alone."""
    config = config.copy_and_resolve_references()
    config.data.leave_out = ()  # the model does not know these attributes anyway
    config.data.min_count = 1  # a value that the model knows may have become rare
    return relabel(builders.open_catalogue(config, schema), schema)


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


def where_else(name: str, catalogue: Catalogue, gallery: Sequence[str]) -> str:
    """Returns a hint at an image that is not in the gallery: its part, or if it has none, the nearest names.

    Args:
      name: the name of the image.
      catalogue: the catalogue.
      gallery: the names of the images that are searched.
    """
    for part, rows in catalogue.parts.items():
        if any(catalogue.images.name(row) == name for row in rows.tolist()):
            return f"it is in the part {part!r}, which is not searched; `parts` says which are"
    return did_you_mean(name, gallery, otherwise=f"the first is {gallery[0]}")
