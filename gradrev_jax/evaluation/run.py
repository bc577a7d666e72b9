"""Evaluation of a run: from its folder to its report."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gradrev_jax import distributed
from gradrev_jax.core.accuracy import accuracy_summary, majority_correct
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.metrics import retrieval_scores
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError
from gradrev_jax.evaluation.examples import SHOWN_QUERIES, pick_queries, show_query, shown_matches
from gradrev_jax.evaluation.figures import RetrievalExample
from gradrev_jax.evaluation.report import read_history, write_report
from gradrev_jax.evaluation.scores import KEPT_NEIGHBORS, Scores, intervals, mean_scores, retrieval_metrics
from gradrev_jax.evaluation.strength import choose_strength
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.models.prototypes import build_memory
from gradrev_jax.runs import builders, pixels, workdir
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.drift import check_evaluated
from gradrev_jax.runs.fingerprints import FILE, Fingerprint, fingerprint, read_fingerprint, remembering
from gradrev_jax.runs.restore import chosen_stage, restore
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
    """Evaluate a run and write its report.

    Args:
      directory: the run's folder.
      step: ``best`` (on the validation part), ``latest``, or the number of a checkpoint.
      stage: ``encoder`` or ``memory``; None is the run's last. Of a run that fine-tunes a memory, the stage
        encoder is what its prototypes alone are worth, and gets a report of its own beside the run's.
      protocol: fields of ``config.protocol`` to override.
      data: fields of ``config.data`` to override: those that say where the catalogue lies, see
        ``builders.MOVABLE``.
      progress: whether progress bars are shown.

    Returns:
      What the report's metrics.json holds.

    Raises:
      UserError: the folder is not a run, its catalogue has changed, or the protocol does not fit it.
    """
    directory = pathlib.Path(directory)
    progress = progress and distributed.is_first()
    config = ConfigDict(workdir.read_config(directory))
    builders.override(config, "protocol", protocol or {})
    builders.move_data(config, data or {})
    if "select_on_test" in (protocol or {}):
        raise ConfigError("protocol.select_on_test is a matter of training: give it to train.py")
    check(config)
    schema = workdir.read_schema(directory)
    catalogue = remembering(builders.open_catalogue(config))
    workdir.check_schema(directory, catalogue.schema)
    trained = read_fingerprint(directory)
    _drift(trained, catalogue, directory)  # by names and labels, before images are read
    queries = builders.evaluation_queries(catalogue, config)
    encoder = builders.build_encoder(config, schema)
    stage = chosen_stage(directory, config.stages, stage)
    # A fine-tuned memory needs no training image, and a strength that is given none that is held out.
    parts = PARTS if stage == builders.STAGES[0] else (TEST,)
    if builders.fixed_strength(config) is None:
        parts = tuple(dict.fromkeys((*parts, VALIDATION)))
    images = pixels.open_parts(catalogue, parts, config, progress=progress)
    drift = _drift(trained, catalogue, directory)
    for sentence in drift:
        say(sentence)
    number, params, memory = restore(directory, stage, encoder, config.data.image_size, step)

    forward = make_forward(encoder)
    batching = {"batch_size": config.protocol.batch_size, "progress": progress}
    if memory is None:
        memory = build_memory(
            forward,
            params,
            [(images[part], catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
            schema,
            feature_dim=encoder.feature_dim,
            **batching,
        )
    labels = catalogue.part_labels(TEST)
    gallery = encode(forward, params, images[TEST], labels, encoder, description="gallery", **batching)

    k = max(config.protocol.ks)
    normalize = config.protocol.normalize
    search = {"exclude_query": config.protocol.exclude_query, "progress": progress}
    strength, strengths = builders.fixed_strength(config), dict[str, float]()
    if strength is None:
        held_out = encode(
            forward,
            params,
            images[VALIDATION],
            catalogue.part_labels(VALIDATION),
            encoder,
            description=VALIDATION,
            **batching,
        )
        strength, strengths = choose_strength(
            held_out.features,
            catalogue.part_labels(VALIDATION),
            memory,
            builders.queries_of(catalogue, VALIDATION, config),
            normalize=normalize,
            **search,
        )
    # The baseline is asked with the queries, of whose references most of the work is shared.
    references, which = np.unique(queries.reference, return_inverse=True)
    untouched = np.zeros((len(references), schema.num_values), np.int8)
    found = retrieve(
        make_index(gallery.features, memory, normalize),
        np.concatenate([queries.reference, references]),
        np.concatenate([queries.indicators, untouched]),
        k,
        strength=strength,
        **search,
    )
    found, baseline = found[: len(queries)], found[len(queries) :][which]

    ks, targets, changed = tuple(config.protocol.ks), queries.targets, queries.changed
    by_query = retrieval_scores(labels[found], targets, changed, ks)
    scores = Scores(
        **vars(queries),
        **{name: np.asarray(values, np.float32) for name, values in by_query.items()},
        neighbors=found[:, :KEPT_NEIGHBORS],
        ks=np.asarray(ks),
        labels=labels,
        correct=gallery.own_correct,
    )
    metrics = {
        "gallery": len(labels),
        "queries": len(queries),
        "stage": stage,
        "step": number,
        "protocol": workdir.flat_fields(config.protocol.to_dict()),
        "strength": strength,
        "strengths_on_validation": strengths,
        "attribute_accuracy": accuracy_summary(gallery.correct.diagonal(), gallery.labelled, schema),
        "majority_accuracy": accuracy_summary(
            majority_correct(labels, catalogue.part_labels(TRAIN)), gallery.labelled, schema
        ),
        "cross_accuracy": {
            "attributes": list(schema.names),
            "matrix": [
                [
                    int(right) / int(known) if known else None
                    for right, known in zip(row, gallery.labelled, strict=True)
                ]
                for row in gallery.correct
            ],
        },
        **mean_scores(by_query, ks),
        "intervals": intervals(scores),
        "baselines": {"no_manipulation": retrieval_metrics(labels[baseline], queries, ks)},
        "catalogue_changes": drift,
        "prototypes_without_images": _absent_values(catalogue.part_labels(TRAIN, VALIDATION), schema),
    }
    if not distributed.is_first():
        return metrics  # the first process writes the report
    is_hit = np.any(shown_matches(scores), axis=1)

    def shown(candidates: np.ndarray) -> list[RetrievalExample]:
        picked = pick_queries(candidates, changed, count=SHOWN_QUERIES, seed=config.seed)
        return [show_query(scores, query, schema, images[TEST], gallery_names(catalogue)) for query in picked]

    name = directory.resolve().name
    write_report(
        workdir.report_directory(directory, stage, config.stages),
        metrics=metrics,
        scores=scores,
        history=read_history(directory / workdir.METRICS),
        successes=shown(is_hit),
        failures=shown(~is_hit),
        title=name if stage == config.stages[-1] else f"{name}, {stage} alone",
    )
    return metrics


def _drift(trained: Fingerprint | None, catalogue: Catalogue, directory: pathlib.Path) -> list[str]:
    """Returns how the catalogue has changed since the run was trained, a sentence each.

    Raises:
      DataError: a test image was trained on.
    """
    if trained is None:
        return [
            f"{directory} holds no {FILE} (it was trained by an earlier version, or imported), so whether "
            "its catalogue has changed, or a test image was trained on, cannot be told"
        ]
    return check_evaluated(trained, fingerprint(catalogue), catalogue.schema, directory)


def gallery_images(
    directory: str | os.PathLike[str], *, data: Mapping[str, Any] | None = None, progress: bool = True
) -> tuple[Catalogue, np.ndarray]:
    """A run's catalogue, and the pixels of its test part as the run sees them, uint8 [G, S, S, 3].

    ``data`` is as ``evaluate`` has it.

    Raises:
      UserError: they can no longer be read.
    """
    config = ConfigDict(workdir.read_config(pathlib.Path(directory)))
    builders.move_data(config, data or {})
    check(config)
    catalogue = builders.open_catalogue(config)
    return catalogue, pixels.open_images(catalogue, TEST, config, progress=progress)


def gallery_names(catalogue: Catalogue) -> Callable[[int], str]:
    """Gallery row -> what the image is called."""
    return lambda row: catalogue.images.name(int(catalogue.parts[TEST][row]))


def _absent_values(labels: np.ndarray, schema: AttributeSchema) -> list[str]:
    """Values that no label row has, as ``"color: red"``."""
    absent = np.flatnonzero(np.asarray(schema.one_hot(labels)).sum(axis=0) == 0).tolist()
    return [f"{schema.names[schema.attribute_of[value]]}: {schema.value_name(value)}" for value in absent]
