"""Evaluates a run: from its folder to its report."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax import distributed
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.errors import naming
from gradrev_jax.evaluation.choices import Choices, Strength, Weights, choose_strength, choose_weights
from gradrev_jax.evaluation.examples import (
    SHOWN_QUERIES,
    pick_queries,
    retrieval_example,
    shown_matches,
)
from gradrev_jax.evaluation.figures import RetrievalExample
from gradrev_jax.evaluation.opening import OpenedRun, gallery_names, open_run
from gradrev_jax.evaluation.report import read_records, write_report
from gradrev_jax.evaluation.scores import (
    KEPT_NEIGHBORS,
    Scored,
    Scores,
    mean_scores,
    retrieval_metrics,
)
from gradrev_jax.evaluation.summary import summarize
from gradrev_jax.evaluation.unlabelled_scores import score_unlabelled
from gradrev_jax.evaluation.weighted_hits import HeldOut
from gradrev_jax.models.inference import Encoded, encode, make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.runs import workdir
from gradrev_jax.runs.protocol import given_weights, queries_of
from gradrev_jax.search.gallery import make_index, retrieve


def evaluate(
    directory: str | os.PathLike[str],
    *,
    step: str = "best",
    stage: str | None = None,
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
      protocol: fields of ``config.protocol`` to override.
      data: fields of ``config.data`` to override: those that say where the catalogue lies, see
        ``runs.builders.move_data``.
      progress: whether progress bars are shown.

    Returns:
      The content of the report's metrics.json.

    Raises:
      UserError: the folder is not a run, its catalogue has changed, or the protocol does not fit it.
    """
    progress = progress and distributed.is_first()
    run = open_run(
        pathlib.Path(directory),
        step=step,
        stage=stage,
        protocol=protocol or {},
        data=data or {},
        progress=progress,
    )
    encoded = encode_run(run, progress=progress)
    with naming("train.{}"):
        choices = make_choices(run, encoded, progress=progress)
        answers = search_gallery(run, encoded, choices, progress=progress)
    scored = score_queries(run, encoded, answers)
    metrics = summarize(run, encoded.gallery, choices, scored)
    scores, beyond = score_unlabelled(run.catalogue, scored.scores, answers.neighbors, answers.baseline)
    metrics |= beyond
    if distributed.is_first():
        write_run_report(run, metrics, scores)
    return metrics


class EncodedRun(NamedTuple):
    """Represents the images of a run in the feature space of its encoder.

    Attributes:
      memory: the prototypes, fine-tuned or computed from the training images, [J, N, d].
      gallery: the encoded test images.
      held_out: the encoded validation images; None if nothing is chosen by them.
    """

    memory: Float[Array | np.ndarray, "J N d"]
    gallery: Encoded
    held_out: Encoded | None


def encode_run(run: OpenedRun, *, progress: bool) -> EncodedRun:
    """Computes the prototypes of a run that has no memory, and encodes the images that are searched."""
    forward = make_forward(run.encoder)
    batch_size = run.protocol.batch_size

    def encode_part(part: str, description: str) -> Encoded:
        return encode(
            forward,
            run.params,
            run.inputs[part],
            run.catalogue.part_labels(part),
            run.encoder,
            batch_size=batch_size,
            description=description,
            progress=progress,
        )

    memory = run.memory
    if memory is None:
        memory = build_memory(
            forward,
            run.params,
            [(run.inputs[part], run.catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
            run.schema,
            feature_dim=run.encoder.feature_dim,
            batch_size=batch_size,
            progress=progress,
        )
    gallery = encode_part(TEST, "gallery")
    held_out = encode_part(VALIDATION, VALIDATION) if run.protocol.needs_validation else None
    return EncodedRun(memory, gallery, held_out)


def make_choices(run: OpenedRun, encoded: EncodedRun, *, progress: bool) -> Choices:
    """Returns the strength and the weights that the protocol gives, or else those that serve best.

    They serve best on the validation part. If both are chosen, the strength comes first, at equal weights;
    then the weights at this strength; and then the strength again, at these weights.

    Raises:
      DataError: there is no query to choose by.
    """
    protocol = run.protocol
    weights = Weights(given_weights(protocol, run.schema), {})
    if protocol.strength is not None:
        strength = Strength(protocol.strength, {})
    if not protocol.needs_validation:
        return Choices(strength, weights)
    assert encoded.held_out is not None, "a choice needs the validation part"
    held_out = HeldOut(
        encoded.held_out.features,
        run.catalogue.part_labels(VALIDATION),
        encoded.memory,
        queries_of(run.catalogue, VALIDATION, protocol, run.seed),
        protocol.normalize,
        protocol.exclude_query,
    )
    if protocol.strength is None:
        strength = choose_strength(held_out, weights=weights.value, progress=progress)
    if protocol.chooses_weights:
        weights = choose_weights(held_out, strength=strength.value, progress=progress)
        if protocol.strength is None:
            strength = choose_strength(held_out, weights=weights.value, progress=progress)
    return Choices(strength, weights)


class Answers(NamedTuple):
    """Represents the answers to the queries: gallery rows, nearest first.

    Attributes:
      neighbors: the neighbours of each manipulated reference, [Q, K].
      baseline: the neighbours of each reference as it is, [Q, K].
    """

    neighbors: Int[np.ndarray, "Q K"]
    baseline: Int[np.ndarray, "Q K"]


def search_gallery(run: OpenedRun, encoded: EncodedRun, choices: Choices, *, progress: bool) -> Answers:
    """Searches the gallery with all queries, and with their references as they are, in one pass.

    The references' distances to the gallery are most of the work, and both kinds of queries need them.
    """
    queries = run.queries
    references, reference_of_query = np.unique(queries.reference, return_inverse=True)
    no_change = np.zeros((len(references), run.schema.num_values), np.int8)
    rows = retrieve(
        make_index(encoded.gallery.features, encoded.memory, run.protocol.normalize, choices.weights.value),
        np.concatenate([queries.reference, references]),
        np.concatenate([queries.indicators, no_change]),
        max(run.protocol.ks),
        strength=choices.strength.value,
        exclude_query=run.protocol.exclude_query,
        progress=progress,
    )
    return Answers(rows[: len(queries)], rows[len(queries) :][reference_of_query])


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
    baseline = retrieval_metrics(labels[answers.baseline], queries, ks)
    return Scored(scores, mean_scores(by_metric, ks), baseline)


def write_run_report(run: OpenedRun, metrics: Mapping[str, Any], scores: Scores) -> None:
    """Writes the report of a run, with pictures of some queries."""
    name_of = gallery_names(run.catalogue)

    def show(candidates: Bool[np.ndarray, " Q"]) -> list[RetrievalExample]:
        picked = pick_queries(candidates, scores.changed, count=SHOWN_QUERIES, seed=run.seed)
        return [retrieval_example(scores, query, run.schema, run.pictures, name_of) for query in picked]

    is_hit = np.any(shown_matches(scores), axis=1)
    name = run.directory.resolve().name
    write_report(
        workdir.report_directory(run.directory, run.stage, run.stages),
        metrics=metrics,
        scores=scores,
        history=read_records(run.directory / workdir.METRICS),
        successes=show(is_hit),
        failures=show(~is_hit),
        title=name if run.stage == run.stages[-1] else f"{name}, {run.stage} alone",
    )
