"""Builds the objects that a run's config describes; training and evaluation share them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TRAIN, Catalogue, hold_out_validation
from gradrev_jax.data.leave_out import leave_out
from gradrev_jax.data.triplets import Triplets, generate_triplets
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.data.vectors.source import EmbeddedImages
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, DataError, naming
from gradrev_jax.files import expand
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.runs.fields.table import names_with
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.runs.protocol import check_num_changes

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def open_catalogue(config: ConfigDict) -> Catalogue:
    """Returns the catalogue of a run, its validation part held out.

    Raises:
      DataError: the catalogue cannot be used.
    """
    catalogue = FORMATS[config.data.format].open(config.data, config.seed)
    with naming("data.{}", {"left_out": "data.leave_out"}):
        catalogue = leave_out(catalogue, tuple(map(str, config.data.leave_out)))
    if config.data.embeddings:
        catalogue = _with_vectors(catalogue, config)
    with naming("data.{}", {"fraction": "train.validation_fraction"}):
        return hold_out_validation(
            catalogue, config.train.validation_fraction, config.seed, split_by=config.data.split_by
        )


def _with_vectors(catalogue: Catalogue, config: ConfigDict) -> Catalogue:
    """Returns a catalogue with the vectors of its images, and with digests that are those of the vectors."""
    names = [catalogue.images.name(row) for row in range(len(catalogue.images))]
    with naming("data.{}"):
        vectors = open_vectors(expand(config.data.embeddings, "data.embeddings"), names, say=say)
    images = EmbeddedImages(catalogue.images, vectors)
    return dataclasses.replace(catalogue, images=images, vectors=vectors)


def with_defaults(config: ConfigDict) -> ConfigDict:
    """Returns a config in which fields that are unset, and whose default depends on others, are set.

    What a run is trained with then stands in its folder, whatever later versions choose.
    """
    if config.model.tap is not None or config.model.backbone not in BACKBONES:
        return config
    config = config.copy_and_resolve_references()
    config.model.tap = BACKBONES[config.model.backbone].taps[0]
    return config


def triplets_of(catalogue: Catalogue, config: ConfigDict) -> Triplets:
    """Returns the triplets that stage 2 trains on: those that come with the catalogue, or generated ones.

    Raises:
      ConfigError: more attributes are to change at once than there are.
      DataError: there are none.
    """
    if catalogue.triplets is not None:
        triplets = catalogue.triplets.first(config.memory.triplets).restrict_to(catalogue.parts[TRAIN])
        if not len(triplets):
            raise DataError("none of the triplets that come with the catalogue lies in its training part")
        return triplets
    check_num_changes("memory.num_changes", config.memory.num_changes, catalogue.schema)
    with naming("memory.{}", {"schema": "data.attributes"}):
        return generate_triplets(
            catalogue.part_labels(TRAIN),
            catalogue.schema,
            count=config.memory.triplets,
            kinds=tuple(config.memory.kinds),
            num_changes=config.memory.num_changes,
            seed=config.seed,
        )


def override(config: ConfigDict, section: str, fields: Mapping[str, Any]) -> None:
    """Sets fields of one section of a config.

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
    """Builds the model of a run; if its backbone is frozen, the model that reads what the backbone gives."""
    is_frozen = config.model.freeze_backbone
    is_uneven = is_frozen and config.model.tap in BACKBONES[config.model.backbone].uneven_taps
    frozen_tap = "balanced" if is_uneven else None
    return AttributeEncoder(
        schema,
        feature_dim=config.model.feature_dim,
        heads=config.model.heads,
        tap=frozen_tap if is_frozen else config.model.tap,
        width=1.0 if is_frozen else config.model.width,
        reach=config.reversal.reach,
        dropout=config.model.dropout,
        dtype=PRECISIONS[config.precision],
        backbone="embeddings" if is_frozen else config.model.backbone,
        frozen_statistics=is_frozen or config.model.pretrained is not None,
        missing=config.data.missing,
        unit_features=config.model.unit_features,
        logit_scale=config.model.logit_scale,
    )


def reversal_scale(config: ConfigDict, schema: AttributeSchema) -> float | np.ndarray:
    """Returns lambda of all pathways, or of each, [N, N]: one row per feature, one column per classifier.

    Raises:
      ConfigError: reversal.strengths is not N rows of N numbers.
    """
    if not config.reversal.strengths:
        return config.reversal.scale
    n = schema.num_attributes
    try:
        strengths = np.array(config.reversal.strengths, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"reversal.strengths has an entry that is not a number: {error}") from error
    if strengths.shape != (n, n) or not np.isfinite(strengths).all():
        raise ConfigError(
            f"reversal.strengths must be {n} rows of {n} numbers, one row per feature and one column per "
            f"classifier, both in the order {', '.join(schema.names)}; got shape {strengths.shape}"
        )
    return config.reversal.scale * strengths
