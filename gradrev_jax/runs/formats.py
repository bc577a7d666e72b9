"""Opens the catalogue that the ``data`` section of a config describes; one function per format."""

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.data.formats.table.reader import read_table
from gradrev_jax.data.formats.tfds.reader import attribute_mapping, read_tfds
from gradrev_jax.distributed import say
from gradrev_jax.errors import DataError
from gradrev_jax.files import expand


def _folder(path: str | pathlib.Path, field: str) -> pathlib.Path:
    """Returns a folder of ``data`` that must be there."""
    folder = expand(path, f"data.{field}")
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"{folder.absolute()} {state}; set data.{field}, as --config.data.{field}=FOLDER for train.py or "
            f"--data.{field}=FOLDER for evaluate.py and compare"
        )
    return folder


def _table(data: ConfigDict, seed: int) -> Catalogue:
    return read_table(
        _folder(data.root, "root"),
        table=data.table,
        delimiter={"tab": "\t", "\\t": "\t"}.get(data.delimiter, data.delimiter),
        image_column=data.image_column,
        image_template=data.image_template,
        split_column=data.split_column or None,
        test_fraction=data.test_fraction,
        seed=seed,
        split_by=data.split_by,
        limit=data.limit,
        attributes=tuple(map(str, data.attributes)),
        ignore=tuple(map(str, data.ignore)),
        rules=CellRules(tuple(map(str, data.missing_words)), data.merge_spellings, data.value_separator),
        verbatim=tuple(map(str, data.verbatim)),
        min_count=data.min_count,
        say=say,
    )


def _garments(data: ConfigDict, seed: int) -> Catalogue:
    return garments_catalogue(
        count=data.count,
        seed=seed,
        test_fraction=data.test_fraction,
        missing=data.missing,
        correlation=data.correlation,
    )


def _adde(data: ConfigDict, seed: int) -> Catalogue:
    root = _folder(data.root, "root")
    splits = _folder(root / expand(data.splits, "data.splits"), "splits") if data.splits else root
    return read_adde(splits, root, drop_contradictions=data.drop_contradictions)


def _tfds(data: ConfigDict, seed: int) -> Catalogue:
    return read_tfds(
        data.tfds_name,
        data_dir=str(expand(data.tfds_dir, "data.tfds_dir")) if data.tfds_dir else None,
        attributes=attribute_mapping(data.tfds_attributes),
        image_feature=data.tfds_image,
        splits=tuple(data.tfds_splits),
        test_fraction=data.test_fraction,
        min_count=data.min_count,
        limit=data.limit,
        seed=seed,
        split_by=data.split_by,
    )


FORMATS: dict[str, Callable[[ConfigDict, int], Catalogue]] = {
    "table": _table,
    "adde": _adde,
    "garments": _garments,
    "tfds": _tfds,
}
