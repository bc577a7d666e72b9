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
from gradrev_jax.data.batches import batch_rows, steps_per_epoch
from gradrev_jax.data.catalogue import TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.triplets import Triplets, generate_triplets
from gradrev_jax.errors import WorkdirError
from gradrev_jax.metrics import AccuracySummary, accuracy_summary
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.training.memory_steps import ENCODER, MEMORY, MemoryMetrics, MemoryWeights, make_memory_step
from gradrev_jax.training.stage import Stage, latest_step, run_stage
from gradrev_jax.training.steps import (
    StepMetrics,
    TrainState,
    init_state,
    learning_rate_schedule,
    make_train_step,
)


class Run(NamedTuple):
    """What all stages of a run share."""

    config: ConfigDict
    directory: pathlib.Path
    catalogue: Catalogue
    images: dict[str, np.ndarray]
    encoder: AttributeEncoder
    reversal_scale: float | np.ndarray
    triplets: Triplets | None
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
    settings.check(config)
    catalogue = settings.open_catalogue(config)
    workdir.check_claim(directory, config.to_dict())
    encoder_steps = steps_per_epoch(len(catalogue.parts[TRAIN]), config.train.batch_size)
    _check_not_built_upon(directory, _last_step(config.train, encoder_steps))
    reversal_scale = settings.reversal_scale(config, catalogue.schema)
    triplets = _triplets(config, catalogue) if MEMORY in config.stages else None
    images = {
        part: settings.open_images(catalogue, part, config, progress=progress) for part in (TRAIN, VALIDATION)
    }
    workdir.claim(directory, config.to_dict())  # only now: what is wrong above leaves no folder behind
    workdir.claim_schema(directory, catalogue.schema)
    encoder = settings.build_encoder(config, catalogue.schema)
    run = Run(config, directory, catalogue, images, encoder, reversal_scale, triplets, progress)
    for name in config.stages:
        stage = STAGES[name](run)
        state = run_stage(
            stage,
            directory,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            select_best=name == ENCODER,
            progress=progress,
        )
    return state


def _encoder_stage(run: Run) -> Stage:
    """Stage 1: the encoder on labelled images (Eqs. 1 to 5)."""
    config, encoder = run.config, run.encoder
    labels = run.catalogue.part_labels(TRAIN)
    epoch_steps = steps_per_epoch(len(labels), config.train.batch_size)
    schedule, optimizer = _adam(config, config.train.learning_rate, epoch_steps)
    step = make_train_step(
        encoder,
        optimizer,
        seed=config.seed,
        total_steps=config.train.epochs * epoch_steps,
        weighting=config.reversal.weighting,
        beta=config.reversal.beta,
        reversal_scale=run.reversal_scale,
        w_cls=config.train.classification_weight,
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
        validate=_validator(run),
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
    epoch_steps = _memory_epoch_steps(config)
    schedule, optimizer = _adam(config, config.memory.learning_rate, epoch_steps)
    step = make_memory_step(
        encoder,
        optimizer,
        seed=config.seed,
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

    validate = _validator(run)
    params = _initial_memory(run)
    return Stage(
        name=MEMORY,
        section="memory",
        state=TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)),
        step=do,
        describe=lambda metrics: {
            name: float(value) for name, value in metrics._asdict().items() if name != "loss"
        },
        validate=lambda params: validate(params[ENCODER]),
        schedule=schedule,
        batch_size=3 * config.memory.batch_size,
        epoch_steps=epoch_steps,
        last_step=_last_step(config.memory, epoch_steps),
    )


def _adam(
    config: ConfigDict, learning_rate: float, epoch_steps: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Learning rate by step, and the optimiser that follows it."""
    schedule = learning_rate_schedule(
        learning_rate,
        decay_rate=config.train.decay_rate,
        decay_epochs=config.train.decay_epochs,
        steps_per_epoch=epoch_steps,
    )
    return schedule, optax.adam(schedule)


def _memory_epoch_steps(config: ConfigDict) -> int:
    return steps_per_epoch(config.memory.triplets, config.memory.batch_size, of="triplets", section="memory")


def _triplets(config: ConfigDict, catalogue: Catalogue) -> Triplets:
    """What stage 2 trains on; made before stage 1, so that no hours of training precede an error."""
    _memory_epoch_steps(config)
    labels = catalogue.part_labels(TRAIN)
    return generate_triplets(labels, catalogue.schema, count=config.memory.triplets, seed=config.seed)


STAGES: dict[str, Callable[[Run], Stage]] = {ENCODER: _encoder_stage, MEMORY: _memory_stage}


def _initial_memory(run: Run) -> dict[str, Any]:
    """The best encoder of stage 1, and the prototypes that it gives (Eq. 6).

    Where stage 2 goes on from a checkpoint, only the shapes matter.
    """
    template = init_state(
        run.encoder, optax.identity(), image_size=run.config.data.image_size, seed=run.config.seed
    ).params
    if latest_step(run.directory, MEMORY) is not None:
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


def _check_not_built_upon(directory: pathlib.Path, last_step: int) -> None:
    """Raise where the encoder would be trained further although a memory was fine-tuned on it."""
    trained = latest_step(directory, ENCODER) or 0
    if trained < last_step and latest_step(directory, MEMORY):
        raise WorkdirError(
            f"{directory} has a memory that was fine-tuned after step {trained} of its encoder, which "
            f"would now be trained to step {last_step}; to do both, remove "
            f"{workdir.checkpoint_directory(directory, MEMORY)}, or start afresh in another --workdir"
        )


def _last_step(section: ConfigDict, epoch_steps: int) -> int:
    whole = section.epochs * epoch_steps
    return whole if section.max_steps is None else min(whole, section.max_steps)


def _describe_pathways(metrics: StepMetrics, schema: AttributeSchema) -> dict[str, Any]:
    """What is logged of a step of stage 1: its losses, and those of all pathways, feature -> classifier."""
    rows = np.asarray(metrics.pathways).tolist()
    return {
        "loss_cls": float(metrics.loss_cls),
        "loss_rev": float(metrics.loss_rev),
        "w_rev": float(metrics.w_rev),
        "pathways": {
            feature: dict(zip(schema.names, row, strict=True))
            for feature, row in zip(schema.names, rows, strict=True)
        },
    }


def _validator(run: Run) -> Callable[[Any], AccuracySummary | None]:
    """Params -> attribute accuracy on the validation part; None where nothing there is labelled."""
    forward = make_forward(run.encoder)
    labels = run.catalogue.part_labels(VALIDATION)

    def validate(params: Any) -> AccuracySummary | None:
        encoded = encode(
            forward,
            params,
            run.images[VALIDATION],
            labels,
            run.encoder,
            batch_size=run.config.protocol.batch_size,
            description=VALIDATION,
            progress=run.progress,
        )
        if not encoded.labelled.any():
            return None
        return accuracy_summary(encoded.correct.diagonal(), encoded.labelled, run.encoder.schema)

    return validate
