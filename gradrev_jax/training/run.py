"""Training a run: from its config to its stages, one after the other."""

import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from gradrev_jax import distributed
from gradrev_jax.data.batches import steps_per_epoch
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, WorkdirError, join_names, together
from gradrev_jax.files import expand
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.runs import builders, pixels, workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.drift import check_resumed, copies, counted
from gradrev_jax.runs.fields.data import DEVICE
from gradrev_jax.runs.fingerprints import (
    FILE,
    Fingerprint,
    fingerprint,
    following,
    read_fingerprint,
    remembering,
    save_fingerprint,
)
from gradrev_jax.runs.protocol import (
    Protocol,
    build_protocol,
    check_protocol,
    evaluation_queries,
    queries_of,
)
from gradrev_jax.runs.restore import parameter_shapes
from gradrev_jax.training.encoder_step import TrainState
from gradrev_jax.training.memory_step import ENCODER, MEMORY
from gradrev_jax.training.stage_runner import has_checkpoint, is_over, run_stage
from gradrev_jax.training.stages import STAGES, Run, last_step, memory_epoch_steps, stage_devices
from gradrev_jax.training.validation import make_validator
from gradrev_jax.weights.alexnet import with_pretrained_backbone

VALIDATION_REFERENCES = 500  # so that choosing a memory takes seconds an epoch, however large the catalogue


def train(config: ConfigDict, directory: str | os.PathLike[str], *, progress: bool = True) -> TrainState:
    """Train the stages of a config in a folder, or go on with the run that is there.

    Args:
      config: as ``configs/default.py`` has it.
      directory: the run's folder; what a run leaves there is in README.md.
      progress: whether progress bars are shown.

    Returns:
      The state after the last stage's last step.

    Raises:
      UserError: the config, the catalogue or the folder cannot be used, or training diverged.
    """
    directory = pathlib.Path(directory)
    check(config)
    progress = progress and distributed.is_first()
    if earlier := workdir.earlier_values(directory):  # a run goes on as it began
        config = config.copy_and_resolve_references()
        config.update_from_flattened_dict(earlier)
    catalogue = remembering(builders.open_catalogue(config))
    protocol = build_protocol(config)
    check_protocol(protocol, catalogue)
    workdir.check_claim(directory, config.to_dict())
    has_begun = any(has_checkpoint(directory, name) for name in STAGES)
    before = read_fingerprint(directory) if has_begun else None
    if before is not None:  # by names and labels, before images are read
        _check_drift(before, catalogue, directory, config)
    if config.train.max_steps == 0 and not has_checkpoint(directory, ENCODER):
        raise ConfigError(
            f"train.max_steps = 0 takes the encoder that a run has as it is, and {directory} has none"
        )
    _check_not_built_upon(directory, config, len(catalogue.parts[TRAIN]))
    reversal_scale = builders.reversal_scale(config, catalogue.schema)
    # What evaluation needs is looked at too, so that no hours of training precede an error.
    triplets, _, images = together(
        lambda: _triplets(config, catalogue),
        lambda: evaluation_queries(catalogue, protocol, config.seed),
        lambda: pixels.open_parts(catalogue, PARTS, config, progress=progress),
    )
    held_out = TEST if protocol.select_on_test else VALIDATION
    notes = _check_drift(before, catalogue, directory, config) if before is not None else []
    encoder = builders.build_encoder(config, catalogue.schema)
    parallels = {name: stage_devices(config, name) for name in config.stages}
    shapes = parameter_shapes(encoder, config.data.image_size)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if config.data.placement == DEVICE:
        # Parameters, their gradients and two moments.
        parallels[ENCODER].check_room(images[TRAIN].shape, besides=4 * size)
    # A checkpoint has parameters and two moments; of each stage the latest, the best and the next are there.
    workdir.check_room(directory, len(config.stages) * 3 * 3 * size)
    backbone = _pretrained_backbone(encoder, config, directory)
    now = fingerprint(catalogue)
    distributed.wait("claim")  # all have seen the folder as it was
    if distributed.is_first():  # only now: what is wrong above leaves no folder behind
        if before is not None or not has_begun:  # what an earlier version has trained on is not known
            save_fingerprint(directory, following(before, now))
        workdir.claim(directory, config.to_dict())
        workdir.claim_schema(directory, catalogue.schema)
    if before is None and has_begun:
        notes.append(f"{directory} holds no {FILE}, so whether its catalogue has changed cannot be told")
    if same := copies(now):
        notes.append(f"{counted(same)} in the test part and trained on, too: {join_names(same)}")
    for note in notes:
        say(note)
    validate = make_validator(
        encoder,
        images[held_out],
        catalogue.part_labels(held_out),
        _validation_queries(catalogue, held_out, protocol, config.seed) if triplets else None,
        normalize=protocol.normalize,
        batch_size=protocol.batch_size,
        progress=progress,
    )
    run = Run(
        config, directory, catalogue, images, encoder, backbone, reversal_scale, triplets, validate, progress
    )
    for name in config.stages:
        stage = STAGES[name](run)
        state = run_stage(
            stage,
            directory,
            parallel=parallels[name],
            on_device=config.data.placement == DEVICE,
            steps_per_call=config.train.steps_per_call,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            patient_steps=_patient_steps(config, stage.epoch_steps),
            progress=progress,
        )
    return state


