"""Opens a run for its evaluation: checks its folder, and reads its catalogue, images and parameters."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.replacement import EDITS, Edit
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.data.catalogue import PARTS, TEST, VALIDATION, Catalogue, Transform
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, WorkdirError, first_line
from gradrev_jax.evaluation.pictures import FilePictures, Pictures
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.drift import check_evaluated
from gradrev_jax.runs.fingerprints import (
    FINGERPRINT_FILE,
    Fingerprint,
    fingerprint,
    read_fingerprint,
    remember_digests,
)
from gradrev_jax.runs.inputs import input_size, open_frozen, open_inputs, reads_vectors
from gradrev_jax.runs.model_file import holds_model
from gradrev_jax.runs.overrides import override, override_movable
from gradrev_jax.runs.pixels import cache_folder, open_images
from gradrev_jax.runs.protocol import (
    Protocol,
    build_protocol,
    check_compared,
    check_protocol,
    evaluation_queries,
)
from gradrev_jax.runs.restore import chosen_stage, restore
from gradrev_jax.runs.shared_config import check_given, check_placed, check_types
from gradrev_jax.systems.objective import ENCODER, MEMORY


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """Represents a run at one of its checkpoints, with all that its evaluation needs.

    Attributes:
      directory: the run's folder.
      stages: the stages of the run, in order.
      stage: the stage that is evaluated.
      step: the number of the checkpoint.
      seed: the seed of queries, and of those that are shown.
      protocol: how the run is evaluated.
      protocol_fields: the same as config fields, for metrics.json.
      catalogue: the images and their labels; its schema is the run's.
      drift: how the catalogue has changed since the training, one sentence per kind of change.
      queries: the queries to ask of the test part.
      inputs: the inputs of the model, of each part that is needed.
      pictures: the pictures of the test images, by gallery row.
      cache: the folder where decoded images are kept, and what was measured; None: there is none.
      encoder: the model.
      params: the parameters of the encoder.
      memory: the fine-tuned memory, [J, P, d], or the prototypes that a model to share has; None if they are
        to be computed.
      edits: the edits that the system has for its features: those by prototypes, or the one that stage 2 has
        learned.
    """

    directory: pathlib.Path
    stages: tuple[str, ...]
    stage: str
    step: int
    seed: int
    protocol: Protocol
    protocol_fields: Mapping[str, Any]
    catalogue: Catalogue
    drift: list[str]
    queries: Queries
    inputs: Mapping[str, Rows]
    pictures: Pictures
    cache: pathlib.Path | None
    encoder: Encoder
    params: Any
    memory: Float[Array | np.ndarray, "J P d"] | None
    edits: Sequence[Edit | LearnedEdit] = EDITS

    @property
    def schema(self) -> AttributeSchema:
        """The attributes of the run."""
        return self.encoder.schema


def open_run(
    directory: pathlib.Path,
    *,
    step: str,
    stage: str | None,
    protocol: Mapping[str, Any],
    data: Mapping[str, Any],
    catalogue: Catalogue | None = None,
    progress: bool,
) -> OpenedRun:
    """Opens a run; all that can be checked without reading an image is checked before any is read.

    The arguments are those of ``run.evaluate``, and ``catalogue``, one in the attributes and values of the
    run that is searched, and not asked the queries of the protocol; None: the one that its config names.

    Raises:
      UserError: the folder is not a run, its catalogue has changed, or the protocol does not fit it.
    """
    config = read_run_config(directory, protocol, data)
    chosen_protocol = build_protocol(config)
    schema = workdir.read_schema(directory)
    asks = catalogue is None
    catalogue = remember_digests(catalogue or builders.open_catalogue(config, schema))
    workdir.check_schema(directory, catalogue.schema)
    trained_on = None if holds_model(directory) else read_fingerprint(directory)
    _catalogue_changes(trained_on, catalogue, directory)  # for its errors
    queries = _queries(catalogue, chosen_protocol, builders.data_seed(config), asks=asks)
    encoder = builders.build_encoder(config, schema)
    stage = chosen_stage(directory, config.stages, stage)
    edit = builders.learned_edit(config, encoder, stage)
    check_compared(chosen_protocol, encoder.blocks, config.model.system, is_learned=edit is not None)
    keeps_memory = (stage != ENCODER and edit is None) or holds_model(directory)
    parts = _needed_parts(chosen_protocol, keeps_memory=keeps_memory)
    inputs = open_inputs(catalogue, parts, config, open_frozen(config, directory), progress=progress)
    workdir.check_vectors(directory, catalogue.vectors)
    drift = _catalogue_changes(trained_on, catalogue, directory)
    for sentence in drift:
        say(sentence)
    shapes, size = builders.shapes_beside_encoder(config, encoder, stage), input_size(config, inputs[TEST])
    restored = restore(directory, stage, encoder, size, step, beside_encoder=shapes)
    trained = {ENCODER: restored.params, MEMORY: restored.memory}
    return OpenedRun(
        directory=directory,
        stages=tuple(config.stages),
        stage=stage,
        step=restored.step,
        seed=builders.data_seed(config),
        protocol=chosen_protocol,
        protocol_fields=workdir.flat_fields(config.protocol.to_dict()),
        catalogue=catalogue,
        drift=drift,
        queries=queries,
        inputs=inputs,
        pictures=_pictures(catalogue, config, inputs[TEST]),
        cache=_cache(config),
        encoder=encoder,
        params=restored.params,
        memory=restored.memory if keeps_memory else None,
        edits=_edits(encoder, None if edit is None else LearnedEdit(edit, trained)),
    )


def _edits(encoder: Encoder, learned: LearnedEdit | None) -> Sequence[Edit | LearnedEdit]:
    """Returns the edits that features have: what shares a block with others cannot be replaced."""
    if learned is not None:
        return (learned,)
    return EDITS if encoder.blocks.are_own else ("add",)


def gallery_pictures(
    directory: str | os.PathLike[str], *, data: Mapping[str, Any] | None = None, progress: bool = True
) -> tuple[Catalogue, Pictures]:
    """Returns a run's catalogue, and the pictures of its test part as the run sees them.

    Args:
      directory: the run's folder.
      data: fields of ``config.data`` to override, as ``run.evaluate`` has them.
      progress: whether a progress bar is shown.

    Raises:
      UserError: they can no longer be read.
    """
    config = read_run_config(pathlib.Path(directory), {}, data or {})
    catalogue = builders.open_catalogue(config, workdir.read_schema(pathlib.Path(directory)))
    pixels = None if reads_vectors(config) else open_images(catalogue, TEST, config, progress=progress)
    return catalogue, _pictures(catalogue, config, pixels)


def _cache(config: ConfigDict) -> pathlib.Path | None:
    """Returns the cache's folder; None where the user has no home folder, and no image had to be decoded."""
    try:
        return cache_folder(config.data.cache_dir)
    except ConfigError:
        return None


