"""Builds the stages of a run from its config: their first state, their step, and what is logged of it."""

import functools
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.optimizers import learning_rate_schedule, make_optimizer
from gradrev_jax.data.batches import batch_rows, steps_per_epoch
from gradrev_jax.data.catalogue import TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import naming
from gradrev_jax.models.embeddings import vector_statistics
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.inputs import Rows, VectorInputs
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.models.variables import STATISTICS, backbone_variables, with_backbone_variables
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.checkpoints import PARAMS, Checkpoints
from gradrev_jax.runs.inputs import input_size
from gradrev_jax.runs.starting_weights import with_starting_weights
from gradrev_jax.systems.objective import ENCODER, MEMORY, MemoryTargets, Objective
from gradrev_jax.training.adversarial_step import AdversarialTraining, make_adversarial_update
from gradrev_jax.training.adversaries import build_adversarial_training
from gradrev_jax.training.encoder_step import init_state, state_shapes
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.saved_state import has_checkpoint
from gradrev_jax.training.stage import Batch, Stage
from gradrev_jax.training.update import TrainState, Update, make_update
from gradrev_jax.training.validation import Validate

_SECTION_OF = {ENCODER: "train", MEMORY: "memory"}  # the section of the config for each stage
IMAGES_PER_EXAMPLE = {ENCODER: 1, MEMORY: 3}  # a triplet has three


class StageInputs(NamedTuple):
    """Represents the inputs that all stages of a run share.

    Attributes:
      config: the config of the run.
      directory: the folder of the run.
      catalogue: the catalogue, with its validation part.
      inputs: the inputs of the model by part.
      encoder: the model.
      starting_weights: the parameters and statistics that the encoder's backbone starts from; those that are
        not there are random.
      objectives: what each stage minimises, by its name.
      triplets: the triplets of stage 2, rows of the training part; None without it.
      validate: the function that a checkpoint is chosen by.
      progress: whether progress bars are shown.
    """

    config: ConfigDict
    directory: pathlib.Path
    catalogue: Catalogue
    inputs: dict[str, Rows]
    encoder: Encoder
    starting_weights: Any
    objectives: Mapping[str, Objective]
    triplets: Triplets | None
    validate: Validate
    progress: bool

    @property
    def input_size(self) -> int:
        """The height and width of the images, or the width of the vectors."""
        return input_size(self.config, self.inputs[TRAIN])


def _encoder_stage(shared: StageInputs) -> Stage:
    """Builds stage 1: the encoder on labelled images (Eqs. 1 to 5)."""
    config, encoder = shared.config, shared.encoder
    labels = shared.catalogue.part_labels(TRAIN)
    epoch_steps = steps_per_epoch(len(labels), config.train.batch_size)
    schedule, optimizer = stage_optimizer(config, ENCODER, epoch_steps)
    objective = shared.objectives[ENCODER]
    adversarial = build_adversarial_training(config, encoder, labels, schedule)
    make: Callable[..., Update] = (
        make_update if adversarial is None else functools.partial(make_adversarial_update, adversarial)
    )
    update = make(
        encoder,
        optimizer,
        objective,
        seed=config.seed,
        mirror=config.train.mirror,
        total_steps=config.train.epochs * epoch_steps,
    )

    def batch(step: int) -> Batch:
        rows = batch_rows(config.seed, step, num_examples=len(labels), batch_size=config.train.batch_size)
        return Batch(rows, labels[rows])

    return Stage(
        name=ENCODER,
        begin=functools.partial(_initial_state, shared, optimizer, adversarial),
        update=update,
        inputs=shared.inputs[TRAIN],
        batch=batch,
        record=lambda metrics: objective.record(metrics, encoder.schema),
        validate=lambda params: shared.validate(params, None),
        schedule=schedule,
        batch_size=config.train.batch_size,
        epoch_steps=epoch_steps,
        last_step=last_step(config, ENCODER, epoch_steps),
        shapes=_state_shapes(shared, optimizer, adversarial),
        advice=_advice(config, ENCODER),
    )


