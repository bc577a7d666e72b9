"""Checks whether a config can be run, before anything is opened or written."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax.errors import ConfigError
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.inputs import PixelInputs, VectorInputs
from gradrev_jax.runs.fields.table import FIELDS
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.systems.objective import MEMORY, STAGES
from gradrev_jax.systems.registry import SYSTEMS
from gradrev_jax.systems.system import System


def check(config: ConfigDict, where: str = "the config") -> None:
    """Raises unless every field has a value that makes sense, whatever the catalogue.

    Args:
      config: the config, whose fields have values of their types.
      where: what it is, for the message.

    Raises:
      ConfigError: all fields at fault, each with its value and what it may be.
    """
    problems = [
        f"{name} = {value!r}: {problem}"
        for name, field in FIELDS.items()
        if (problem := field.problem(value := _get(config, name)))
    ]
    problems += _problems_between_fields(config)
    if problems:
        raise ConfigError("\n  ".join([f"{where} cannot be run:", *problems]))


def _problems_between_fields(config: ConfigDict) -> Iterator[str]:
    """Yields what is wrong with fields that depend on each other."""
    data = config.data
    if data.train_resize is not None and data.train_resize < data.image_size:
        yield f"data.train_resize = {data.train_resize}: at least data.image_size, {data.image_size}"
    if config.train.compactness_weight > 0 and not config.model.unit_features:
        yield (
            f"train.compactness_weight = {config.train.compactness_weight}: 0 without model.unit_features, "
            "because other features may have any length"
        )
    if config.model.backbone in BACKBONES:
        yield from _problems_with_backbone(config, BACKBONES[config.model.backbone])
    if config.model.system in SYSTEMS:
        yield from _problems_with_system(config, SYSTEMS[config.model.system])
    if config.reversal.adversaries > 0:
        yield from _problems_with_adversaries(config.reversal)
    if data.format not in FORMATS:
        return
    chosen = FORMATS[data.format]
    if not chosen.takes_limit and data.limit is not None and data.limit >= 1:
        able = " or ".join(name for name, each in FORMATS.items() if each.takes_limit)
        yield f"data.limit = {data.limit}: for data.format={able} alone"
    for name, what in chosen.required.items():
        if not data[name]:
            yield f"data.{name} is not set: {what}"


def _problems_with_system(config: ConfigDict, system: System) -> Iterator[str]:
    """Yields what makes no sense for the system that a config names."""
    name = config.model.system
    if MEMORY in config.stages and system.second_stage is None:
        yield f"stages = {tuple(config.stages)!r}: {STAGES[:1]!r}, because the system {name!r} has no stage 2"
    yield from system.problems(config)


def _problems_with_adversaries(reversal: ConfigDict) -> Iterator[str]:
    """Yields what is wrong with fields of the reversal where there are adversaries."""
    where = "where reversal.adversaries is set"
    if reversal.weighting not in ("fixed", "schedule"):
        yield f"reversal.weighting = {reversal.weighting!r}: fixed or schedule, {where}, whose loss may be 0"
    if reversal.reach != "backbone":
        yield f"reversal.reach = {reversal.reach!r}: backbone, {where}"


def _problems_with_backbone(config: ConfigDict, backbone: Backbone) -> Iterator[str]:
    """Yields what is wrong with fields whose values depend on the backbone."""
    if config.model.tap is not None and config.model.tap not in backbone.taps:
        yield f"model.tap = {config.model.tap!r}: one of {', '.join(backbone.taps)}"
    if isinstance(backbone.inputs, VectorInputs):
        yield from _problems_with_vectors(config)
    elif config.data.image_size < (smallest := _smallest_image(config, backbone.inputs)):
        yield f"data.image_size = {config.data.image_size}: at least {smallest}"
    if config.data.embeddings and isinstance(backbone.inputs, PixelInputs):
        yield "data.embeddings is set: it needs model.backbone = 'embeddings'"


def _smallest_image(config: ConfigDict, inputs: PixelInputs) -> int:
    """Returns the smallest size of images that the system takes, or else the backbone."""
    system = SYSTEMS.get(config.model.system)
    return inputs.smallest if system is None or system.smallest_image is None else system.smallest_image


def _problems_with_vectors(config: ConfigDict) -> Iterator[str]:
    """Yields what is wrong with fields of a run whose inputs are vectors, not images."""
    if not config.data.embeddings:
        yield "data.embeddings is not set: the file of the vectors that model.backbone = 'embeddings' reads"
    if config.model.width != 1:
        yield f"model.width = {config.model.width}: 1, because vectors have a width of their own"
    for field in ("pretrained", "freeze_backbone"):
        if config.model[field]:
            yield f"model.{field} = {config.model[field]!r}: unset, because 'embeddings' has no weights"


def _get(config: ConfigDict, field: str) -> Any:
    for name in field.split("."):
        if name not in config:
            raise ConfigError(
                f"the config has no field {field}; it was written for another version of gradrev_jax"
            )
        config = config[name]
    return config
