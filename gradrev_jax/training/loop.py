"""Training a run: from its config to its stages, one after the other."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gradrev_jax import settings, workdir
from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.checkpoints import PARAMS, Checkpoints
from gradrev_jax.config_check import check
from gradrev_jax.data.batches import batch_rows, steps_per_epoch
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import WorkdirError
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.optimizers import learning_rate_schedule, make_optimizer
from gradrev_jax.training.memory_steps import ENCODER, MEMORY, MemoryMetrics, MemoryWeights, make_memory_step
from gradrev_jax.training.stage import Stage, has_checkpoint, is_over, run_stage
from gradrev_jax.training.steps import (
    StepMetrics,
    TrainState,
    init_state,
    make_train_step,
)
from gradrev_jax.training.validation import Validate, make_validator


class Run(NamedTuple):
    """What all stages of a run share."""

    config: ConfigDict
    directory: pathlib.Path
    catalogue: Catalogue
    images: dict[str, np.ndarray]
    encoder: AttributeEncoder
    reversal_scale: float | np.ndarray
    triplets: Triplets | None
    validate: Validate
    progress: bool


def train(config: ConfigDict, directory: pathlib.Path, *, progress: bool = True) -> TrainState:
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
    check(config)
    catalogue = settings.open_catalogue(config)
    workdir.check_claim(directory, config.to_dict())
    _check_not_built_upon(directory, config, len(catalogue.parts[TRAIN]))
    reversal_scale = settings.reversal_scale(config, catalogue.schema)
    triplets = _triplets(config, catalogue)
    held_out = TEST if config.protocol.select_on_test else VALIDATION
    images = {
        part: settings.open_images(catalogue, part, config, progress=progress)
        for part in dict.fromkeys((TRAIN, VALIDATION, held_out))
    }
    workdir.claim(directory, config.to_dict())  # only now: what is wrong above leaves no folder behind
    workdir.claim_schema(directory, catalogue.schema)
    encoder = settings.build_encoder(config, catalogue.schema)
    validate = make_validator(
        encoder,
        images[held_out],
        catalogue.part_labels(held_out),
        settings.queries_of(catalogue, held_out, config) if triplets else None,
        normalize=config.protocol.normalize,
        batch_size=config.protocol.batch_size,
        progress=progress,
    )
    run = Run(config, directory, catalogue, images, encoder, reversal_scale, triplets, validate, progress)
    for name in config.stages:
        stage = STAGES[name](run)
        state = run_stage(
            stage,
            directory,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            patient_steps=_patient_steps(config, stage.epoch_steps),
            progress=progress,
        )
    return state


def _encoder_stage(run: Run) -> Stage:
    """Stage 1: the encoder on labelled images (Eqs. 1 to 5)."""
    config, encoder = run.config, run.encoder
    labels = run.catalogue.part_labels(TRAIN)
    epoch_steps = steps_per_epoch(len(labels), config.train.batch_size)
    schedule, optimizer = _optimizer(config, config.train, epoch_steps)
    step = make_train_step(
        encoder,
        optimizer,
        seed=config.seed,
        mirror=config.train.mirror,
        total_steps=config.train.epochs * epoch_steps,
        weighting=config.reversal.weighting,
        beta=config.reversal.beta,
        reversal_scale=run.reversal_scale,
        w_cls=config.train.classification_weight,
        attribute_triplet_weight=config.train.attribute_triplet_weight,
        label_triplet_weight=config.train.label_triplet_weight,
        triplet_margin=config.train.triplet_margin,
    )

    def do(state: TrainState, index: int) -> tuple[TrainState, StepMetrics]:
        rows = batch_rows(config.seed, index, num_images=len(labels), batch_size=config.train.batch_size)
        return step(state, run.images[TRAIN][rows], labels[rows])

    return Stage(
        name=ENCODER,
        section="train",
        state=init_state(encoder, optimizer, image_size=config.data.image_size, seed=config.seed),
        step=do,
        describe=lambda metrics: _describe_pathways(metrics, encoder.schema),
        validate=lambda params: run.validate(params, None),
        schedule=schedule,
        batch_size=config.train.batch_size,
        epoch_steps=epoch_steps,
        last_step=_last_step(config.train, epoch_steps),
    )


def _memory_stage(run: Run) -> Stage:
    """Stage 2: the memory, and the encoder with it, on triplets."""
    config, encoder = run.config, run.encoder
    labels, triplets = run.catalogue.part_labels(TRAIN), run.triplets
    assert triplets is not None, "train made them, because the stage is in the config"
    epoch_steps = _memory_epoch_steps(config, triplets)
    schedule, optimizer = _optimizer(config, config.memory, epoch_steps)
    step = make_memory_step(
        encoder,
        optimizer,
        seed=config.seed,
        mirror=config.train.mirror,
        weights=MemoryWeights(**config.memory.weights),
        block=config.memory.block,
        freeze_encoder=config.memory.freeze_encoder,
        reversal=config.memory.reversal,
        beta=config.reversal.beta,
        reversal_scale=run.reversal_scale,
        margin=config.memory.margin,
    )

    def do(state: TrainState, index: int) -> tuple[TrainState, MemoryMetrics]:
        drawn = batch_rows(config.seed, index, num_images=len(triplets), batch_size=config.memory.batch_size)
        rows = np.stack([triplets.reference[drawn], triplets.positive[drawn], triplets.negative[drawn]])
        return step(state, run.images[TRAIN][rows], labels[rows], triplets.indicators[drawn])

    params = _initial_memory(run)
    return Stage(
        name=MEMORY,
        section="memory",
        state=TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)),
        step=do,
        describe=lambda metrics: {
            name: float(value) for name, value in metrics._asdict().items() if name != "loss"
        },
        validate=lambda params: run.validate(params[ENCODER], params[MEMORY]),
        schedule=schedule,
        batch_size=3 * config.memory.batch_size,
        epoch_steps=epoch_steps,
        last_step=_last_step(config.memory, epoch_steps),
    )


def _optimizer(
    config: ConfigDict, section: ConfigDict, epoch_steps: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Learning rate by step, and the optimiser that follows it, of the stage with this section."""
    schedule = learning_rate_schedule(
        section.learning_rate,
        kind=config.train.schedule,
        decay_rate=config.train.decay_rate,
        decay_steps=config.train.decay_epochs * epoch_steps,
        warmup_steps=config.train.warmup_steps,
        total_steps=_last_step(section, epoch_steps),
    )
    return schedule, make_optimizer(
        schedule, weight_decay=config.train.weight_decay, clip_norm=config.train.clip_norm
    )


