"""Creates runs from PyTorch checkpoints, and writes such checkpoints; ``weights.adde`` has their tensors."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TRAIN
from gradrev_jax.errors import ConfigError, WeightsError, WorkdirError, naming
from gradrev_jax.files import new_folder
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.protocol import build_protocol, check_protocol
from gradrev_jax.runs.restore import chosen_stage, restore
from gradrev_jax.systems.objective import ENCODER, MEMORY, STAGES
from gradrev_jax.training.adversaries import build_adversarial_training
from gradrev_jax.training.saved_state import checkpoint_items
from gradrev_jax.training.stages import stage_optimizer
from gradrev_jax.training.update import TrainState
from gradrev_jax.weights.adde import (
    Architecture,
    encoder_from_torch,
    encoder_to_torch,
    infer_architecture,
    memory_from_torch,
    memory_to_torch,
)
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.writer import write_state_dict

# Backbones whose layers have no names in PyTorch's files of the paper's encoder. One of your own is not
# refused, because its layers may have AlexNet's names.
WITHOUT_TORCH_NAMES = ("efficientnet_lite0", "embeddings")


def import_run(
    config: ConfigDict,
    directory: str | os.PathLike[str],
    extractor: str | os.PathLike[str],
    memory: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Creates a run from PyTorch checkpoints, which evaluation takes and training goes on from.

    Nothing is written before everything is checked, and the folder is there when it is whole.

    Args:
      config: as ``configs/default.py`` has it; the attributes are those of its catalogue. The tap and the
        heads are the file's.
      directory: the run's folder, which is made.
      extractor: file of the encoder's parameters.
      memory: file of the memory; without it, evaluation computes prototypes (Eq. 6).

    Returns:
      Fields of the run's config that this decided, by their dotted names. Where there is a memory,
      ``train.max_steps`` is 0: training goes on with the memory, from the encoder as it is.

    Raises:
      UserError: the folder is not empty, the config or the catalogue cannot be used, or a file does not fit.
    """
    directory = pathlib.Path(directory)
    check(config)
    config = builders.with_defaults(config)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WorkdirError(f"{directory} exists already; give another --workdir")
    catalogue = builders.open_catalogue(config)
    check_protocol(build_protocol(config), catalogue)
    schema = catalogue.schema
    tensors = read_state_dict(extractor)
    decided = {
        **_fields_of(infer_architecture(tensors), tap=config.model.tap, heads=config.model.heads),
        "stages": STAGES if memory else STAGES[:1],
        **({"train.max_steps": 0} if memory else {}),
    }
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(decided)
    encoder = _build_encoder(config, schema)
    with naming("model.{}"), _naming_file(extractor):
        params = encoder_from_torch(
            parameter_shapes(encoder, config.data.image_size), tensors, encoder.classes
        )
    stages = {ENCODER: params}
    if memory:
        tensors = read_state_dict(memory)
        with _naming_file(memory):
            prototypes = memory_from_torch(tensors, schema, config.model.feature_dim)
        stages[MEMORY] = {ENCODER: params, MEMORY: prototypes}
    with new_folder(directory, WorkdirError) as folder:
        workdir.claim(folder, config.to_dict())
        workdir.claim_schema(folder, schema)
        for stage, parameters in stages.items():
            state = _state_at_step_0(stage, parameters, config, encoder, catalogue.part_labels(TRAIN))
            with Checkpoints(workdir.checkpoint_directory(folder, stage)) as checkpoints:
                checkpoints.save(0, checkpoint_items(state))
    return decided


def export_run(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    suffix: str,
    step: str = "best",
    stage: str | None = None,
) -> list[pathlib.Path]:
    """Writes a checkpoint of a run for PyTorch: the encoder, and the memory if it was fine-tuned.

    Args:
      directory: the run's folder.
      out: is made, with ``extractor`` and ``memory`` of this suffix in it.
      suffix: ``.pth`` or ``.safetensors``.
      step: ``best`` (on the validation part), ``latest``, or the number of a checkpoint.
      stage: ``encoder`` or ``memory``; None is the run's last.

    Returns:
      The files.

    Raises:
      UserError: the folder is no run, has no such checkpoint, or ``out`` is there already.
    """
    directory, out = pathlib.Path(directory), pathlib.Path(out)
    if out.exists():
        raise WeightsError(f"{out} exists already; give a folder that does not")
    config = ConfigDict(workdir.read_config(directory))
    check(config)
    schema = workdir.read_schema(directory)
    encoder = _build_encoder(config, schema)
    stage = chosen_stage(directory, config.stages, stage)
    _, params, memory = restore(directory, stage, encoder, config.data.image_size, step)
    with naming("model.{}"):
        files = {f"extractor{suffix}": encoder_to_torch(params, encoder.classes)}
    if memory is not None:
        files[f"memory{suffix}"] = memory_to_torch(memory)
    with new_folder(out, WeightsError) as folder:
        for name, tensors in files.items():
            write_state_dict(folder / name, tensors)
    return [out / name for name in files]


def _build_encoder(config: ConfigDict, schema: AttributeSchema) -> AttributeEncoder:
    """Builds the model of a run, if it is one that files of PyTorch have.

    Raises:
      ConfigError: it is not.
    """
    encoder = builders.build_encoder(config, schema)
    # What gamma trains beside the paper's encoder has no place in these files either.
    if not isinstance(encoder, AttributeEncoder) or config.model.system != "gradrev":
        raise ConfigError(
            f"model.system = {config.model.system!r}: files of PyTorch have the paper's encoder alone, "
            "model.system = 'gradrev'"
        )
    if encoder.backbone in WITHOUT_TORCH_NAMES or config.model.freeze_backbone:
        frozen = "frozen " if config.model.freeze_backbone else ""
        raise ConfigError(
            f"model.backbone = {frozen}{encoder.backbone}: files of PyTorch have the paper's encoder "
            "on AlexNet, trained whole; export_model.py makes one file of any run"
        )
    return encoder


def _state_at_step_0(
    stage: str, parameters: Any, config: ConfigDict, encoder: AttributeEncoder, labels: Int[np.ndarray, "M N"]
) -> TrainState:
    """Returns the state of a stage that has parameters, and none of whose steps is done."""
    # Of the schedule, the optimiser's state has the steps done alone.
    schedule, optimizer = stage_optimizer(config, stage, epoch_steps=1)
    state = TrainState.begin(parameters, optimizer)
    adversarial = build_adversarial_training(config, encoder, labels, schedule) if stage == ENCODER else None
    if adversarial is None:
        return state
    return adversarial.begin(state, feature_dim=config.model.feature_dim, seed=config.seed)


def _fields_of(found: Architecture, *, tap: str, heads: str) -> dict[str, str]:
    """Returns the fields that a file decides: the heads, and a tap behind fc7 if it has that layer."""
    return {
        "model.tap": "fc7" if found.has_fc7 and not tap.startswith("fc7") else tap,
        "model.heads": ("pairwise" if found.pairwise else "shared") if found.sizes else heads,
    }


@contextlib.contextmanager
def _naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the name of a file to errors about its tensors."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}", arguments=error.arguments) from error
