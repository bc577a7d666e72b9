"""Finds data sets that TFDS has prepared, or says which command prepares them.

TFDS is an optional extra, so it is imported when a function is called.
"""

import importlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN
from gradrev_jax.data.formats.tfds.own_features import FEATURES, own_features_only
from gradrev_jax.data.images.paths import is_file
from gradrev_jax.errors import ConfigError, DataError, did_you_mean, first_line


def import_tfds() -> Any:
    """Imports the package tensorflow_datasets.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        importlib.import_module("array_record")
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise ConfigError(
            f"data sets of TFDS need the package TensorFlow Datasets, but: {error}; install it with "
            "pip install -c constraints.txt -e '.[tfds]'"
        ) from error


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Returns the builder of a data set that is prepared and can be read.

    Args:
      name: the name in TFDS.
      data_dir: the folder in which TFDS prepares data sets; None: the default of TFDS.

    Raises:
      DataError: the data set is unknown, not prepared, or prepared in a format that only TensorFlow reads;
        the message has the command that prepares it.
    """
    tfds = import_tfds()
    place = data_dir or "the folder of TFDS"
    try:
        with own_features_only(tfds, f"{name!r} in {place}"):
            builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = dict.fromkeys(tfds.list_builders(with_community_datasets=False))
        hint = did_you_mean(
            name.lower(), known, otherwise="tfds.list_builders() has all names.", most=5, cutoff=0.5
        )
        raise DataError(
            f"TFDS has no data set called {name!r}, and none is prepared in {place}; "
            f"{hint} Set `name`, or `data_dir`.",
            arguments=("name", "data_dir"),
        ) from error
    except (MemoryError, DataError):
        raise
    except Exception as error:  # a name of another form, or damaged files, lead to errors of many types
        raise DataError(
            f"`name` = {name!r} in {place}: {first_line(error).strip()}", arguments=("name", "data_dir")
        ) from error
    command = _prepare_command(builder.name, name, data_dir)
    if not builder.info.splits:
        raise DataError(
            f"{name} is not prepared in {builder.data_path}; set `data_dir` to the folder where it is, or "
            f"prepare it with\n  {command}\nA few builders, among them those of shapes3d and dsprites, need "
            "TensorFlow for that (not for reading), because they produce arrays instead of image files.",
            arguments=("data_dir",),
        )
    _check_description(pathlib.Path(builder.data_path, FEATURES))
    if not builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        raise DataError(
            f"{builder.data_path} is prepared as {builder.info.file_format.value}, which only TensorFlow "
            f"reads; remove it, or choose another folder, and prepare it with\n  {command}"
        )
    return builder


def _check_description(path: pathlib.Path) -> None:
    """Raises a DataError if a description of features is damaged; TFDS does not read it where it has code."""
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare the data set again") from error


def _prepare_command(builder: str, name: str, data_dir: str | None) -> str:
    """Returns the command that has TFDS prepare a data set."""
    if builder == "shopping100k":
        folder = f" --data_dir={data_dir}" if data_dir else ""
        return f"python -m gradrev_commands.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS{folder}"
    folder = f", data_dir={data_dir!r}" if data_dir else ""
    return (
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}{folder}, '
        "file_format='array_record').download_and_prepare()\""
    )


def assign_parts(builder: Any, splits: Sequence[str]) -> dict[str, str]:
    """Returns the part of each split, in the order of the parts.

    Args:
      builder: the builder of the data set.
      splits: the splits, see ``read_tfds``.

    Returns:
      A single split for train, or two or three splits, no two of which share an image.

    Raises:
      DataError: a split does not exist or is empty, or two of them overlap.
    """
    available = builder.info.splits
    if not splits:
        named = [split for split in PARTS if split in available]
        splits = named if TRAIN in named else tuple(available) if len(available) == 1 else ()
    parts = {1: (TRAIN,), 2: (TRAIN, TEST), 3: PARTS}.get(len(splits))
    known = ", ".join(f"{split} ({info.num_examples})" for split, info in available.items())
    if parts is None or len(set(splits)) < len(splits):
        raise DataError(
            f"{builder.name} has the splits {known}; set `splits` to those of train and test, to those of "
            "train, validation and test, or to a single one, which is then split",
            arguments=("splits",),
        )
    for split in splits:
        try:
            empty = not available[split].num_examples
        except (ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(
                f"{builder.name} has the splits {known}; `splits`: {reason}", arguments=("splits",)
            ) from error
        if empty:
            raise DataError(
                f"{builder.name}: split {split!r} has no images; set `splits`; there are {known}",
                arguments=("splits",),
            )
    files = {split: _file_instructions(builder, split) for split in splits}
    for one, other in itertools.combinations(splits, 2):
        if _overlap(files[one], files[other]):
            raise DataError(
                f"{builder.name}: the splits {one!r} and {other!r} have images in common, so training images "
                "would be test images; set `splits`",
                arguments=("splits",),
            )
    return dict(zip(splits, parts, strict=True))


def split_records(builder: Any, splits: Iterable[str]) -> dict[str, Sequence[Any]]:
    """Returns the serialised records of each split.

    Raises:
      DataError: a file of records is missing, or lies elsewhere.
    """
    raw = import_tfds().decode.DeserializeMethod.RAW_BYTES
    for split in splits:
        for instruction in _file_instructions(builder, split):
            name = os.path.relpath(instruction.filename, builder.data_path)
            if name.startswith(os.pardir):
                raise DataError(f"{builder.data_path}: split {split!r} names {name}, a file elsewhere")
            if not is_file(pathlib.Path(instruction.filename)):
                raise DataError(f"{instruction.filename} is missing; prepare {builder.name} again")
    return {split: builder.as_data_source(split, deserialize_method=raw) for split in splits}


def _file_instructions(builder: Any, split: str) -> list[Any]:
    """Returns which records of which files a split has.

    Raises:
      DataError: the description of the data set is damaged.
    """
    try:
        return list(builder.info.splits[split].file_instructions)
    except Exception as error:  # templates of names, and numbers of records, may be anything
        raise DataError(
            f"{builder.data_path}: the files of split {split!r} cannot be told: {first_line(error)}; prepare "
            "it again"
        ) from error


def _overlap(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Returns whether two splits, each the records of some files, have one in common."""
    return any(
        a.filename == b.filename and a.skip < b.skip + b.take and b.skip < a.skip + a.take
        for a, b in itertools.product(one, other)
    )
