"""FashionSearchNet as a system: from a config to its model and its objective."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.data.batches import steps_per_epoch
from gradrev_jax.errors import ConfigError, naming
from gradrev_jax.models.alexnet import SMALLEST_IMAGE_OF_MAPS
from gradrev_jax.models.backbones import find_backbone
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.backbone import PRECISIONS
from gradrev_jax.systems.field import Field, Rule, at_least, one_of
from gradrev_jax.systems.fsn.losses import LocalizedObjective
from gradrev_jax.systems.fsn.model import HIDDEN, WEIGHTS, FashionSearchNet
from gradrev_jax.systems.system import System, fixed_field_problems

TRIPLETS = ("attribute_triplet", "label_triplet")  # the terms of ``TERMS`` that it is trained with


def build(config: ConfigDict, schema: AttributeSchema) -> FashionSearchNet:
    """Builds the model."""
    return FashionSearchNet(
        schema,
        feature_dim=config.model.feature_dim,
        missing=config.data.missing,
        width=config.model.width,
        dropout=config.model.dropout,
        dtype=PRECISIONS[config.precision],
        threshold=config.fsn.threshold,
        grid=config.fsn.grid,
        hidden=config.fsn.hidden,
        weights=config.fsn.weights,
    )


def encoder_objective(
    config: ConfigDict, encoder: Encoder, labels: Int[np.ndarray, "M N"]
) -> LocalizedObjective:
    """Returns the objective that a config describes; of the labels, only their number matters.

    Raises:
      ConfigError: the training ends before a branch is trained.
    """
    train = config.train
    _check_branches_begin(config, len(labels))
    return LocalizedObjective(
        w_cls=train.classification_weight,
        w_localization=config.fsn.localization_weight,
        term_weights={name: train[f"{name}_weight"] for name in TRIPLETS},
        triplet_margin=train.triplet_margin,
        localization_share=config.fsn.localization_share,
    )


def _check_branches_begin(config: ConfigDict, num_images: int) -> None:
    """Raises where train.max_steps ends the training within the part of the localising classifiers alone.

    Raises:
      ConfigError: it does; 0 steps are none of a training, and never refused.
    """
    train, share = config.train, config.fsn.localization_share
    if not train.max_steps or not share:
        return
    with naming("train.{}"):
        total = train.epochs * steps_per_epoch(num_images, train.batch_size)
    least = math.ceil(round(share * total, 6)) + 1  # rounded, because 0.07 * 100 is above 7
    if train.max_steps < least:
        raise ConfigError(
            f"train.max_steps = {train.max_steps}: unset, or at least {least}, because no branch is trained "
            f"in the part of fsn.localization_share, which is {share:g} of the {total} steps of train.epochs"
        )


def problems(config: ConfigDict) -> Iterable[str]:
    """Yields settings that FashionSearchNet does not support."""
    unused: dict[str, Any] = {
        "model.backbone": "alexnet",
        "model.freeze_backbone": False,
        "model.heads": "shared",
        "model.unit_features": False,
        "reversal.weighting": "off",
        "reversal.adversaries": 0,
        "train.decorrelate": 0,
        **{f"train.{name}_weight": 0 for name in TERMS if name not in TRIPLETS},
    }
    yield from fixed_field_problems(config, unused, "the system 'fsn' has nothing else")
    if config.model.tap not in (None, find_backbone("alexnet").taps[0]):  # builders fill in the first
        yield f"model.tap = {config.model.tap!r}: unset, because the system 'fsn' reads maps of convolutions"
    train, alone = config.train, config.fsn.localization_share * config.train.epochs
    if train.patience is not None and train.patience <= alone:
        yield (
            f"train.patience = {train.patience}: unset, or more than the {alone:g} epochs of "
            "fsn.localization_share, in which no validation score can rise"
        )


def below_one() -> Rule:
    """Creates the rule that a value is a fraction, and not all."""
    return Rule("at least 0 and below 1", lambda value: 0 <= value < 1)


FIELDS = {
    "threshold": Field(
        default=0.2,
        meaning="Fraction of an activation map's maximum that the cells of its box are above.",
        rule=below_one(),
        earlier=0.2,
    ),
    "grid": Field(
        default=3,
        meaning="Rows, and columns, of the grid that the inside of a box is resampled to.",
        rule=at_least(1),
        earlier=3,
    ),
    "hidden": Field(
        default=HIDDEN,
        meaning="Units of the first two layers of each branch, times `model.width`.",
        rule=at_least(1),
        earlier=HIDDEN,
    ),
    "weights": Field(
        default="learned",
        meaning="Weights of the attributes in the whole feature: `learned`, one per attribute, or `equal`.",
        rule=one_of(WEIGHTS),
        earlier="learned",
    ),
    "localization_weight": Field(
        default=1.0,
        meaning="Weight of the cross-entropies of the classifiers that the boxes come from.",
        rule=at_least(0),
        earlier=1.0,
    ),
    "localization_share": Field(
        default=0.0,
        meaning="Part of the training, from its start, in which these classifiers alone are trained. It "
        "counts towards all `train.epochs`, whatever `train.max_steps` says.",
        rule=below_one(),
        earlier=0.0,
    ),
}

SYSTEM = System(
    meaning="FashionSearchNet, which reads each attribute where the image shows it",
    build=build,
    encoder_objective=encoder_objective,
    fields=FIELDS,
    smallest_image=SMALLEST_IMAGE_OF_MAPS,
    without=("model.heads", "reversal.weighting"),
    problems=problems,
)
