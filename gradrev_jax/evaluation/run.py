"""Evaluates a run: from its folder to its report."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from gradrev_jax import distributed
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.core.spaces import Material, Space
from gradrev_jax.data.catalogue import TEST
from gradrev_jax.errors import WorkdirError, naming
from gradrev_jax.evaluation.attention import attention_examples
from gradrev_jax.evaluation.background import RaiseIfCancelled, run_in_background
from gradrev_jax.evaluation.baselines import BaselineInputs, search_baseline
from gradrev_jax.evaluation.choices import Choices, held_out_queries
from gradrev_jax.evaluation.encoding import EncodedRun, encode_run
from gradrev_jax.evaluation.examples import (
    SHOWN_QUERIES,
    pick_queries,
    retrieval_example,
    shown_matches,
)
from gradrev_jax.evaluation.opening import OpenedRun, gallery_names, open_run
from gradrev_jax.evaluation.report import Examples, write_report
from gradrev_jax.evaluation.retrieval_figure import RetrievalExample
from gradrev_jax.evaluation.run_leakage import leakage_of_run
from gradrev_jax.evaluation.run_space import RunSpace, choose_space
from gradrev_jax.evaluation.scores import (
    KEPT_NEIGHBORS,
    RetrievalMetrics,
    Scored,
    Scores,
    mean_scores,
    retrieval_metrics,
)
from gradrev_jax.evaluation.searching import Answers, Way, index_features, search_queries
from gradrev_jax.evaluation.summary import summarize
from gradrev_jax.evaluation.unlabelled_scores import score_unlabelled
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs import workdir
from gradrev_jax.runs.encoder_faults import blaming_encoder
from gradrev_jax.runs.metrics_log import read_records


def evaluate(
    directory: str | os.PathLike[str],
    *,
    step: str = "best",
    stage: str | None = None,
    report: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluates a run and writes its report.

    Args:
      directory: the run's folder.
      step: the checkpoint: ``best`` (on the validation part), ``latest``, or its number.
      stage: the stage: ``encoder`` or ``memory``; None: the run's last. The stage encoder of a run that
        fine-tunes a memory is evaluated with its prototypes alone, in a report beside the run's.
      report: the name of a report of its own beside the run's, for another protocol; None: the run's.
      protocol: fields of ``config.protocol`` to override.
      data: fields of ``config.data`` to override: those that say where the catalogue lies, see
        ``runs.overrides.override_movable``.
      progress: whether progress bars are shown.

    Returns:
      The content of the report's metrics.json.

    Raises:
      UserError: the folder is not a run, its catalogue has changed, the protocol does not fit it, or a report
        cannot have that name.
    """
    folder = pathlib.Path(directory)
    progress = progress and distributed.is_first()
    if report is not None:
        workdir.check_report_name(report)
    if folder.is_dir() and distributed.is_first() and not os.access(folder, os.W_OK | os.X_OK):
        raise WorkdirError(
            f"{folder} gets the report, but this user may not write to it; evaluate a copy of the run"
        )
    run = open_run(
        folder,
        step=step,
        stage=stage,
        protocol=protocol or {},
        data=data or {},
        progress=progress,
    )
    encoded = encode_run(run, progress=progress)
    chosen = choose_space(run, encoded, progress=progress)
    return report_on(run, encoded, chosen, report, progress=progress)


def report_on(
    run: OpenedRun, encoded: EncodedRun, chosen: RunSpace, report: str | None, *, progress: bool
) -> dict[str, Any]:
    """Computes the content of a run's report, and writes it; leakage and baselines run in the background.

    Args:
      run: the run.
      encoded: its images.
      chosen: how they are compared and edited.
      report: the name of a report of its own; None: the run's.
      progress: whether progress bars are shown.

    Returns:
      The content of the report's metrics.json.
    """

    def leakage(raise_if_cancelled: RaiseIfCancelled) -> dict[str, Any] | None:
        if not run.protocol.leakage:
            return None
        return leakage_of_run(
            chosen.material,
            chosen.space,
            cache=run.cache,
            progress=progress,
            raise_if_cancelled=raise_if_cancelled,
        )

    def baselines(raise_if_cancelled: RaiseIfCancelled) -> dict[str, RetrievalMetrics]:
        return search_baselines(
            run, chosen.material, chosen.choices, progress=progress, raise_if_cancelled=raise_if_cancelled
        )

    with run_in_background(leakage) as wait_for_leakage:
        with naming("train.{}"), blaming_encoder():
            answers = search_gallery(run, chosen.space, chosen.choices, progress=progress)
        # Only after the search: searches are collective, so all processes must start them in one order.
        with run_in_background(baselines) as wait_for_baselines:
            scored = score_queries(run, encoded, answers)
            scores, unlabelled = score_unlabelled(run.catalogue, scored.scores, answers)
            metrics = summarize(run, encoded.gallery, chosen, scored) | unlabelled

            def wait_for_all() -> dict[str, Any]:
                of_baselines = metrics["baselines"] | wait_for_baselines()
                return metrics | {"baselines": of_baselines, "leakage": wait_for_leakage()}

            if distributed.is_first():
                write_run_report(run, metrics, scores, wait_for_all, report)
            return wait_for_all()


