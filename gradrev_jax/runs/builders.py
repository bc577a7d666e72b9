"""Builds the objects that a run's config describes; training and evaluation share them."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import EditFunction
from gradrev_jax.data.catalogue import TRAIN, Catalogue, hold_out_validation
from gradrev_jax.data.leave_out import leave_out
from gradrev_jax.data.triplets import Triplets, generate_triplets
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.data.vectors.source import EmbeddedImages
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, DataError, naming
from gradrev_jax.files import expand
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.prototypes import prototype_shape
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.runs.protocol import check_num_changes
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import ENCODER, MEMORY, Objective
from gradrev_jax.systems.registry import SYSTEMS
from gradrev_jax.systems.system import System


def data_seed(config: ConfigDict) -> int:
    """Returns the seed of all random choices about the catalogue; runs with other seeds may share it."""
    return config.seed if config.data.seed is None else config.data.seed


def open_catalogue(config: ConfigDict, known: AttributeSchema | None = None) -> Catalogue:
    """Returns the catalogue of a run, its validation part held out.

    Args:
      config: the config of the run.
      known: the attributes that the run was trained on, whose spelling of values is kept; None: the run has
        not been trained yet.

    Raises:
      DataError: the catalogue cannot be used.
    """
    source, seed = FORMATS[config.data.format], data_seed(config)
    if known is None or source.reopen is None:
        catalogue = source.open(config.data, seed)
    else:
        catalogue = source.reopen(config.data, seed, known)
    with naming("data.{}", {"left_out": "data.leave_out"}):
        catalogue = leave_out(catalogue, tuple(map(str, config.data.leave_out)))
    if config.data.embeddings:
        catalogue = _with_vectors(catalogue, config)
    with naming("data.{}", {"fraction": "train.validation_fraction"}):
        return hold_out_validation(
            catalogue, config.train.validation_fraction, seed, split_by=config.data.split_by
        )


def _with_vectors(catalogue: Catalogue, config: ConfigDict) -> Catalogue:
    """Returns a catalogue with the vectors of its images, whose digests stand for those of the images."""
    names = [catalogue.images.name(row) for row in range(len(catalogue.images))]
    with naming("data.{}"):
        vectors = open_vectors(expand(config.data.embeddings, "data.embeddings"), names, say=say)
    images = EmbeddedImages(catalogue.images, vectors)
    return dataclasses.replace(catalogue, images=images, vectors=vectors)


def with_defaults(config: ConfigDict) -> ConfigDict:
    """Returns a config in which unset fields whose default depends on other fields are set.

    So the folder of a run records what it was trained with, whatever default later versions choose.
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


def system_of(config: ConfigDict) -> System:
    """Returns the system that a config names."""
    return SYSTEMS[config.model.system]


def build_encoder(config: ConfigDict, schema: AttributeSchema) -> Encoder:
    """Builds the model of a run; if its backbone is frozen, a model that reads the backbone's outputs."""
    return system_of(config).build(config, schema)


def second_stage_shapes(config: ConfigDict, encoder: Encoder) -> Any:
    """Returns the shapes of what stage 2 of a run trains beside the encoder, without computing any."""
    second = system_of(config).second_stage
    assert second is not None, "the config was checked"
    return jax.eval_shape(functools.partial(second.begin, config, encoder), prototype_shape(encoder))


def shapes_beside_encoder(config: ConfigDict, encoder: Encoder, stage: str) -> Any:
    """Returns the shapes of what a checkpoint of a stage has beside the encoder; None: nothing."""
    return None if stage == ENCODER else second_stage_shapes(config, encoder)


def objectives(config: ConfigDict, encoder: Encoder, labels: Int[np.ndarray, "M N"]) -> dict[str, Objective]:
    """Returns the objective of each stage of a run, by its name.

    Args:
      config: the config of the run.
      encoder: its model.
      labels: those of the training images, -1 = not labelled.

    Raises:
      UserError: as for the system's ``encoder_objective``.
    """
    system = system_of(config)
    by_stage = {ENCODER: system.encoder_objective(config, encoder, labels)}
    if config.reversal.adversaries and not isinstance(by_stage[ENCODER], EncoderObjective):
        raise ConfigError(
            f"reversal.adversaries = {config.reversal.adversaries}: the system {config.model.system!r} has "
            "an objective of its own, to which no adversaries are added; set it to 0"
        )
    if MEMORY in config.stages:
        assert system.second_stage is not None, "the config was checked"
        by_stage[MEMORY] = system.second_stage.objective(config, encoder)
    return by_stage


def learned_edit(config: ConfigDict, encoder: Encoder, stage: str) -> EditFunction | None:
    """Returns the edit that a run has learned after a stage; None: prototypes edit."""
    second = system_of(config).second_stage
    if stage == ENCODER or second is None or second.make_edit is None:
        return None
    return second.make_edit(config, encoder)
