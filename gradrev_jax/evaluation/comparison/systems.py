"""Reads the runs to compare, and checks that all of them were evaluated by the same test."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.scores import METRICS_FILE, SCORES_FILE, Scores, is_per_attribute, read_scores
from gradrev_jax.evaluation.written_metrics import read_metrics
from gradrev_jax.files import expand
from gradrev_jax.runs import workdir
from gradrev_jax.runs.fields.table import names_with
from gradrev_jax.runs.shared_config import check_types


@dataclasses.dataclass(frozen=True)
class EvaluatedRun:
    """Represents a run and the report of its evaluation.

    Attributes:
      directory: the run's folder.
      report: the folder of the report.
      config: the fields of its config by their dotted names; ``protocol`` as the evaluation had it.
      metrics: the content of the report's metrics.json.
      scores: the content of the report's queries.npz.
    """

    directory: pathlib.Path
    report: pathlib.Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    scores: Scores

    @property
    def shown(self) -> pathlib.Path:
        """The run's folder; of a report beside the run's own, that of the report."""
        return self.directory if self.report.name == workdir.REPORT else self.report


@dataclasses.dataclass(frozen=True)
class ComparedSystem:
    """Represents what is compared: one run, or several of one name, such as those of several seeds.

    Attributes:
      name: the name of the system in the tables.
      runs: the runs, at least one.
      prototypes_of: the name of the system whose encoder this is, if it is evaluated with its prototypes
        in place of its fine-tuned memory; else None.
    """

    name: str
    runs: tuple[EvaluatedRun, ...]
    prototypes_of: str | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The ``config.seed`` of each run."""
        return tuple(run.config["seed"] for run in self.runs)

    def scores(self, ks: Sequence[int], metrics: Sequence[str] | None = None) -> Float[np.ndarray, "R Q M"]:
        """Returns ``Scores.columns`` of each run."""
        return np.stack([run.scores.columns(ks, metrics) for run in self.runs])

    def right_answers(self) -> Float[np.ndarray, "R G N"]:
        """Returns ``Scores.right_answers`` of each run."""
        return np.stack([run.scores.right_answers() for run in self.runs])


def pair_runs(a: ComparedSystem, b: ComparedSystem) -> list[int] | None:
    """Pairs the runs of two systems: by their folders, if these are the same, or else by their seeds.

    Returns:
      The run of b that belongs to each run of a, counted from 0; None if the systems do not have the same
      seeds, or one of them has two runs with one seed.
    """
    for key in (lambda run: run.directory, lambda run: run.config["seed"]):
        of_a, of_b = ([key(run) for run in system.runs] for system in (a, b))
        if len(set(of_a)) == len(of_a) == len(of_b) and set(of_a) == set(of_b):
            return [of_b.index(key_of_a) for key_of_a in of_a]
    return None


def read_systems(arguments: Sequence[str]) -> tuple[tuple[ComparedSystem, ...], AttributeSchema]:
    """Reads the runs to compare.

    Args:
      arguments: the folders of the runs, each as FOLDER or NAME=FOLDER. Folders of one name are one system;
        a folder without a name is called by its own. The folder of a report, as RUN/report_posterior, stands
        for the run evaluated as there. If all runs of a system have a ``report_encoder``,
        their prototypes alone follow as a system.

    Returns:
      The systems in order, and the attributes that they share.

    Raises:
      WorkdirError: a folder is not an evaluated run, is given twice, or was evaluated by another test.
    """
    if not arguments:
        raise WorkdirError(
            "no run to compare; give their folders, as: python -m gradrev_commands.compare runs/a runs/b"
        )
    named: dict[str, list[pathlib.Path]] = {}
    for name, directory in _name_folders([_split_name(argument) for argument in arguments]):
        named.setdefault(name, []).append(directory)
    systems = []
    for name, directories in named.items():
        systems.append(ComparedSystem(name, tuple(read_run(directory) for directory in directories)))
        if all(map(_has_prototypes_report, directories)):
            alone = tuple(read_run(directory, prototypes_alone=True) for directory in directories)
            systems.append(ComparedSystem(f"{name}, prototypes alone", alone, prototypes_of=name))
    first, *others = [run for system in systems for run in system.runs]
    schema = workdir.read_schema(first.directory)
    for other in others:
        _check_same_test(first, other)
    return tuple(systems), schema


def read_run(directory: pathlib.Path, *, prototypes_alone: bool = False) -> EvaluatedRun:
    """Reads a run and the report of its last stage, or of its encoder with its prototypes alone.

    Args:
      directory: the run's folder, or that of one of its reports.
      prototypes_alone: whether the report of the encoder alone is read.

    Raises:
      WorkdirError: it is not a run, or its report is missing, of an older version, or of an earlier stage.
    """
    if _is_report(directory):
        return _read_report(directory.parent, directory)
    stages = _read_config(directory)["stages"]
    stage = stages[0] if prototypes_alone else stages[-1]
    report = workdir.report_directory(directory, stage, stages)
    again = f"python evaluate.py --workdir={directory}" + (f" --stage={stage}" if prototypes_alone else "")
    if not (report / METRICS_FILE).is_file():
        raise WorkdirError(f"{directory} has no report; evaluate it first: {again}")
    read = _read_report(directory, report)
    if read.metrics["stage"] != stage:
        raise WorkdirError(
            f"{report} is of the stage {read.metrics['stage']}, but the run has gone on to {stage}; "
            f"evaluate it again: {again}"
        )
    return read