def search_gallery(run: OpenedRun, space: Space, choices: Choices, *, progress: bool) -> Answers:
    """Searches the gallery with all queries, in the way that was chosen."""
    way = choices.way
    return search_queries(
        index_features(space.gallery, space.prototypes, run.schema, way),
        run.queries,
        max(run.protocol.ks),
        strength=way.strength,
        exclude_query=run.protocol.exclude_query,
        progress=progress,
    )


def search_baselines(
    run: OpenedRun,
    material: Material,
    choices: Choices,
    *,
    progress: bool,
    raise_if_cancelled: RaiseIfCancelled = lambda: None,
) -> dict[str, RetrievalMetrics]:
    """Returns the metrics of what each baseline finds, by its name.

    Features are compared and edited as the run's are; if it has another representation, in the usual way.
    A baseline whose features have nothing left to compare is omitted. ``raise_if_cancelled`` is called before
    each baseline.
    """
    protocol = run.protocol
    # Features of baselines are edited by their prototypes, whatever a system has learned.
    edit = "add" if isinstance(choices.way.edit, LearnedEdit) else choices.way.edit
    way = choices.way._replace(edit=edit) if protocol.representation == "features" else Way("global", edit)
    inputs = BaselineInputs(
        material=material,
        queries=run.queries,
        held_out_queries=held_out_queries(run),
        way=way,
        k=max(protocol.ks),
        exclude_query=protocol.exclude_query,
        progress=progress,
    )
    labels = run.catalogue.part_labels(TEST)
    found = {}
    for name in ProgressBar(
        protocol.baselines,
        "baselines",
        unit="baseline",
        progress=bool(progress and protocol.baselines),
        leave=False,
    ):
        raise_if_cancelled()
        if (rows := search_baseline(name, inputs)) is not None:
            found[name] = retrieval_metrics(labels[rows], run.queries, protocol.ks)
    return found


def score_queries(run: OpenedRun, encoded: EncodedRun, answers: Answers) -> Scored:
    """Computes all retrieval metrics of all queries."""
    labels, queries, ks = run.catalogue.part_labels(TEST), run.queries, run.protocol.ks
    by_metric = retrieval_scores(labels[answers.neighbors], queries.targets, queries.changed, ks)
    scores = Scores(
        **vars(queries),
        neighbors=answers.neighbors[:, :KEPT_NEIGHBORS],
        ks=np.asarray(ks),
        by_metric={name: np.asarray(values, np.float32) for name, values in by_metric.items()},
        labels=labels,
        correct=encoded.gallery.own_correct,
    )
    unedited = retrieval_metrics(labels[answers.unedited], queries, ks)
    return Scored(scores, mean_scores(by_metric, ks), unedited)


def write_run_report(
    run: OpenedRun,
    metrics: Mapping[str, Any],
    scores: Scores,
    wait_for_all: Callable[[], Mapping[str, Any]],
    report: str | None = None,
) -> None:
    """Writes the report of a run, with pictures of some queries and, if the model tells, of where it looks.

    Args:
      run: the run.
      metrics: the content of metrics.json, without the leakage and most baselines.
      scores: the content of queries.npz.
      wait_for_all: the function that waits for these, and returns the whole content.
      report: the name of a report of its own; None: the run's.
    """
    name_of = gallery_names(run.catalogue)

    def show(candidates: Bool[np.ndarray, " Q"]) -> list[RetrievalExample]:
        picked = pick_queries(candidates, scores.changed, count=SHOWN_QUERIES, seed=run.seed)
        return [retrieval_example(scores, query, run.schema, run.pictures, name_of) for query in picked]

    is_hit = np.any(shown_matches(scores), axis=1)
    name = run.directory.resolve().name
    write_report(
        workdir.report_directory(run.directory, run.stage, run.stages, report),
        metrics=metrics,
        scores=scores,
        wait_for_all=wait_for_all,
        history=read_records(run.directory / workdir.METRICS),
        examples=Examples(show(is_hit), show(~is_hit), attention_examples(run, name_of)),
        title=name if run.stage == run.stages[-1] else f"{name}, {run.stage} alone",
    )