def _state_shapes(
    shared: StageInputs, optimizer: optax.GradientTransformation, adversarial: AdversarialTraining | None
) -> TrainState:
    """Returns the shapes and dtypes of the random parameters."""
    shapes = state_shapes(shared.encoder, optimizer, input_size=shared.input_size)
    return jax.eval_shape(functools.partial(_with_adversaries, shared, adversarial), shapes)


def _with_adversaries(
    shared: StageInputs, adversarial: AdversarialTraining | None, state: TrainState
) -> TrainState:
    """Returns a first state with the adversaries that a stage trains against, if it does."""
    if adversarial is None:
        return state
    return adversarial.begin(state, feature_dim=shared.encoder.feature_dim, seed=shared.config.seed)


def _initial_state(
    shared: StageInputs, optimizer: optax.GradientTransformation, adversarial: AdversarialTraining | None
) -> TrainState:
    """Creates random parameters, except for a backbone's pretrained ones, and the statistics of vectors."""
    state = init_state(shared.encoder, optimizer, input_size=shared.input_size, seed=shared.config.seed)
    state = _with_adversaries(shared, adversarial, state)
    if has_checkpoint(shared.directory, ENCODER):
        return state  # whose shapes alone matter
    starting = shared.starting_weights
    if isinstance(shared.encoder.inputs, VectorInputs):
        starting = {STATISTICS: vector_statistics(shared.inputs[TRAIN])}
    backbone = with_starting_weights(backbone_variables(state.params), starting)
    return state._replace(params=with_backbone_variables(state.params, backbone))


def _memory_stage(shared: StageInputs) -> Stage:
    """Builds stage 2: the memory, and the encoder with it, on triplets."""
    config, encoder = shared.config, shared.encoder
    labels, triplets = shared.catalogue.part_labels(TRAIN), shared.triplets
    assert triplets is not None, "train made them, because the stage is in the config"
    objective, edit = shared.objectives[MEMORY], builders.learned_edit(config, encoder, MEMORY)
    epoch_steps = memory_epoch_steps(config, triplets)
    schedule, optimizer = stage_optimizer(config, MEMORY, epoch_steps, objective.frozen)
    update = make_update(
        encoder,
        optimizer,
        objective,
        seed=config.seed,
        mirror=config.train.mirror,
        total_steps=config.memory.epochs * epoch_steps,
    )

    def batch(step: int) -> Batch:
        drawn = batch_rows(config.seed, step, num_examples=len(triplets), batch_size=config.memory.batch_size)
        rows = np.stack([triplets.reference[drawn], triplets.positive[drawn], triplets.negative[drawn]])
        return Batch(rows.reshape(-1), MemoryTargets(labels[rows], triplets.indicators[drawn]))

    return Stage(
        name=MEMORY,
        begin=lambda: TrainState.begin(_initial_memory(shared), optimizer),
        update=update,
        inputs=shared.inputs[TRAIN],
        batch=batch,
        record=lambda metrics: objective.record(metrics, encoder.schema),
        validate=lambda params: shared.validate(
            params[ENCODER], params[MEMORY] if edit is None else LearnedEdit(edit, params)
        ),
        schedule=schedule,
        batch_size=IMAGES_PER_EXAMPLE[MEMORY] * config.memory.batch_size,
        epoch_steps=epoch_steps,
        last_step=last_step(config, MEMORY, epoch_steps),
        shapes=jax.eval_shape(lambda params: TrainState.begin(params, optimizer), _memory_shapes(shared)),
        advice=_advice(config, MEMORY),
    )


def stage_devices(config: ConfigDict, stage: str) -> Parallel:
    """Returns the devices of a stage.

    Raises:
      ConfigError: they cannot serve its batches.
    """
    batch = IMAGES_PER_EXAMPLE[stage] * config[_SECTION_OF[stage]].batch_size
    return Parallel.over(config.devices or None, batch=batch, mode=config.parallel)


