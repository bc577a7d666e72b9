"""The formats of a catalogue: the config fields of each, and how it is opened.

To add a format, write its reader in ``data/formats``, and here its fields, a function that calls the reader,
and a line in ``FORMATS``; docs/extending.md has an example.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue, Sampling
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.formats.table.columns import AttributeRules
from gradrev_jax.data.formats.table.labels import MISSING_WORDS, CellRules
from gradrev_jax.data.formats.table.notes import Note
from gradrev_jax.data.formats.table.reader import TableLayout, read_table
from gradrev_jax.data.formats.tfds.reader import TfdsFeatures, attribute_mapping, read_tfds
from gradrev_jax.data.images.limits import ImageLimits
from gradrev_jax.distributed import say
from gradrev_jax.errors import DataError, name_arguments, naming
from gradrev_jax.files import expand
from gradrev_jax.systems.field import Field, Rule

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
        where = "; a relative one starts in data.root" if field == "splits" else ""
        raise DataError(
            f"{folder.absolute()} {state}; set data.{field}: --config.data.{field}=FOLDER for train.py, "
            f"--data.{field}=FOLDER for commands that read a run, data={{'{field}': FOLDER}} in Python{where}"
        )
    return folder


def _sampling(data: ConfigDict, seed: int) -> Sampling:
    return Sampling(data.limit, data.test_fraction, data.split_by, seed)


def image_limits(data: ConfigDict) -> ImageLimits:
    """Returns the limits of image files, from the section ``data`` of a config."""
    return ImageLimits(data.outside, data.largest_image)


def _table(data: ConfigDict, seed: int, known: AttributeSchema | None = None) -> Catalogue:
    root = _folder(data.root, "root")
    layout = TableLayout(
        table=data.table,
        delimiter={"tab": "\t", "\\t": "\t"}.get(data.delimiter, data.delimiter),
        image_column=data.image_column,
        image_template=data.image_template,
        split_column=data.split_column or None,
        files_required=not data.embeddings,
    )
    rules = AttributeRules(
        attributes=tuple(map(str, data.attributes)),
        ignore=tuple(map(str, data.ignore)),
        cells=CellRules(tuple(map(str, data.missing_words)), data.merge_spellings, data.value_separator),
        verbatim=tuple(map(str, data.verbatim)),
        min_count=data.min_count,
        known={} if known is None else dict(zip(known.names, known.values, strict=True)),
    )
    with naming(FIELD, SEED):
        sampling, limits = _sampling(data, seed), image_limits(data)
        return read_table(root, layout, rules, sampling, limits=limits, say=say_note)


def _garments(data: ConfigDict, seed: int) -> Catalogue:
    with naming(FIELD, {**SEED, "missing": "data.missing_fraction"}):
        return garments_catalogue(
            count=data.count,
            seed=seed,
            test_fraction=data.test_fraction,
            missing=data.missing_fraction,
            correlation=data.correlation,
        )


def _adde(data: ConfigDict, seed: int) -> Catalogue:
    root = _folder(data.root, "root")
    splits = _folder(root / expand(data.splits, "data.splits"), "splits") if data.splits else root
    with naming(FIELD):
        return read_adde(
            splits,
            root,
            drop_contradictions=data.drop_contradictions,
            files_required=not data.embeddings,
            limits=image_limits(data),
        )


def _tfds(data: ConfigDict, seed: int) -> Catalogue:
    data_dir = str(expand(data.tfds_dir, "data.tfds_dir")) if data.tfds_dir else None
    with naming(FIELD, TFDS):
        features = TfdsFeatures(attribute_mapping(data.tfds_attributes), data.tfds_image, data.min_count)
        return read_tfds(
            data.tfds_name,
            data_dir,
            features,
            splits=tuple(data.tfds_splits),
            sampling=_sampling(data, seed),
            limits=image_limits(data),
        )


DELIMITER = Rule(
    "one character, as ';', or tab, or '' to recognise it",
    lambda value: value in ("", "tab", "\\t") or (len(value) == 1 and value not in '"\r\n '),
)

_TABLE_FIELDS = {
    "table": Field(default="attributes.csv", meaning="CSV file, relative to `root` (table).", same_test=True),
    "delimiter": Field(
        default="",
        meaning="Delimiter of the cells, as `;` or `tab`; empty: comma, semicolon, tab or bar, recognised "
        "from the header (table).",
        rule=DELIMITER,
        earlier=",",
    ),
    "image_column": Field(
        default="image", meaning="Column with the path of the image, relative to `root` (table)."
    ),
    "image_template": Field(
        default=None,
        kind=str,
        meaning="Path of the image made from columns, as `images/{id}.jpg`, or `images/{id:06d}.jpg` for "
        "000001.jpg; unset: `image_column` has the path (table).",
    ),
    "split_column": Field(
        default="split",
        meaning="Column with train, validation or test; empty: a seeded split (table).",
        same_test=True,
    ),
    "attributes": Field(
        default=(),
        meaning="Columns that are attributes; (): all that have no other use (table).",
        movable=True,
        same_test=True,
    ),
    "ignore": Field(
        default=(),
        meaning="Columns that are not attributes (table).",
        movable=True,
        same_test=True,
        earlier=(),
    ),
    "missing_words": Field(
        default=MISSING_WORDS,
        meaning="Cells that mean `not labelled`, as empty cells do, in any case; (): empty cells alone "
        "(table).",
        same_test=True,
        earlier=(),
    ),
    "merge_spellings": Field(
        default=True,
        meaning="Whether spellings that differ in case, white space or Unicode form, or as 7 and 7.0 do, are"
        " one value (table).",
        same_test=True,
        earlier=False,
    ),
    "value_separator": Field(
        default="",
        meaning="Separator of several values in one cell, as `|`, whose order then does not matter; empty: a "
        "cell is one value (table).",
        same_test=True,
        earlier="",
    ),
    "verbatim": Field(
        default=(),
        meaning="Columns whose cells are values as they are: the three fields above do not apply (table).",
        same_test=True,
        earlier=(),
    ),
}

_ADDE_FIELDS = {
    "splits": Field(
        default=None,
        kind=str,
        meaning="Folder of the split files, relative to `root`; unset: `root` (adde).",
        resumable=True,
        movable=True,
        same_test=True,
    ),
    "drop_contradictions": Field(
        default=False,
        meaning="Whether queries and triplets that contradict the labels are left out (adde).",
    ),
}

_GARMENTS_FIELDS = {
    "count": Field(
        default=4000,
        meaning="Number of images, train and test together (garments).",
        same_test=True,
    ),
    "missing_fraction": Field(
        default=0.0,
        meaning="Fraction of the training labels that is hidden (garments).",
        earlier=0.0,
        formerly="missing",
    ),
    "correlation": Field(
        default=0.0,
        meaning="Fraction of the training images whose attributes follow their category (garments).",
    ),
}

_TFDS_FIELDS = {
    "tfds_name": Field(default=None, kind=str, meaning="Name of the data set in TFDS, as `shapes3d` (tfds)."),
    "tfds_dir": Field(
        default="",
        meaning="Folder that TFDS prepares data sets in; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets "
        "(tfds).",
        resumable=True,
        movable=True,
    ),
    "tfds_image": Field(default="image", meaning="Feature that holds the image (tfds)."),
    "tfds_attributes": Field(
        default=(),
        meaning="Features that are attributes, as `hat=attributes/Wearing_Hat`; (): those of MAPPINGS in "
        "data/formats/tfds/reader.py, or all classes (tfds).",
    ),
    "tfds_splits": Field(
        default=(),
        meaning="Splits of train and test, or of train, validation and test, as `('train[:80%]', "
        "'train[80%:]')`; one: its test part is drawn with the seed; (): those of these names (tfds).",
    ),
}


class Format(NamedTuple):
    """One form that a catalogue comes in.

    Attributes:
      open: (the section ``data`` of a config, seed) -> the catalogue.
      fields: the fields of ``data`` that the format has for itself.
      required: the fields of ``data`` that must be set, each with what it is.
      takes_limit: whether it can draw ``data.limit`` images.
      reopen: the same for a catalogue that a run was trained on, (section, seed, the run's attributes) ->
        the catalogue, its values spelled as the run's; None: nothing in it depends on them.
    """

    open: Callable[[ConfigDict, int], Catalogue]
    fields: Mapping[str, Field] = {}
    required: Mapping[str, str] = {}
    takes_limit: bool = False
    reopen: Callable[[ConfigDict, int, AttributeSchema], Catalogue] | None = None


_ROOT = {"root": "the folder that holds the catalogue's images"}

FORMATS: dict[str, Format] = {
    "table": Format(_table, _TABLE_FIELDS, required=_ROOT, takes_limit=True, reopen=_table),
    "adde": Format(_adde, _ADDE_FIELDS, required=_ROOT),
    "garments": Format(_garments, _GARMENTS_FIELDS),
    "tfds": Format(
        _tfds,
        _TFDS_FIELDS,
        required={"tfds_name": "what TFDS calls the data set, as shapes3d"},
        takes_limit=True,
    ),
}