def _triplets(config: ConfigDict, catalogue: Catalogue) -> Triplets | None:
    """What stage 2 trains on; made before stage 1, so that no hours of training precede an error."""
    if MEMORY not in config.stages:
        return None
    triplets = settings.triplets_of(catalogue, config)
    _memory_epoch_steps(config, triplets)
    return triplets


def _memory_epoch_steps(config: ConfigDict, triplets: Triplets) -> int:
    return steps_per_epoch(len(triplets), config.memory.batch_size, of="triplets", section="memory")


STAGES: dict[str, Callable[[Run], Stage]] = {ENCODER: _encoder_stage, MEMORY: _memory_stage}


def _initial_memory(run: Run) -> dict[str, Any]:
    """The best encoder of stage 1, and the prototypes that it gives (Eq. 6).

    Where stage 2 goes on from a checkpoint, only the shapes matter.
    """
    template = init_state(
        run.encoder, optax.identity(), image_size=run.config.data.image_size, seed=run.config.seed
    ).params
    if has_checkpoint(run.directory, MEMORY):
        n, d = run.catalogue.schema.num_attributes, run.encoder.feature_dim
        return {ENCODER: template, MEMORY: jnp.zeros((run.catalogue.schema.num_values, n, d))}
    with Checkpoints(workdir.checkpoint_directory(run.directory, ENCODER), read_only=True) as checkpoints:
        if checkpoints.best_step is None:
            raise WorkdirError(
                f"{run.directory} has no trained encoder; put 'encoder' before 'memory' in stages"
            )
        params = checkpoints.restore(checkpoints.best_step, {PARAMS: template})[PARAMS]
    memory = build_memory(
        make_forward(run.encoder),
        params,
        [(run.images[part], run.catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
        run.catalogue.schema,
        feature_dim=run.encoder.feature_dim,
        batch_size=run.config.protocol.batch_size,
        progress=run.progress,
    )
    return {ENCODER: params, MEMORY: memory}


def _check_not_built_upon(directory: pathlib.Path, config: ConfigDict, num_images: int) -> None:
    """Raise where the encoder would be trained further although a memory was fine-tuned on it."""
    epoch_steps = steps_per_epoch(num_images, config.train.batch_size)
    if not (has_checkpoint(directory, MEMORY) and has_checkpoint(directory, ENCODER)):
        return
    last_step = _last_step(config.train, epoch_steps)
    with Checkpoints(workdir.checkpoint_directory(directory, ENCODER), read_only=True) as checkpoints:
        if is_over(checkpoints, last_step, _patient_steps(config, epoch_steps)):
            return
        trained = checkpoints.latest_step
    raise WorkdirError(
        f"{directory} has a memory that was fine-tuned after step {trained} of its encoder, which "
        f"would now be trained to step {last_step}; to do both, remove "
        f"{workdir.checkpoint_directory(directory, MEMORY)}, or start afresh in another --workdir"
    )


def _patient_steps(config: ConfigDict, epoch_steps: int) -> int | None:
    return None if config.train.patience is None else config.train.patience * epoch_steps


def _last_step(section: ConfigDict, epoch_steps: int) -> int:
    whole = section.epochs * epoch_steps
    return whole if section.max_steps is None else min(whole, section.max_steps)


def _describe_pathways(metrics: StepMetrics, schema: AttributeSchema) -> dict[str, Any]:
    """What is logged of a step of stage 1: its losses, and those of all pathways, feature -> classifier."""
    rows = np.asarray(metrics.pathways).tolist()
    triplets = {
        name: float(loss)
        for name in ("loss_attribute_triplet", "loss_label_triplet")
        if (loss := getattr(metrics, name))  # 0 where they are off
    }
    return {
        "loss_cls": float(metrics.loss_cls),
        "loss_rev": float(metrics.loss_rev),
        "w_rev": float(metrics.w_rev),
        **triplets,
        "pathways": {
            feature: dict(zip(schema.names, row, strict=True))
            for feature, row in zip(schema.names, rows, strict=True)
        },
    }
