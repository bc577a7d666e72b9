"""From a run's config to the objects it describes; shared by training and evaluation.

Below this module and their two entry functions nothing knows what a ConfigDict is.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue, hold_out_validation
from gradrev_jax.data.formats.adde.reader import read_adde
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.data.formats.table.reader import read_table
from gradrev_jax.data.formats.tfds.reader import attribute_mapping, read_tfds
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.data.triplets import Triplets, generate_triplets
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.files import expand
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.runs.fields.protocol import VALIDATION_STRENGTH
from gradrev_jax.runs.fields.table import names_with

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def open_catalogue(config: ConfigDict) -> Catalogue:
    """The catalogue of a run, its validation part held out.

    Raises:
      ConfigError: the gallery has fewer images than the largest K asked for, or queries are to change more
        attributes at once than there are.
      DataError: the catalogue itself cannot be used.
    """
    catalogue = FORMATS[config.data.format](config.data, config.seed)
    catalogue = hold_out_validation(
        catalogue, config.train.validation_fraction, config.seed, split_by=config.data.split_by
    )
    if catalogue.queries is None:
        _check_num_changes(config, "protocol", catalogue.schema)
    gallery, largest = len(catalogue.parts["test"]), max(config.protocol.ks)
    if config.protocol.exclude_query:
        gallery -= 1
    if largest > gallery:
        besides = " besides the query" if config.protocol.exclude_query else ""
        raise ConfigError(
            f"protocol.ks asks for the {largest} nearest, but the gallery (the test part) has {gallery} "
            f"images{besides}; leave out what is above {gallery}, as --config.protocol.ks='(1, 5)' for "
            "train.py or --protocol.ks='(1, 5)' for evaluate.py"
        )
    return catalogue


def evaluation_queries(catalogue: Catalogue, config: ConfigDict) -> Queries:
    """Returns what a run is evaluated with.

    Raises:
      DataError: no query can be asked, or no test image is labelled.
    """
    if (catalogue.part_labels(TEST) == NOT_LABELLED).all():
        raise DataError("no test image is labelled, so there is nothing to evaluate")
    queries = queries_of(catalogue, TEST, config)
    if not len(queries):
        raise DataError(
            "no query can be asked: no test image has the labels of another with one attribute changed; "
            "use more test images or fewer attributes (data.attributes)"
        )
    return queries


def queries_of(catalogue: Catalogue, part: str, config: ConfigDict) -> Queries:
    """The queries whose gallery is a part: those that come with the catalogue, or generated ones.

    Raises:
      ConfigError: more attributes are to change at once than there are.
    """
    count = config.protocol.num_references or None
    if part == TEST and catalogue.queries is not None:
        return catalogue.queries.of_references(count, config.seed)
    _check_num_changes(config, "protocol", catalogue.schema)
    return generate_queries(
        catalogue.part_labels(part),
        catalogue.schema,
        kinds=tuple(config.protocol.kinds),
        num_changes=config.protocol.num_changes,
        num_references=count,
        seed=config.seed,
    )


def triplets_of(catalogue: Catalogue, config: ConfigDict) -> Triplets:
    """What stage 2 trains on: those that come with the catalogue, less what is held out, or generated ones.

    Raises:
      ConfigError: more attributes are to change at once than there are.
      DataError: there are none.
    """
    if catalogue.triplets is not None:
        triplets = catalogue.triplets.first(config.memory.triplets).within(catalogue.parts[TRAIN])
        if not len(triplets):
            raise DataError("none of the triplets that come with the catalogue lies in its training part")
        return triplets
    _check_num_changes(config, "memory", catalogue.schema)
    return generate_triplets(
        catalogue.part_labels(TRAIN),
        catalogue.schema,
        count=config.memory.triplets,
        kinds=tuple(config.memory.kinds),
        num_changes=config.memory.num_changes,
        seed=config.seed,
    )


def _check_num_changes(config: ConfigDict, section: str, schema: AttributeSchema) -> None:
    """Raise where more attributes are to change at once than a catalogue has."""
    wanted, most = config[section].num_changes, schema.num_attributes
    if wanted > most:
        names = ", ".join(schema.names[:10]) + (", ..." if most > 10 else "")
        raise ConfigError(
            f"{section}.num_changes = {wanted}: at most {most}, as many attributes as the catalogue has "
            f"({names})"
        )


def fixed_strength(config: ConfigDict) -> float | None:
    """Returns how many prototypes a manipulation adds; None where validation is to choose."""
    strength = config.protocol.strength
    return None if strength == VALIDATION_STRENGTH else float(strength)


def override(config: ConfigDict, section: str, fields: Mapping[str, Any]) -> None:
    """Set fields of one section.

    Raises:
      ConfigError: a field that is not there, or a value of another type.
    """
    for name, value in fields.items():
        if name not in config[section]:
            raise ConfigError(f"{section} has no field {name!r}; it has {', '.join(config[section])}")
        try:
            config[section][name] = value
        except TypeError as error:
            raise ConfigError(f"{section}.{name} = {value!r}: {error}") from error


def move_data(config: ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets fields of ``data`` that say where a run's catalogue lies now.

    Raises:
      ConfigError: another field, which would make it another catalogue; or a value of another type.
    """
    for name in fields:
        if name in config.data and f"data.{name}" not in names_with("movable"):
            raise ConfigError(
                f"data.{name} belongs to the run and cannot be changed after training, because it would make "
                f"another catalogue; what may be: {', '.join(names_with('movable'))}"
            )
    override(config, "data", fields)


def build_encoder(config: ConfigDict, schema: AttributeSchema) -> AttributeEncoder:
    """The model of a run."""
    return AttributeEncoder(
        schema,
        feature_dim=config.model.feature_dim,
        heads=config.model.heads,
        tap=config.model.tap,
        width=config.model.width,
        reach=config.reversal.reach,
        dropout=config.model.dropout,
        dtype=PRECISIONS[config.precision],
    )


def reversal_scale(config: ConfigDict, schema: AttributeSchema) -> float | np.ndarray:
    """Lambda of all pathways, or of each, [N, N]: row feature, column classifier.

    Raises:
      ConfigError: reversal.strengths is not N rows of N numbers.
    """
    if not config.reversal.strengths:
        return config.reversal.scale
    n = schema.num_attributes
    try:
        strengths = np.array(config.reversal.strengths, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"reversal.strengths holds something that is no number: {error}") from error
    if strengths.shape != (n, n) or not np.isfinite(strengths).all():
        raise ConfigError(
            f"reversal.strengths must be {n} rows of {n} numbers, a row a feature and a column a classifier, "
            f"both in the order {', '.join(schema.names)}; got shape {strengths.shape}"
        )
    return config.reversal.scale * strengths


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
