"""Reads a model's backbone from a config, for systems that let any backbone run below them."""

from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from gradrev_jax.models.backbones import BACKBONES

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def backbone_fields(config: ConfigDict) -> dict[str, Any]:
    """Returns the fields of a model that describe its backbone, and what it computes with.

    Where the backbone is frozen, these are the fields of a model that reads what it gives.

    Args:
      config: the config of a run, which was checked.
    """
    is_frozen = config.model.freeze_backbone
    is_uneven = is_frozen and config.model.tap in BACKBONES[config.model.backbone].uneven_taps
    frozen_tap = "balanced" if is_uneven else None
    return {
        "backbone": "embeddings" if is_frozen else config.model.backbone,
        "tap": frozen_tap if is_frozen else config.model.tap,
        "width": 1.0 if is_frozen else config.model.width,
        "dropout": config.model.dropout,
        "dtype": PRECISIONS[config.precision],
        "frozen_statistics": is_frozen or config.model.pretrained is not None,
        "missing": config.data.missing,
    }
