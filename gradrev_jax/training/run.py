"""Trains a run: from its config to its stages, one after the other."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax import distributed
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue
from gradrev_jax.data.queries import Queries
from gradrev_jax.distributed import say
from gradrev_jax.errors import join_names
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.drift import copies, counted
from gradrev_jax.runs.fields.data import DEVICE
from gradrev_jax.runs.fingerprints import (
    FILE,
    fingerprint,
    following,
    save_fingerprint,
)
from gradrev_jax.runs.frozen_backbone import save_frozen_backbone
from gradrev_jax.runs.inputs import expected_pixels, is_vectors
from gradrev_jax.runs.loggers.loggers import open_loggers
from gradrev_jax.runs.loggers.registry import check_loggers
from gradrev_jax.runs.model_file import check_trainable
from gradrev_jax.runs.protocol import (
    Protocol,
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
    as_begun,
    make_plan,
    open_data,
    read_history,
)
from gradrev_jax.training.parallel import CompiledSteps, Parallel
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
      progress: whether progress bars are shown.
      stop: the function that says whether to save and stop. It is called between steps, and quickly; if one
        of several processes is asked to stop, all do after the same step.
      during_steps: the function that makes a context, entered while there is work that only a checkpoint
        keeps: a caller that is to end by a signal waits for its end, and needs to wait nowhere else.

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
        config = builders.with_defaults(as_begun(config, directory))
        progress = progress and distributed.is_first()
        history = read_history(directory)
        plan = make_plan(config, directory, history)
        early = None if history.has_begun else _compile_beside(config, plan, directory)
        data = open_data(config, plan, directory, history, progress=progress)
        fields = workdir.flat_fields(config.to_dict())
        with open_loggers(config.train.loggers, directory, fields, has_begun=history.has_begun) as loggers:
            _claim(config, plan, data, directory, history)
            say(data.disk_note)
            shared = _stage_inputs(config, directory, plan, data, progress=progress, stop=stop)
            for name in config.stages:
                stage = STAGE_BUILDERS[name](shared)
                options = _run_options(
                    config,
                    stage,
                    plan.devices[name],
                    progress=progress,
                    stop=stop,
                    during_steps=during_steps,
                )
                state = run_stage(stage, directory, options, loggers, early if name == ENCODER else None)
    return state


def _compile_beside(config: ConfigDict, plan: Plan, directory: pathlib.Path) -> Future[CompiledSteps] | None:
    """Starts compiling the steps of a new run while its images are decoded; None: it cannot, or has none."""
    if ENCODER not in config.stages or is_vectors(config):
        return None

    def validate_nothing(params: Any, memory: Any) -> Validation:
        raise AssertionError("a stage that is only compiled validates nothing")

    stage = STAGE_BUILDERS[ENCODER](
        StageInputs(
            config=config,
            directory=directory,
            catalogue=plan.catalogue,
            inputs={TRAIN: expected_pixels(plan.catalogue, TRAIN, config)},
            encoder=plan.encoder,
            starting_weights={},
            objectives=plan.objectives,
            triplets=None,
            validate=validate_nothing,
            progress=False,
        )
    )
    return start_compiling(stage, _run_options(config, stage, plan.devices[ENCODER], progress=False))


def _claim(config: ConfigDict, plan: Plan, data: Data, directory: pathlib.Path, history: History) -> None:
    """Claims the folder for this run, and prints the notes on its catalogue."""
    now = fingerprint(plan.catalogue)
    is_known = history.fingerprint is not None or not history.has_begun
    distributed.barrier("claim")  # all have seen the folder as it was
    if distributed.is_first():
        if is_known:  # what an earlier version has trained on is not known
            save_fingerprint(directory, following(history.fingerprint, now))
        workdir.claim(directory, config.to_dict())
        workdir.claim_schema(directory, plan.catalogue.schema)
        workdir.claim_vectors(directory, plan.catalogue.vectors)
        if data.frozen is not None:
            save_frozen_backbone(directory, data.frozen)
    notes = list(data.notes)
    if not is_known:
        notes.append(f"{directory} holds no {FILE}, so whether its catalogue has changed cannot be told")
    if same := copies(now):
        notes.append(f"{counted(same)} in the test part and trained on, too: {join_names(same)}")
    for note in notes:
        say(note)


def _stage_inputs(
    config: ConfigDict,
    directory: pathlib.Path,
    plan: Plan,
    data: Data,
    *,
    progress: bool,
    stop: Callable[[], bool],
) -> StageInputs:
    """Collects what all stages share, with the function that a checkpoint is chosen by."""
    part, protocol = plan.validation_part, plan.protocol
    validate = make_validator(
        plan.encoder,
        StoppableRows(data.inputs[part], stop),
        plan.catalogue.part_labels(part),
        _validation_queries(plan.catalogue, part, protocol, config.seed) if data.triplets else None,
        # Until evaluation has chosen one, the usual one.
        normalize=protocol.normalize or "global",
        # Weights that evaluation chooses are chosen by the memory that is kept: until then, there are none.
        weights=given_weights(protocol, plan.catalogue.schema),
        batch_size=protocol.batch_size,
        progress=progress,
    )
    return StageInputs(
        config=config,
        directory=directory,
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
    config: ConfigDict,
    stage: Stage,
    parallel: Parallel,
    *,
    progress: bool,
    stop: Callable[[], bool] = never,
    during_steps: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> RunOptions:
    return RunOptions(
        parallel=parallel,
        on_device=config.data.placement == DEVICE,
        steps_per_call=config.train.steps_per_call,
        log_every=config.train.log_every,
        checkpoint_every=config.train.checkpoint_every,
        patient_steps=patient_steps(config, stage.epoch_steps),
        progress=progress,
        stop=stop,
        during_steps=during_steps,
    )


def _validation_queries(catalogue: Catalogue, part: str, protocol: Protocol, seed: int) -> Queries:
    """Returns the queries that choose the memory: of the test part, as in ADDE, or of held-out images."""
    queries = queries_of(catalogue, part, protocol, seed)
    return queries if part == TEST else queries.sample_references(VALIDATION_REFERENCES, seed)
