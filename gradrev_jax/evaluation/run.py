"""Evaluation of a run: from its folder to its report."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gradrev_jax import settings, workdir
from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.checkpoints import PARAMS, Checkpoints
from gradrev_jax.config_check import check
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.queries import Queries
from gradrev_jax.errors import ConfigError, DataError, WorkdirError
from gradrev_jax.evaluation.figures import RetrievalExample
from gradrev_jax.evaluation.report import read_history, write_report
from gradrev_jax.evaluation.strength import choose_strength
from gradrev_jax.manipulation import describe_change
from gradrev_jax.manipulation_retrieval import retrieval_metrics, retrieve
from gradrev_jax.metrics import accuracy_summary, majority_correct
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inference import encode, make_forward
from gradrev_jax.models.prototypes import build_memory

SHOWN_NEIGHBORS = 5
SHOWN_QUERIES = 6


def evaluate(
    directory: pathlib.Path,
    *,
    step: str = "best",
    protocol: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a run and write its report.

    Args:
      directory: the run's folder.
      step: ``best`` (on the validation part), ``latest``, or the number of a checkpoint.
      protocol: fields of ``config.protocol`` to override.
      progress: whether progress bars are shown.

    Returns:
      What report/metrics.json holds.

    Raises:
      UserError: the folder is not a run, its catalogue has changed, or the protocol does not fit it.
    """
    config = ConfigDict(workdir.read_json(directory / workdir.CONFIG))
    settings.override(config, "protocol", protocol or {})
    if "select_on_test" in (protocol or {}):
        raise ConfigError("protocol.select_on_test is a matter of training: give it to train.py")
    check(config)
    schema = workdir.read_schema(directory)
    catalogue = settings.open_catalogue(config)
    if catalogue.schema != schema:
        raise DataError(
            f"the catalogue's attributes or values are not those that {directory} was trained on; "
            "restore the catalogue, or train again in another --workdir"
        )
    queries = settings.queries_of(catalogue, TEST, config)
    if not len(queries):
        raise DataError(
            "no query can be asked: no test image has the labels of another with one attribute changed; "
            "use more test images or fewer attributes (data.attributes)"
        )
    encoder = settings.build_encoder(config, schema)
    stage = config.stages[-1]
    # A fine-tuned memory needs no training image, and a strength that is given none that is held out.
    parts = PARTS if stage == settings.STAGES[0] else (TEST,)
    if settings.fixed_strength(config) is None:
        parts = tuple(dict.fromkeys((*parts, VALIDATION)))
    images = {part: settings.open_images(catalogue, part, config, progress=progress) for part in parts}
    number, params, memory = _restore(directory, stage, encoder, config.data.image_size, step)

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
    if not gallery.labelled.any():
        raise DataError("no test image is labelled, so there is nothing to evaluate")

    k = max(config.protocol.ks)
    search = {
        "normalize": config.protocol.normalize,
        "exclude_query": config.protocol.exclude_query,
        "progress": progress,
    }
    strength, strengths = settings.fixed_strength(config), dict[str, float]()
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
            settings.queries_of(catalogue, VALIDATION, config),
            **search,
        )
    found = retrieve(
        gallery.features, memory, queries.reference, queries.indicators, k, strength=strength, **search
    )
    references, which = np.unique(queries.reference, return_inverse=True)
    untouched = np.zeros((len(references), schema.num_values), np.int8)
    baseline = retrieve(gallery.features, memory, references, untouched, k, **search)[which]

    metrics = {
        "gallery": len(labels),
        "queries": len(queries),
        "stage": stage,
        "step": number,
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
        **retrieval_metrics(labels[found], queries, config.protocol.ks),
        "baselines": {"no_manipulation": retrieval_metrics(labels[baseline], queries, config.protocol.ks)},
        "prototypes_without_images": _absent_values(catalogue.part_labels(TRAIN, VALIDATION), schema),
    }
    successes, failures = _examples(catalogue, images[TEST], queries, found, seed=config.seed)
    write_report(
        directory / "report",
        metrics=metrics,
        history=read_history(directory / workdir.METRICS),
        successes=successes,
        failures=failures,
        title=directory.name,
    )
    return metrics


