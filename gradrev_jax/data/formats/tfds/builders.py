"""Data sets that TFDS has prepared: found, or explained by which command they come about.

TFDS is an optional extra, so it is imported when a function is called.
"""

import difflib
import importlib
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN
from gradrev_jax.errors import ConfigError, DataError


def import_tfds() -> Any:
    """The package tensorflow_datasets.

    Raises:
      ConfigError: it is not there.
    """
    try:
        importlib.import_module("array_record")
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise ConfigError(
            f"data.format = 'tfds' needs TensorFlow Datasets, but: {error}; install it with "
            "pip install -c constraints.txt -e '.[tfds]'"
        ) from error


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """The builder of a data set that is there and can be read.

    Args:
      name: as TFDS has it.
      data_dir: folder that TFDS prepares data sets in; None: TFDS's own default.

    Raises:
      DataError: it is unknown, not prepared, or prepared in a format that only TensorFlow reads; the message
        has the command that prepares it.
    """
    tfds = import_tfds()
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = dict.fromkeys(tfds.list_builders(with_community_datasets=False))
        near = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "tfds.list_builders() has all names."
        raise DataError(
            f"TFDS has no data set called {name!r}, and none is prepared in {data_dir or 'its own folder'}; "
            f"{hint} Set data.tfds_name, or data.tfds_dir."
        ) from error
    except (ValueError, AssertionError, ImportError) as error:
        raise DataError(f"data.tfds_name = {name!r}: {str(error).strip().splitlines()[0]}") from error
    command = _prepare_command(builder.name, name, data_dir)
    if not builder.info.splits:
        raise DataError(
            f"{name} is not prepared in {builder.data_path}; set data.tfds_dir to where it is, or prepare it "
            f"with\n  {command}\nA few builders, those of shapes3d and dsprites among them, need TensorFlow "
            "for that (not for reading), because they hand over arrays instead of image files."
        )
    if not builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        raise DataError(
            f"{builder.data_path} is prepared as {builder.info.file_format.value}, which only TensorFlow "
            f"reads; remove it, or choose another folder, and prepare it with\n  {command}"
        )
    return builder


def _prepare_command(builder: str, name: str, data_dir: str | None) -> str:
    """What to type so that TFDS prepares a data set."""
    if builder == "shopping100k":
        folder = f" --data_dir={data_dir}" if data_dir else ""
        return f"python -m gradrev_commands.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS{folder}"
    folder = f", data_dir={data_dir!r}" if data_dir else ""
    return (
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}{folder}, '
        "file_format='array_record').download_and_prepare()\""
    )


def assign_parts(builder: Any, splits: Sequence[str]) -> dict[str, str]:
    """From split to part, in the order of the parts.

    Args:
      builder: of the data set.
      splits: see ``tfds.read_tfds``.

    Returns:
      One split of the train part, or two to three of which no two share an image.

    Raises:
      DataError: a split that does not exist or is empty, or splits that overlap.
    """
    there = builder.info.splits
    if not splits:
        named = [split for split in PARTS if split in there]
        splits = named if TRAIN in named else tuple(there) if len(there) == 1 else ()
    parts = {1: (TRAIN,), 2: (TRAIN, TEST), 3: PARTS}.get(len(splits))
    known = ", ".join(f"{split} ({info.num_examples})" for split, info in there.items())
    if parts is None or len(set(splits)) < len(splits):
        raise DataError(
            f"{builder.name} has the splits {known}; set data.tfds_splits to those of train and test, to "
            "those of train, validation and test, or to one that is split"
        )
    for split in splits:
        try:
            empty = not there[split].num_examples
        except (ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"{builder.name} has the splits {known}; data.tfds_splits: {reason}") from error
        if empty:
            raise DataError(f"{builder.name}: split {split!r} has no images; it has {known}")
    for one, other in itertools.combinations(splits, 2):
        if _overlap(there[one], there[other]):
            raise DataError(
                f"{builder.name}: the splits {one!r} and {other!r} have images in common, so that what is "
                "trained on would be tested on; set data.tfds_splits"
            )
    return dict(zip(splits, parts, strict=True))


def split_records(builder: Any, splits: Iterable[str]) -> dict[str, Sequence[Any]]:
    """The serialised records of each split.

    Raises:
      DataError: a file of them is missing.
    """
    raw = import_tfds().decode.DeserializeMethod.RAW_BYTES
    for split in splits:
        for instruction in builder.info.splits[split].file_instructions:
            if not pathlib.Path(instruction.filename).is_file():
                raise DataError(f"{instruction.filename} is missing; prepare {builder.name} again")
    return {split: builder.as_data_source(split, deserialize_method=raw) for split in splits}


def _overlap(one: Any, other: Any) -> bool:
    """Whether two splits share a record."""
    return any(
        a.filename == b.filename and a.skip < b.skip + b.take and b.skip < a.skip + a.take
        for a, b in itertools.product(one.file_instructions, other.file_instructions)
    )
