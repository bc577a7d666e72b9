"""From a run's config to the objects it describes; shared by training and evaluation.

Below this module and their two entry functions nothing knows what a ConfigDict is.
"""

import os
import pathlib
from collections.abc import Callable
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
from gradrev_jax.manipulation import NORMALIZATIONS
from gradrev_jax.models.alexnet import SMALLEST_IMAGE, TAPS
from gradrev_jax.models.encoder import HEADS, AttributeEncoder

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
WEIGHTINGS = ("balanced", "fixed", "off")


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
        "protocol.normalize": NORMALIZATIONS,
    }
    minima = {
        "data.image_size": SMALLEST_IMAGE,
        "data.workers": 0,
        "data.min_count": 1,
        "model.feature_dim": 1,
        "reversal.beta": 0,
        "train.batch_size": 1,
        "train.epochs": 1,
        "train.max_steps": 1,
        "train.learning_rate": 0,
        "train.decay_rate": 0,
        "train.decay_epochs": 1,
        "train.log_every": 1,
        "train.checkpoint_every": 0,
        "protocol.num_references": 0,
        "protocol.batch_size": 1,
    }
    problems = []
    for field, allowed in choices.items():
        if _get(config, field) not in allowed:
            problems.append(f"{field} = {_get(config, field)!r}: one of {', '.join(allowed)}")
    for field, minimum in minima.items():
        value = _get(config, field)
        if value is not None and not value >= minimum:  # so that NaN is a problem too
            problems.append(f"{field} = {value}: at least {minimum}")
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
    if largest > gallery:
        raise ConfigError(
            f"protocol.ks asks for the {largest} nearest, but the gallery (the test part) has {gallery} "
            f"images; leave out what is above {gallery}, as --config.protocol.ks='(1, 5)' for train.py "
            "or --protocol.ks='(1, 5)' for evaluate.py"
        )
    return catalogue


def open_images(catalogue: Catalogue, part: str, config: ConfigDict) -> np.ndarray:
    """Pixels of one part, uint8 [rows, S, S, 3], decoded on first use and memory-mapped from then on."""
    return cached_images(
        catalogue.images,
        catalogue.parts[part],
        Transform.for_part(part, config.data.image_size, config.data.train_resize),
        cache_dir(config),
        workers=config.data.workers or None,
        description=part,
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
        dropout=config.model.dropout,
        dtype=PRECISIONS[config.precision],
    )


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
        config = config[name]
    return config