def stage_optimizer(
    config: ConfigDict, stage: str, epoch_steps: int, frozen: Collection[str] = ()
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning-rate schedule of a stage, and the optimizer that follows it."""
    section = config[_SECTION_OF[stage]]
    schedule = learning_rate_schedule(
        section.learning_rate,
        kind=config.train.schedule,
        decay_rate=config.train.decay_rate,
        decay_steps=config.train.decay_epochs * epoch_steps,
        warmup_steps=config.train.warmup_steps,
        total_steps=last_step(config, stage, epoch_steps),
    )
    return schedule, make_optimizer(
        schedule,
        weight_decay=config.train.weight_decay,
        clip_norm=config.train.clip_norm,
        frozen=frozen,
    )


def _advice(config: ConfigDict, stage: str) -> str:
    """Returns the settings that may help where a stage diverges."""
    section = _SECTION_OF[stage]
    advice = [f"lower {section}.learning_rate (now {config[section].learning_rate:g})"]
    if config.train.clip_norm is None:
        advice.append("set train.clip_norm=1")
    reversal = config.reversal
    if stage == ENCODER and reversal.weighting in ("fixed", "schedule"):
        advice.append(
            f"set reversal.weighting=balanced (now {reversal.weighting}) or lower reversal.beta (now "
            f"{reversal.beta:g})"
        )
    is_balanced = config.memory.reversal if stage == MEMORY else reversal.weighting == "balanced"
    if is_balanced:
        advice.append(f"lower reversal.beta (now {reversal.beta:g})")
    if config.precision != "float32":
        advice.append(f"set precision=float32 (now {config.precision})")
    return " or ".join(filter(None, [", ".join(advice[:-1]), advice[-1]]))


def memory_epoch_steps(config: ConfigDict, triplets: Triplets) -> int:
    """Returns the number of steps per pass over the triplets.

    Raises:
      ConfigError: fewer triplets than one batch holds.
    """
    with naming("memory.{}"):
        return steps_per_epoch(len(triplets), config.memory.batch_size)


def last_step(config: ConfigDict, stage: str, epoch_steps: int) -> int:
    """Returns the number of the last step of a stage."""
    section = config[_SECTION_OF[stage]]
    whole = section.epochs * epoch_steps
    return whole if section.max_steps is None else min(whole, section.max_steps)


def patient_steps(config: ConfigDict, epoch_steps: int) -> int | None:
    """Returns the number of steps without a better validation score that end a stage; None: it runs on."""
    return None if config.train.patience is None else config.train.patience * epoch_steps


def _memory_shapes(shared: StageInputs) -> dict[str, Any]:
    """Returns the shapes and dtypes of what stage 2 trains."""
    encoder = parameter_shapes(shared.encoder, shared.input_size)
    return {ENCODER: encoder, MEMORY: builders.second_stage_shapes(shared.config, shared.encoder)}


def _initial_memory(shared: StageInputs) -> dict[str, Any]:
    """Returns the best encoder of stage 1, and what is trained beside it, from its prototypes (Eq. 6).

    Where stage 2 goes on from a checkpoint, only the shapes matter.
    """
    shapes = _memory_shapes(shared)
    if has_checkpoint(shared.directory, MEMORY):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    with Checkpoints(workdir.checkpoint_directory(shared.directory, ENCODER), read_only=True) as checkpoints:
        best = checkpoints.best_step
        assert best is not None, "stage 1 comes before, and leaves a checkpoint"
        params = checkpoints.restore(best, {PARAMS: shapes[ENCODER]})[PARAMS]
    prototypes = build_memory(
        params,
        [(shared.inputs[part], shared.catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
        shared.encoder,
        batch_size=shared.config.protocol.batch_size,
        progress=shared.progress,
    )
    second = builders.system_of(shared.config).second_stage
    assert second is not None, "the config was checked"
    return {ENCODER: params, MEMORY: second.begin(shared.config, shared.encoder, prototypes)}


STAGE_BUILDERS: dict[str, Callable[[StageInputs], Stage]] = {ENCODER: _encoder_stage, MEMORY: _memory_stage}
