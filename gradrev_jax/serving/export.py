"""Writes a run as a model to share: one folder without a word of the machine that it was trained on."""

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from gradrev_jax.errors import WorkdirError, join_names
from gradrev_jax.evaluation.encoding import encode_run
from gradrev_jax.evaluation.opening import OpenedRun, open_run, read_run_config
from gradrev_jax.evaluation.scores import METRICS_FILE
from gradrev_jax.evaluation.written_metrics import read_metrics
from gradrev_jax.files import new_folder
from gradrev_jax.runs import workdir
from gradrev_jax.runs.inputs import open_frozen
from gradrev_jax.runs.model_file import (
    BACKBONE,
    ENCODER,
    MEMORY,
    MODEL_FILE,
    Checkpoint,
    holds_model,
    write_model,
)
from gradrev_jax.runs.shared_config import portable
from gradrev_jax.serving.hub import CARD, PHOTOGRAPHS, PICTURES
from gradrev_jax.serving.hub_metadata import RETRIEVAL, CardChoices
from gradrev_jax.serving.model_card import Card, write_card
from gradrev_jax.serving.opening import check_served, fit_space
from gradrev_jax.serving.space import SearchSpace


def export_model(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    step: str = "best",
    stage: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    card: CardChoices | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Writes a run at one of its checkpoints as a model that others can open.

    The folder is there when it is whole. It has no image, no image's name and no path.

    Args:
      directory: the folder of the run.
      out: the folder to write, which must not exist, or be empty.
      step: the checkpoint: ``best`` (on the validation part), ``latest``, or its number.
      stage: the stage: ``encoder`` or ``memory``; None: the run's last.
      protocol: fields of ``config.protocol`` to override: how garments are compared and edited.
      data: fields of ``config.data`` to override: where the catalogue lies now.
      card: what the model card says besides; None: nothing.
      progress: whether progress bars are shown.

    Returns:
      The folder.

    Raises:
      UserError: the folder is no run, its catalogue cannot be read, or ``out`` is taken.

    Example:
      >>> export_model("no/such/run", "no/such/model")
      Traceback (most recent call last):
      gradrev_jax.errors.WorkdirError: no/such/run is not a run of train.py: it has no config.json
    """
    directory, out, card = pathlib.Path(directory), pathlib.Path(out), card or CardChoices()
    if holds_model(directory):
        raise WorkdirError(f"{directory} is a model already; copy the folder, or export a run")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkdirError(f"{out} exists already; give a folder that does not", arguments=("out",))
    protocol, data = protocol or {}, data or {}
    config = read_run_config(directory, protocol, data)
    check_served(config, workdir.read_schema(directory), stage)
    run = open_run(directory, step=step, stage=stage, protocol=protocol, data=data, progress=progress)
    if card.report is not None:
        _check_report(run, card.report)
    encoded = encode_run(run, progress=progress)
    space = fit_space(run, encoded, progress=progress)
    trees = {ENCODER: run.params, MEMORY: encoded.material.memory}
    if (frozen := open_frozen(config, directory)) is not None:
        trees[BACKBONE] = frozen.variables
    with new_folder(out, WorkdirError) as folder:
        write_model(
            folder / MODEL_FILE, Checkpoint(run.stage, run.step), trees, space.arrays(), space.metadata()
        )
        shared = portable({**config.to_dict(), "stages": run.stages[: run.stages.index(run.stage) + 1]})
        _describe(folder, out.resolve().name, run, space, shared, card)
    return out


def _describe(
    folder: pathlib.Path,
    name: str,
    run: OpenedRun,
    space: SearchSpace,
    config: dict[str, Any],
    choices: CardChoices,
) -> None:
    """Writes what a model has besides its file: config, attributes, and the card with its pictures."""
    workdir.write_json(folder / workdir.CONFIG, config)
    workdir.claim_schema(folder, run.schema)
    workdir.claim_vectors(folder, run.catalogue.vectors)
    report = workdir.report_directory(run.directory, run.stage, run.stages, choices.report)
    metrics = _metrics_of(run, report)
    shown = _copy_pictures(report, folder, photographs=choices.photographs) if metrics else []
    write_card(folder / CARD, Card(name, run, space, config, metrics, shown, choices))
    for path in folder.iterdir():
        path.chmod(0o644)  # what is to be shared, others may read


def _check_report(run: OpenedRun, name: str) -> None:
    """Raises unless there is a report of a name.

    Raises:
      WorkdirError: there is none; the message has those that there are.
    """
    report = workdir.report_directory(run.directory, run.stage, run.stages, name)
    if not (report / METRICS_FILE).is_file():
        there = [path.parent.name for path in sorted(run.directory.glob(f"report*/{METRICS_FILE}"))]
        raise WorkdirError(
            f"{run.directory} has no {report.name}; it has {join_names(there) or 'no report'}",
            arguments=("report",),
        )


def _metrics_of(run: OpenedRun, report: pathlib.Path) -> dict[str, Any] | None:
    """Returns the metrics of a report, if it is of what is exported."""
    if not (report / METRICS_FILE).is_file():
        return None
    metrics = read_metrics(report, RETRIEVAL, whole=True)
    now = workdir.flat_fields(run.protocol_fields)
    # What an evaluation shows and measures besides does not matter.
    other = ("batch_size", "ks", "baselines", "leakage", "num_references", "kinds", "num_changes")
    then = metrics["protocol"]
    same = all(then.get(name) == value for name, value in now.items() if name not in other)
    return metrics if same and (metrics["stage"], metrics["step"]) == (run.stage, run.step) else None


def _copy_pictures(report: pathlib.Path, folder: pathlib.Path, *, photographs: bool) -> list[str]:
    """Copies pictures of a report; returns the names of those that were there."""
    names = [name for name in (*PICTURES, *(PHOTOGRAPHS if photographs else ())) if (report / name).is_file()]
    for name in names:
        shutil.copyfile(report / name, folder / name)
    return names
