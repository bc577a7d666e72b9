"""From a run's config to the objects it describes; shared by training and evaluation.

Below this module and their two entry functions nothing knows what a ConfigDict is.
"""

import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue, Transform, hold_out_validation
from gradrev_jax.data.garments import garments_catalogue
from gradrev_jax.data.images import cached_images
from gradrev_jax.data.table import read_table
from gradrev_jax.errors import ConfigError
from gradrev_jax.losses import WEIGHTINGS
from gradrev_jax.manipulation import NORMALIZATIONS
from gradrev_jax.memory_losses import BLOCKS
from gradrev_jax.models.alexnet import SMALLEST_IMAGE, TAPS
from gradrev_jax.models.encoder import HEADS, REACHES, AttributeEncoder

STAGES = ("encoder", "memory")
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check(config: ConfigDict) -> None:
    """Raise unless every field has a value that makes sense, whatever the catalogue.

    Raises:
      ConfigError: all fields at fault, each with its value and what it may be.
    """
    choices = {
        "precision": tuple(PRECISIONS),
        "data.format": tuple(FORMATS),
        "model.tap": TAPS,
        "model.heads": HEADS,
        "reversal.weighting": WEIGHTINGS,
        "reversal.reach": REACHES,
        "memory.block": BLOCKS,
        "protocol.normalize": NORMALIZATIONS,
    }
    minima = {
        "data.image_size": SMALLEST_IMAGE,
        "data.workers": 0,
        "data.min_count": 1,
        "model.feature_dim": 1,
        "reversal.beta": 0,
        "seed": 0,
        "train.classification_weight": 0,
        "train.batch_size": 1,
        "train.epochs": 1,
        "train.max_steps": 1,
        "train.learning_rate": 0,
        "train.decay_rate": 0,
        "train.decay_epochs": 1,
        "train.log_every": 1,
        "train.checkpoint_every": 0,
        "memory.triplets": 1,
        "memory.batch_size": 1,
        "memory.epochs": 1,
        "memory.max_steps": 1,
        "memory.learning_rate": 0,
        "memory.margin": 0,
        "protocol.num_references": 0,
        "protocol.batch_size": 1,
    }
    problems = []
    for field, allowed in choices.items():
        if _get(config, field) not in allowed:
            problems.append(f"{field} = {_get(config, field)!r}: one of {', '.join(allowed)}")
    for field, minimum in minima.items():
        value = _get(config, field)
        if value is not None and not (value >= minimum and math.isfinite(value)):
            problems.append(f"{field} = {value}: at least {minimum}")
    for field in ("reversal.scale", "protocol.strength"):
        if not math.isfinite(_get(config, field)):
            problems.append(f"{field} = {_get(config, field)}: a number")
    for name, weight in config.memory.weights.items():
        if not (weight >= 0 and math.isfinite(weight)):
            problems.append(f"memory.weights.{name} = {weight}: at least 0")
    if not config.stages or tuple(config.stages) not in (STAGES[:1], STAGES):
        problems.append(f"stages = {tuple(config.stages)!r}: {STAGES[:1]!r} or {STAGES!r}")
    if not 0 < config.model.width <= 16:
        problems.append(f"model.width = {config.model.width}: above 0, at most 16")
    if not 0 <= config.model.dropout < 1:
        problems.append(f"model.dropout = {config.model.dropout}: in [0, 1)")
    resize = config.data.train_resize
    if resize is not None and resize < config.data.image_size:
        problems.append(f"data.train_resize = {resize}: at least data.image_size, {config.data.image_size}")
    ks = config.protocol.ks
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        problems.append(f"protocol.ks = {tuple(ks)}: one or more whole numbers from 1")
    if config.data.format == "table" and not config.data.root:
        problems.append("data.root is not set: the folder that holds the table and the images")
    if problems:
        raise ConfigError("\n  ".join(["the config cannot be run:", *problems]))


def open_catalogue(config: ConfigDict) -> Catalogue:
    """The catalogue of a run, its validation part held out.

    Raises:
      ConfigError: the gallery has fewer images than the largest K asked for.
      DataError: the catalogue itself cannot be used.
    """
    catalogue = FORMATS[config.data.format](config.data, config.seed)
    catalogue = hold_out_validation(catalogue, config.train.validation_fraction, config.seed)
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


def open_images(catalogue: Catalogue, part: str, config: ConfigDict, *, progress: bool = True) -> np.ndarray:
    """Pixels of one part, uint8 [rows, S, S, 3], decoded on first use and memory-mapped from then on."""
    return cached_images(
        catalogue.images,
        catalogue.parts[part],
        Transform.for_part(part, config.data.image_size, config.data.train_resize),
        cache_dir(config),
        workers=config.data.workers or None,
        description=part,
        progress=progress,
    )


def cache_dir(config: ConfigDict) -> pathlib.Path:
    """Where decoded images are kept."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gradrev_jax"
    return pathlib.Path(config.data.cache_dir or default).expanduser()


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


def _table(data: ConfigDict, seed: int) -> Catalogue:
    return read_table(
        pathlib.Path(data.root).expanduser(),
        table=data.table,
        image_column=data.image_column,
        image_template=data.image_template,
        split_column=data.split_column or None,
        test_fraction=data.test_fraction,
        seed=seed,
        attributes=tuple(data.attributes),
        min_count=data.min_count,
    )


def _garments(data: ConfigDict, seed: int) -> Catalogue:
    return garments_catalogue(
        count=data.count,
        seed=seed,
        test_fraction=data.test_fraction,
        missing=data.missing,
        correlation=data.correlation,
    )


FORMATS: dict[str, Callable[[ConfigDict, int], Catalogue]] = {"table": _table, "garments": _garments}


def _get(config: ConfigDict, field: str) -> Any:
    for name in field.split("."):
        if name not in config:
            raise ConfigError(
                f"the config has no field {field}; it was written for another version of gradrev_jax"
            )
        config = config[name]
    return config