def _read_config(directory: pathlib.Path) -> dict[str, Any]:
    """Reads the config of a run, whose fields have their types."""
    config = workdir.read_config(directory)
    check_types(config, directory / workdir.CONFIG)
    return config


def _is_report(directory: pathlib.Path) -> bool:
    return (directory / METRICS_FILE).is_file() and (directory.parent / workdir.CONFIG).is_file()


def _read_report(directory: pathlib.Path, report: pathlib.Path) -> EvaluatedRun:
    """Reads one report of the run of a folder."""
    config, scores = _read_config(directory), read_scores(report / SCORES_FILE)
    names = [name for name in scores.by_metric if not is_per_attribute(name)]
    metrics = read_metrics(report, names, ks=scores.ks.tolist())
    fields = workdir.flat_fields(config) | workdir.flat_fields({"protocol": metrics["protocol"]})
    return EvaluatedRun(directory, report, fields, metrics, scores)


def common_ks(systems: Sequence[ComparedSystem]) -> tuple[int, ...]:
    """Returns the cut-offs that all runs were evaluated at.

    Raises:
      WorkdirError: there is none.
    """
    by_run = [run.scores.ks.tolist() for system in systems for run in system.runs]
    ks = tuple(sorted(set(by_run[0]).intersection(*by_run)))
    if not ks:
        raise WorkdirError(
            "the runs have no cut-off in common; they were evaluated at "
            f"{'; '.join(str(tuple(cut_offs)) for cut_offs in by_run)}; "
            "evaluate again with the same --protocol.ks"
        )
    return ks


def common_metrics(systems: Sequence[ComparedSystem]) -> tuple[str, ...]:
    """Returns the retrieval metrics that all runs were evaluated by, in the order of the first run.

    Those of one attribute or nuisance, as ``kept.color``, are not among them.
    """
    first, *others = [run.scores.by_metric for system in systems for run in system.runs]
    return tuple(
        name for name in first if not is_per_attribute(name) and all(name in other for other in others)
    )


def _split_name(argument: str) -> tuple[str | None, pathlib.Path]:
    """Splits NAME=FOLDER into both; a folder whose own name contains a = stays whole."""
    name, separator, rest = argument.partition("=")
    if not separator or pathlib.Path(argument).is_dir():
        return None, expand(argument, "run")
    if not name or not rest:
        raise WorkdirError(f"{argument} is neither a folder nor NAME=FOLDER")
    return name, expand(rest, f"run {name}")


def _name_folders(given: Sequence[tuple[str | None, pathlib.Path]]) -> list[tuple[str, pathlib.Path]]:
    """Names each folder that has no name: by its last part, or by its whole path if that is taken."""
    places = [directory.resolve() for _, directory in given]
    for place, (_, directory) in zip(places, given, strict=True):
        if places.count(place) > 1:
            raise WorkdirError(f"{directory} stands twice among the runs to compare")
    taken = [name or place.name for place, (name, _) in zip(places, given, strict=True)]
    return [
        (name or (place.name if taken.count(place.name) == 1 else str(directory)), directory)
        for place, (name, directory) in zip(places, given, strict=True)
    ]


def _has_prototypes_report(directory: pathlib.Path) -> bool:
    """Returns whether a run that fine-tunes a memory was evaluated without it, too."""
    if _is_report(directory):
        return False
    stages = _read_config(directory)["stages"]
    return len(stages) > 1 and workdir.report_directory(directory, stages[0], stages).is_dir()


def _check_same_test(first: EvaluatedRun, other: EvaluatedRun) -> None:
    """Checks that two runs were asked the same queries about the same images.

    Raises:
      WorkdirError: they were not; the message names the config fields that may be the cause.
    """
    a, b = first.scores, other.scores
    exclude = "protocol.exclude_query"
    if workdir.read_schema(first.directory) != workdir.read_schema(other.directory):
        what = "their catalogues have other attributes or values"
    elif not np.array_equal(a.labels, b.labels):
        what = f"their test images have other labels ({len(a.labels)} and {len(b.labels)} images)"
    elif not (np.array_equal(a.reference, b.reference) and np.array_equal(a.indicators, b.indicators)):
        what = f"other queries were asked ({len(a.reference)} and {len(b.reference)})"
    elif first.config[exclude] != other.config[exclude]:
        what = "only one of them counts the query image itself as found"
    else:
        return
    causes = [
        f"{field} is {_shown(first.config.get(field))} there and {_shown(other.config.get(field))} here"
        for field in names_with("same_test")
        if first.config.get(field) != other.config.get(field)
    ]
    because = f": {'; '.join(causes)}" if causes else ", though the configs agree: the catalogue has changed"
    if first.config["seed"] != other.config["seed"]:
        because += "; for runs of several seeds, set data.seed, which draws the same test part for all"
    raise WorkdirError(f"{first.shown} and {other.shown} cannot be compared, {what}{because}")


def _shown(value: Any) -> str:
    """Returns the value of a field in words; an empty one in quotes."""
    return "''" if value == "" else str(value)
