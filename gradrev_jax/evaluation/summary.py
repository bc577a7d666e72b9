"""Summarises an evaluation in the numbers of metrics.json."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gradrev_jax.core.accuracy import accuracy_summary, majority_correct
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.evaluation.run_space import RunSpace
from gradrev_jax.evaluation.scores import Scored, intervals
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION
from gradrev_jax.models.inference import Encoded


def summarize(
    run: OpenedRun,
    gallery: Encoded,
    chosen: RunSpace,
    scored: Scored,
) -> dict[str, Any]:
    """Returns the content of metrics.json, without the leakage and most baselines, which take longest.

    Args:
      run: the run.
      gallery: the encoded test images.
      chosen: how the images were compared and edited.
      scored: the scores of the queries.
    """
    schema = run.schema
    labels, train_labels = run.catalogue.part_labels(TEST), run.catalogue.part_labels(TRAIN)
    majority = majority_correct(labels, train_labels)
    look, choices = chosen.look, chosen.choices
    return {
        "gallery": len(labels),
        "queries": len(run.queries),
        "stage": run.stage,
        "step": run.step,
        "protocol": dict(run.protocol_fields),
        "representation": run.protocol.representation,
        "look": look.value,
        "looks_on_validation": look.hit_rates,
        "normalize": choices.way.normalize,
        "edit": str(choices.way.edit),
        "ways_on_validation": choices.ways_tried,
        "strength": choices.way.strength,
        "strengths_on_validation": choices.strengths_tried,
        "weights": weights_by_name(choices.way.weights, schema),
        "weights_on_validation": choices.weights_tried,
        "attribute_accuracy": accuracy_summary(gallery.correct.diagonal(), gallery.labelled, schema),
        "majority_accuracy": accuracy_summary(majority, gallery.labelled, schema),
        "cross_accuracy": {"attributes": list(schema.names), "matrix": cross_accuracy_rows(gallery)},
        **scored.means,
        "intervals": intervals(scored.scores),
        "baselines": {NO_MANIPULATION: scored.unedited},
        "leakage": None,
        "catalogue_changes": run.drift,
        "prototypes_without_images": absent_values(run.catalogue.part_labels(TRAIN, VALIDATION), schema),
    }


def weights_by_name(
    weights: Float[np.ndarray, " P"] | None, schema: AttributeSchema
) -> dict[str, float] | None:
    """Returns the weight of each attribute by its name, and that of the blocks of none as ``rest``.

    Args:
      weights: the weights of the blocks; None: all are equal.
      schema: the attributes.
    """
    if weights is None:
        return None
    n = schema.num_attributes
    rest = {"rest": float(weights[-1])} if len(weights) > n else {}
    return dict(zip(schema.names, weights[:n].tolist(), strict=True)) | rest


def cross_accuracy_rows(encoded: Encoded) -> list[list[float | None]]:
    """Returns the accuracy of each classifier (column) on each feature (row); None if it has no labels."""
    return [
        [
            int(right) / int(known) if known else None
            for right, known in zip(row, encoded.labelled, strict=True)
        ]
        for row in encoded.correct
    ]


def absent_values(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> list[str]:
    """Returns the values that no image has, whose prototypes are zero.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> absent_values(np.array([[0, 1], [-1, 0]]), schema)
      ['color: red']
    """
    absent = np.flatnonzero(np.asarray(schema.one_hot(labels)).sum(axis=0) == 0).tolist()
    return [f"{schema.names[schema.attribute_of[value]]}: {schema.value_name(value)}" for value in absent]
