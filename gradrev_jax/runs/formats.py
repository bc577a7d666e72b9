"""Opens the catalogue that the ``data`` section of a config describes; one function per format."""

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import Catalogue, Sampling
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.formats.table.columns import AttributeRules
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.data.formats.table.notes import Note
from gradrev_jax.data.formats.table.reader import TableLayout, read_table
from gradrev_jax.data.formats.tfds.reader import TfdsFeatures, attribute_mapping, read_tfds
from gradrev_jax.distributed import say
from gradrev_jax.errors import DataError, name_arguments, naming
from gradrev_jax.files import expand

FIELD = "data.{}"  # the config field of an argument
SEED = {"seed": "seed"}
TFDS = {
    **SEED,
    "name": "data.tfds_name",
    "data_dir": "data.tfds_dir",
    "attributes": "data.tfds_attributes",
    "image_feature": "data.tfds_image",
    "splits": "data.tfds_splits",
}


def say_note(note: Note) -> None:
    """Says on stderr how a table was read, with the config fields that change it."""
    say(name_arguments(note.text, note.arguments, FIELD, SEED))


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


def _sampling(data: ConfigDict, seed: int) -> Sampling:
    return Sampling(data.limit, data.test_fraction, data.split_by, seed)


def _table(data: ConfigDict, seed: int) -> Catalogue:
    root = _folder(data.root, "root")
    layout = TableLayout(
        table=data.table,
        delimiter={"tab": "\t", "\\t": "\t"}.get(data.delimiter, data.delimiter),
        image_column=data.image_column,
        image_template=data.image_template,
        split_column=data.split_column or None,
    )
    rules = AttributeRules(
        attributes=tuple(map(str, data.attributes)),
        ignore=tuple(map(str, data.ignore)),
        cells=CellRules(tuple(map(str, data.missing_words)), data.merge_spellings, data.value_separator),
        verbatim=tuple(map(str, data.verbatim)),
        min_count=data.min_count,
    )
    with naming(FIELD, SEED):
        return read_table(root, layout, rules, _sampling(data, seed), say=say_note)


def _garments(data: ConfigDict, seed: int) -> Catalogue:
    with naming(FIELD, SEED):
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
    with naming(FIELD):
        return read_adde(splits, root, drop_contradictions=data.drop_contradictions)


def _tfds(data: ConfigDict, seed: int) -> Catalogue:
    data_dir = str(expand(data.tfds_dir, "data.tfds_dir")) if data.tfds_dir else None
    with naming(FIELD, TFDS):
        features = TfdsFeatures(attribute_mapping(data.tfds_attributes), data.tfds_image, data.min_count)
        splits, sampling = tuple(data.tfds_splits), _sampling(data, seed)
        return read_tfds(data.tfds_name, data_dir, features, splits=splits, sampling=sampling)


FORMATS: dict[str, Callable[[ConfigDict, int], Catalogue]] = {
    "table": _table,
    "adde": _adde,
    "garments": _garments,
    "tfds": _tfds,
}