def _pictures(catalogue: Catalogue, config: ConfigDict, inputs: Rows | None) -> Pictures:
    """Returns the pictures of the test images; the inputs of the model, if these are pixels."""
    if isinstance(inputs, np.ndarray) and not reads_vectors(config):
        return inputs
    transform = Transform.for_part(TEST, config.data.image_size)
    return FilePictures(catalogue.images, catalogue.parts[TEST], transform)


def gallery_names(catalogue: Catalogue) -> Callable[[int], str]:
    """Returns a function from a gallery row to the name of its image."""
    return lambda row: catalogue.images.name(int(catalogue.parts[TEST][row]))


def read_run_config(
    directory: pathlib.Path, protocol: Mapping[str, Any], data: Mapping[str, Any]
) -> ConfigDict:
    """Reads the config of a run, with the fields that an evaluation overrides.

    Args:
      directory: the run's folder.
      protocol: fields of ``config.protocol`` to override.
      data: fields of ``config.data`` to override: where the catalogue lies; of a model to share, what the
        catalogue is.

    Raises:
      UserError: the folder is not a run, or a field cannot be overridden.
    """
    path, stored = directory / workdir.CONFIG, workdir.read_config(directory)
    check_types(stored, path)
    try:
        config = ConfigDict(stored)
    except (ValueError, TypeError, RecursionError) as error:  # of names with dots, and the like
        raise WorkdirError(f"{path} cannot be used: {first_line(error)}; restore it from a copy") from error
    override(config, "protocol", protocol)
    if holds_model(directory):
        check_given(data)
        override(config, "data", data)
    else:
        override_movable(config, data)
    if "select_on_test" in protocol:
        raise ConfigError("protocol.select_on_test is a matter of training: give it to train.py")
    if holds_model(directory):
        check_placed(config.to_dict(), directory)
    check(config, f"the config of {directory}")
    return config


def _queries(catalogue: Catalogue, protocol: Protocol, seed: int, *, asks: bool) -> Queries:
    """Returns the queries of a protocol that fits the catalogue, or none if none are asked."""
    if not asks:
        return generate_queries(catalogue.labels[:0], catalogue.schema)
    check_protocol(protocol, catalogue)
    return evaluation_queries(catalogue, protocol, seed)


def _needed_parts(protocol: Protocol, *, keeps_memory: bool) -> tuple[str, ...]:
    """Returns the parts whose images an evaluation reads.

    Where the memory need not be computed, only a representation that is fitted to training images needs them.
    """
    is_fitted = REPRESENTATIONS[protocol.representation].needs_training
    return PARTS if is_fitted or not keeps_memory else (TEST, VALIDATION)


def _catalogue_changes(
    trained_on: Fingerprint | None, catalogue: Catalogue, directory: pathlib.Path
) -> list[str]:
    """Returns how the catalogue has changed since the run was trained, one sentence per kind of change.

    Contents are compared of images that were read until then, see ``RememberedDigests``.

    Raises:
      DataError: a test image was trained on.
    """
    if trained_on is None:
        reason = (
            "is a model to share"
            if holds_model(directory)
            else f"holds no {FINGERPRINT_FILE} (it was trained by an earlier version, or imported)"
        )
        return [
            f"{directory} {reason}, so whether its catalogue has changed, or a test image was "
            "trained on, cannot be told"
        ]
    return check_evaluated(trained_on, fingerprint(catalogue), catalogue.schema, directory)
