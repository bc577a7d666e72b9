"""Whether a config can be run: every field at fault, before anything is opened or written."""

import math
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import SPLITS_BY
from gradrev_jax.data.changes import KINDS
from gradrev_jax.errors import ConfigError
from gradrev_jax.core.losses import WEIGHTINGS
from gradrev_jax.core.manipulation import NORMALIZATIONS
from gradrev_jax.core.memory_losses import BLOCKS
from gradrev_jax.models.alexnet import SMALLEST_IMAGE, TAPS
from gradrev_jax.models.encoder import HEADS, REACHES
from gradrev_jax.core.optimizers import SCHEDULES
from gradrev_jax.runs.builders import (
    FORMATS,
    PARALLEL_MODES,
    PLACEMENTS,
    PRECISIONS,
    STAGES,
    fixed_strength,
)


def check(config: ConfigDict) -> None:
    """Raise unless every field has a value that makes sense, whatever the catalogue.

    Raises:
      ConfigError: all fields at fault, each with its value and what it may be.
    """
    choices = {
        "precision": tuple(PRECISIONS),
        "parallel": PARALLEL_MODES,
        "data.placement": PLACEMENTS,
        "data.format": tuple(FORMATS),
        "data.split_by": SPLITS_BY,
        "model.tap": TAPS,
        "model.heads": HEADS,
        "reversal.weighting": WEIGHTINGS,
        "reversal.reach": REACHES,
        "memory.block": BLOCKS,
        "protocol.normalize": NORMALIZATIONS,
        "train.schedule": SCHEDULES,
    }
    minima = {
        "data.image_size": SMALLEST_IMAGE,
        "data.workers": 0,
        "data.cache_limit": 0,
        "data.min_count": 1,
        "data.limit": 1,
        "model.feature_dim": 1,
        "reversal.beta": 0,
        "seed": 0,
        "devices": 0,
        "train.steps_per_call": 1,
        "train.classification_weight": 0,
        "train.batch_size": 1,
        "train.epochs": 1,
        "train.max_steps": 0,
        "train.learning_rate": 0,
        "train.decay_rate": 0,
        "train.decay_epochs": 1,
        "train.warmup_steps": 0,
        "train.weight_decay": 0,
        "train.patience": 1,
        "train.attribute_triplet_weight": 0,
        "train.label_triplet_weight": 0,
        "train.triplet_margin": 0,
        "train.log_every": 1,
        "train.checkpoint_every": 0,
        "memory.triplets": 1,
        "memory.batch_size": 1,
        "memory.num_changes": 1,
        "memory.epochs": 1,
        "memory.max_steps": 1,
        "memory.learning_rate": 0,
        "memory.margin": 0,
        "protocol.num_changes": 1,
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
    if config.seed >= 2**63:  # JAX takes no larger one
        problems.append(f"seed = {config.seed}: below 2**63")
    if not math.isfinite(config.reversal.scale):
        problems.append(f"reversal.scale = {config.reversal.scale}: a number")
    if config.train.clip_norm is not None and not config.train.clip_norm > 0:
        problems.append(f"train.clip_norm = {config.train.clip_norm}: above 0")
    try:
        fixed_strength(config)
    except ConfigError as error:
        problems.append(str(error))
    for field in ("memory.kinds", "protocol.kinds"):
        if not (kinds := tuple(_get(config, field))) or not set(kinds) <= set(KINDS):
            problems.append(f"{field} = {kinds!r}: some of {', '.join(KINDS)}")
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
    delimiter = _get(config, "data.delimiter")
    if delimiter not in ("", "tab", "\\t") and (len(delimiter) != 1 or delimiter in '"\r\n '):
        problems.append(
            f"data.delimiter = {delimiter!r}: one character, as ';', or tab, or '' to recognise it"
        )
    limit = config.data.limit
    if config.data.format not in ("table", "tfds") and limit is not None and limit >= minima["data.limit"]:
        problems.append(f"data.limit = {limit}: for data.format=table or tfds alone")
    if config.data.format in ("table", "adde") and not config.data.root:
        problems.append("data.root is not set: the folder that holds the catalogue's images")
    if config.data.format == "tfds" and not config.data.tfds_name:
        problems.append("data.tfds_name is not set: what TFDS calls the data set, as shapes3d")
    if problems:
        raise ConfigError("\n  ".join(["the config cannot be run:", *problems]))


def _get(config: ConfigDict, field: str) -> Any:
    for name in field.split("."):
        if name not in config:
            raise ConfigError(
                f"the config has no field {field}; it was written for another version of gradrev_jax"
            )
        config = config[name]
    return config