def _check_drift(
    before: Fingerprint, catalogue: Catalogue, directory: pathlib.Path, config: ConfigDict
) -> list[str]:
    """Returns what has changed in a catalogue since a run began, if it may go on, a sentence each."""
    workdir.check_schema(directory, catalogue.schema)
    accept = config.data.accept_changes
    return check_resumed(before, fingerprint(catalogue), catalogue.schema, directory, accept=accept)


def _pretrained_backbone(encoder: AttributeEncoder, config: ConfigDict, directory: pathlib.Path) -> Any:
    """Parameters that the backbone starts from, of the file that the config names.

    None where it names none, or where the encoder goes on from a checkpoint anyway.
    """
    if config.model.pretrained is None or has_checkpoint(directory, ENCODER):
        return None
    shapes = parameter_shapes(encoder, config.data.image_size)
    path = expand(config.model.pretrained, "model.pretrained")
    return with_pretrained_backbone(shapes, path)["params"]["backbone"]


def _validation_queries(catalogue: Catalogue, part: str, protocol: Protocol, seed: int) -> Queries:
    """What the memory is chosen by: the test queries, as ADDE does, or those of some held-out images."""
    queries = queries_of(catalogue, part, protocol, seed)
    return queries if part == TEST else queries.of_references(VALIDATION_REFERENCES, seed)


def _triplets(config: ConfigDict, catalogue: Catalogue) -> Triplets | None:
    """Returns what stage 2 trains on; None without it."""
    if MEMORY not in config.stages:
        return None
    triplets = builders.triplets_of(catalogue, config)
    memory_epoch_steps(config, triplets)
    return triplets


def _check_not_built_upon(directory: pathlib.Path, config: ConfigDict, num_images: int) -> None:
    """Raise where the encoder would be trained further although a memory was fine-tuned on it."""
    epoch_steps = steps_per_epoch(num_images, config.train.batch_size)
    if not (has_checkpoint(directory, MEMORY) and has_checkpoint(directory, ENCODER)):
        return
    last = last_step(config.train, epoch_steps)
    with Checkpoints(workdir.checkpoint_directory(directory, ENCODER), read_only=True) as checkpoints:
        if is_over(checkpoints, last, _patient_steps(config, epoch_steps)):
            return
        trained = checkpoints.latest_step
    raise WorkdirError(
        f"{directory} has a memory that was fine-tuned after step {trained} of its encoder, which "
        f"would now be trained to step {last}; train.max_steps = 0 leaves it as it is; to do both, remove "
        f"{workdir.checkpoint_directory(directory, MEMORY)}, or start afresh in another --workdir"
    )


def _patient_steps(config: ConfigDict, epoch_steps: int) -> int | None:
    return None if config.train.patience is None else config.train.patience * epoch_steps
