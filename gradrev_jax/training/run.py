"""Trains a run: from its config to its stages, one after the other."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax import distributed
from gradrev_jax.data.catalogue import TEST, TRAIN
from gradrev_jax.data.queries import Queries
from gradrev_jax.distributed import say
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.drift import copies_sentences
from gradrev_jax.runs.fields.data import DEVICE
from gradrev_jax.runs.fingerprints import (
    FINGERPRINT_FILE,
    Fingerprint,
    fingerprint,
    merge_fingerprints,
    save_fingerprint,
)
from gradrev_jax.runs.frozen_backbone import save_frozen_backbone
from gradrev_jax.runs.inputs import expected_pixels, reads_vectors
from gradrev_jax.runs.loggers.loggers import open_loggers
from gradrev_jax.runs.loggers.registry import check_loggers
from gradrev_jax.runs.model_file import check_trainable
from gradrev_jax.runs.protocol import (
    given_weights,
    queries_of,
)
from gradrev_jax.runs.workdir_lock import hold_workdir
from gradrev_jax.systems.objective import ENCODER
from gradrev_jax.training.ahead import start_compiling
from gradrev_jax.training.opening import (
    Data,
    History,
    Plan,
    make_plan,
    open_data,
    read_history,
    with_earlier_values,
)
from gradrev_jax.training.parallel import CompiledSteps
from gradrev_jax.training.stage import RunOptions, Stage
from gradrev_jax.training.stage_runner import run_stage
from gradrev_jax.training.stages import STAGE_BUILDERS, StageInputs, patient_steps
from gradrev_jax.training.stopping import StoppableRows, never
from gradrev_jax.training.update import TrainState
from gradrev_jax.training.validation import Validation, make_validator

VALIDATION_REFERENCES = 500  # so that choosing a memory takes seconds an epoch, however large the catalogue


def train(
    config: ConfigDict,
    directory: str | os.PathLike[str],
    *,
    progress: bool = True,
    stop: Callable[[], bool] = never,
    during_steps: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> TrainState:
    """Trains the stages of a config in a folder, or goes on with the run that is there.

    What is wrong with the config, the catalogue, the images, the devices or the disk is found before anything
    is written, so that an error leaves no folder behind.

    Args:
      config: all fields, as ``configs/default.py`` has them.
      directory: the run's folder; docs/quick_start.md says what a run leaves there.
      progress: whether progress is shown: bars on a terminal, elsewhere a line per epoch, or minute.
      stop: the function that says whether to save and stop. It is called between steps, and quickly; if one
        of several processes is asked to stop, all do after the same step.
      during_steps: the function that returns a context manager, which is active while there are steps that
        no checkpoint holds yet: a caller that handles signals has to defer them within it alone.

    Returns:
      The state after the last step of the last stage.

    Raises:
      UserError: the config, the catalogue or the folder cannot be used, or training diverged.
      TrainingStopped: `stop` asked for it; the same call goes on from there.
    """
    directory = pathlib.Path(directory)
    check_trainable(directory)
    check(config)
    check_loggers(config.train.loggers)
    with hold_workdir(directory):
        config = builders.with_defaults(with_earlier_values(config, directory))
        progress = progress and distributed.is_first()
        history = read_history(directory)
        plan = make_plan(config, directory, history)
        compiling = None if history.has_begun else _start_compiling(plan)
        data = open_data(plan, progress=progress)
        fields = workdir.flat_fields(config.to_dict())
        with open_loggers(config.train.loggers, directory, fields, has_begun=history.has_begun) as loggers:
            now = fingerprint(plan.catalogue)
            _claim(plan, data, now)
            _say_notes(plan, data, now)
            shared = _stage_inputs(plan, data, progress=progress, stop=stop)
            for name in config.stages:
                stage = STAGE_BUILDERS[name](shared)
                options = _run_options(plan, stage, progress=progress, stop=stop, during_steps=during_steps)
                state = run_stage(stage, directory, options, loggers, compiling if name == ENCODER else None)
    return state


def _start_compiling(plan: Plan) -> Future[CompiledSteps] | None:
    """Starts compiling the encoder's steps of a new run, before its images are decoded.

    Args:
      plan: what is known of the run.

    Returns:
      The future of the compiled steps; None if the inputs are vectors, or if they cannot be compiled ahead.
    """
    if reads_vectors(plan.config):
        return None

    def validate_nothing(params: Any, memory: Any) -> Validation:
        raise AssertionError("a stage that is only compiled validates nothing")

    stage = STAGE_BUILDERS[ENCODER](
        StageInputs(
            config=plan.config,
            directory=plan.directory,
            catalogue=plan.catalogue,
            inputs={TRAIN: expected_pixels(plan.catalogue, TRAIN, plan.config)},
            encoder=plan.encoder,
            starting_weights={},
            objectives=plan.objectives,
            triplets=None,
            validate=validate_nothing,
            progress=False,
        )
    )
    return start_compiling(stage, _run_options(plan, stage, progress=False))


def _claim(plan: Plan, data: Data, now: Fingerprint) -> None:
    """Writes what later starts of the run must agree with into its folder: config, schema, catalogue."""
    directory, history = plan.directory, plan.history
    distributed.barrier("claim")  # all processes have seen the folder as it was
    if not distributed.is_first():
        return
    if _knows_what_was_trained_on(history):
        save_fingerprint(directory, merge_fingerprints(history.fingerprint, now))
    workdir.claim(directory, plan.config.to_dict())
    workdir.claim_schema(directory, plan.catalogue.schema)
    workdir.claim_vectors(directory, plan.catalogue.vectors)
    if data.frozen is not None:
        save_frozen_backbone(directory, data.frozen)


def _say_notes(plan: Plan, data: Data, now: Fingerprint) -> None:
    """Tells the user about the catalogue and the disk."""
    notes = list(data.notes)
    if not _knows_what_was_trained_on(plan.history):
        notes.append(
            f"{plan.directory} holds no {FINGERPRINT_FILE}, so whether its catalogue has changed cannot be "
            "told"
        )
    for note in (*notes, *copies_sentences(now), data.disk_note):
        say(note)


def _knows_what_was_trained_on(history: History) -> bool:
    """Returns whether all that was trained on is known; not so in a run that an earlier version has begun."""
    return history.fingerprint is not None or not history.has_begun


def _stage_inputs(plan: Plan, data: Data, *, progress: bool, stop: Callable[[], bool]) -> StageInputs:
    """Collects the inputs that all stages share, and the function that scores a checkpoint."""
    part, protocol = plan.validation_part, plan.protocol
    validate = make_validator(
        plan.encoder,
        StoppableRows(data.inputs[part], stop),
        plan.catalogue.part_labels(part),
        _validation_queries(plan, part) if data.triplets else None,
        # Where evaluation chooses the normalisation, training takes the usual one.
        normalize=protocol.normalize or "global",
        # Where evaluation chooses the weights, it needs the memory that is chosen here: there are none yet.
        weights=given_weights(protocol, plan.catalogue.schema),
        batch_size=protocol.batch_size,
        progress=progress,
    )
    return StageInputs(
        config=plan.config,
        directory=plan.directory,
        catalogue=plan.catalogue,
        inputs=data.inputs,
        encoder=plan.encoder,
        starting_weights=data.starting_weights,
        objectives=plan.objectives,
        triplets=data.triplets,
        validate=validate,
        progress=progress,
    )


def _run_options(
    plan: Plan,
    stage: Stage,
    *,
    progress: bool,
    stop: Callable[[], bool] = never,
    during_steps: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> RunOptions:
    config = plan.config
    return RunOptions(
        parallel=plan.devices[stage.name],
        on_device=config.data.placement == DEVICE,
        steps_per_call=config.train.steps_per_call,
        log_every=config.train.log_every,
        checkpoint_every=config.train.checkpoint_every,
        patient_steps=patient_steps(config, stage.epoch_steps),
        progress=progress,
        stop=stop,
        during_steps=during_steps,
    )


def _validation_queries(plan: Plan, part: str) -> Queries:
    """Returns the queries that choose the memory: of the test part, as in ADDE, or of held-out images."""
    seed = builders.data_seed(plan.config)
    queries = queries_of(plan.catalogue, part, plan.protocol, seed)
    return queries if part == TEST else queries.sample_references(VALIDATION_REFERENCES, seed)