def _absent_values(labels: np.ndarray, schema: AttributeSchema) -> list[str]:
    """Values that no label row has, as ``"color: red"``."""
    absent = np.flatnonzero(np.asarray(schema.one_hot(labels)).sum(axis=0) == 0).tolist()
    return [f"{schema.names[schema.attribute_of[value]]}: {schema.value_name(value)}" for value in absent]


def _restore(
    directory: pathlib.Path, stage: str, encoder: AttributeEncoder, image_size: int, step: str
) -> tuple[int, Any, Any]:
    """Number, encoder's parameters and fine-tuned memory (None of stage 1) of the checkpoint asked for.

    Raises:
      WorkdirError: it is not there.
    """
    with Checkpoints(workdir.checkpoint_directory(directory, stage), read_only=True) as checkpoints:
        if checkpoints.latest_step is None:
            raise WorkdirError(f"{directory} has no checkpoint of {stage} yet; let train.py reach its first")
        numbers = {str(number): number for number in checkpoints.steps}
        if checkpoints.best_step is not None:
            numbers["best"] = checkpoints.best_step
        numbers["latest"] = checkpoints.latest_step
        if step not in numbers:
            raise WorkdirError(f"{directory} has no checkpoint {step!r}; there are {', '.join(numbers)}")
        number = numbers[step]
        shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, image_size, image_size, 3)))
        if stage == settings.STAGES[0]:
            return number, checkpoints.restore(number, {PARAMS: shapes})[PARAMS], None
        n, d = encoder.schema.num_attributes, encoder.feature_dim
        memory = jax.ShapeDtypeStruct((encoder.schema.num_values, n, d), jnp.float32)
        params = checkpoints.restore(number, {PARAMS: {"encoder": shapes, "memory": memory}})[PARAMS]
        return number, params["encoder"], params["memory"]


def _examples(
    catalogue: Catalogue, images: np.ndarray, queries: Queries, found: np.ndarray, *, seed: int
) -> tuple[list[RetrievalExample], list[RetrievalExample]]:
    """Queries to show: some with a match among the first five, and some without, changes of every kind."""
    labels = catalogue.part_labels(TEST)
    shown = found[:, :SHOWN_NEIGHBORS]
    matches = (labels[shown] == queries.targets[:, None]).all(axis=-1)
    order = np.random.default_rng(seed).permutation(len(queries))

    def pick(candidates: np.ndarray) -> list[RetrievalExample]:
        # Attributes take turns, each with its first candidates in the shuffled order.
        shuffled = order[candidates[order]]
        turn = np.zeros(len(shuffled), int)
        for n in range(catalogue.schema.num_attributes):
            same = queries.changed[shuffled, n]
            turn[same] = np.arange(same.sum())
        chosen = shuffled[np.argsort(turn, kind="stable")][:SHOWN_QUERIES]
        return [
            _example(catalogue, images, queries, query, shown[query], matches[query])
            for query in chosen.tolist()
        ]

    return pick(matches.any(axis=1)), pick(~matches.any(axis=1))


def _example(
    catalogue: Catalogue,
    images: np.ndarray,
    queries: Queries,
    query: int,
    rows: np.ndarray,
    matches: np.ndarray,
) -> RetrievalExample:
    test, labels = catalogue.parts[TEST], catalogue.part_labels(TEST)
    reference = int(queries.reference[query])
    return RetrievalExample(
        query_image=np.asarray(images[reference]),
        query_name=catalogue.images.name(int(test[reference])),
        change=describe_change(queries.indicators[query], catalogue.schema),
        neighbor_images=np.asarray(images[rows]),
        neighbor_names=tuple(catalogue.images.name(row) for row in test[rows].tolist()),
        neighbor_labels=tuple(
            _differences(labels[row], queries.targets[query], catalogue.schema) for row in rows
        ),
        matches=matches,
    )


def _differences(labels: np.ndarray, wanted: np.ndarray, schema: AttributeSchema) -> str:
    """What of a garment is not as asked for, as ``"color: red, sleeve: long"``."""
    words = zip(schema.names, schema.words(labels), labels != wanted, strict=True)
    return ", ".join(f"{name}: {word}" for name, word, differs in words if differs)
