"""Scores a checkpoint on the held-out part: attribute accuracy, and retrieval if there is a memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.accuracy import accuracy_summary
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.metric_arguments import lower_cut_off
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.data.queries import Queries
from gradrev_jax.models.inference import Counts, Encoded, count_correct, encode
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder
from gradrev_jax.runs.encoder_faults import blaming_encoder
from gradrev_jax.search.gallery import GalleryIndex, make_index, retrieve

SELECTED_AT = 30  # K of the hit rate that a memory is chosen by, as in ADDE-M


class Validation(NamedTuple):
    """The measurements of a checkpoint on the held-out part.

    Attributes:
      record: what is logged of the checkpoint.
      score: the number that the best checkpoint is chosen by, higher is better; None if nothing is labelled.
    """

    record: dict[str, Any]
    score: float | None


# What is validated besides the parameters of an encoder: the memory that edits its features, [J, P, d], or a
# learned edit; None: the encoder alone.
Memory = Float[Array | np.ndarray, "J P d"] | LearnedEdit | None
Validate = Callable[[Any, Memory], Validation]


def make_validator(
    encoder: Encoder,
    images: Rows,
    labels: Int[np.ndarray, "M N"],
    queries: Queries | None,
    *,
    normalize: Normalization,
    weights: Float[np.ndarray, " N"] | None = None,
    batch_size: int,
    progress: bool = True,
) -> Validate:
    """Returns a function that scores (encoder parameters, memory) on the held-out images.

    Without a memory the score is the macro attribute accuracy. With one it is the hit rate at 30: the share
    of queries that find a match among the first 30, or among half of the images if there are fewer than 60.
    A memory edits by Eq. 7 at strength 1, whatever evaluation does: the protocol may change after training.

    Args:
      encoder: the model.
      images: the inputs of the held-out images; M may be 0.
      labels: [M, N], -1 = not labelled.
      queries: the manipulations that a memory is scored by, with the images as gallery; None: without any.
      normalize: the normalisation of the features, for retrieval.
      weights: the weight of each attribute, for retrieval, [N]; None: all 1.
      batch_size: the number of images encoded at once.
      progress: whether a progress bar is shown.
    """
    k = lower_cut_off(SELECTED_AT, len(labels))
    options: dict[str, Any] = {"batch_size": batch_size, "description": "validation", "progress": progress}

    def validate(params: Any, memory: Memory) -> Validation:
        if memory is None or queries is None or not len(queries):  # no features are needed: keep none
            counts = count_correct(params, images, labels, encoder, **options)
            record = _accuracy(counts, encoder.schema)
            is_scored = memory is None and bool(record)
            return Validation(record, record["validation_accuracy"]["macro"] if is_scored else None)
        encoded = encode(params, images, labels, encoder, **options)
        with blaming_encoder():
            index = _index(encoded.features, memory, normalize, weights)
        found = retrieve(index, queries.reference, queries.indicators, k, progress=progress)
        score = float(hit_rate(labels[found], queries.targets, k))
        record = _accuracy(encoded, encoder.schema) | {"validation_hit_rate": {str(k): score}}
        return Validation(record, score)

    return validate


def _accuracy(counts: Counts | Encoded, schema: AttributeSchema) -> dict[str, Any]:
    """Returns the record of the accuracy; it is empty if nothing is labelled."""
    if not counts.labelled.any():
        return {}
    return {"validation_accuracy": accuracy_summary(counts.correct.diagonal(), counts.labelled, schema)}


def _index(
    features: Float[np.ndarray, "M P d"],
    memory: Float[Array | np.ndarray, "J P d"] | LearnedEdit,
    normalize: Normalization,
    weights: Float[np.ndarray, " N"] | None,
) -> GalleryIndex:
    if isinstance(memory, LearnedEdit):
        return make_index(features, None, normalize, weights, edit=memory)
    return make_index(features, memory, normalize, weights)
