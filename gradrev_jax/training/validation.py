"""Scores a checkpoint on the held-out part: attribute accuracy, and retrieval if there is a memory."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.accuracy import accuracy_summary
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import Normalization
from gradrev_jax.data.queries import Queries
from gradrev_jax.models.inference import Encoded, count_correct, encode, make_forward
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

    The score is the macro attribute accuracy without a memory, and with one the share of queries that find
    a match among the first 30 (``hit_rate``; of fewer images, among the half of them).

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

    def validate(params: Any, memory: Memory) -> Validation:
        is_searched = memory is not None and queries is not None and len(queries) > 0
        # Features fill the memory where the part is large.
        see = encode if is_searched else functools.partial(count_correct, make_forward(encoder))
        seen = see(
            params,
            images,
            labels,
            encoder,
            batch_size=batch_size,
            description="validation",
            progress=progress,
        )
        record: dict[str, Any] = {}
        score = None
        if seen.labelled.any():
            accuracy = accuracy_summary(seen.correct.diagonal(), seen.labelled, encoder.schema)
            record["validation_accuracy"] = accuracy
            score = accuracy["macro"]
        if memory is not None:
            score = None
            if isinstance(seen, Encoded) and queries is not None:
                k = min(SELECTED_AT, (len(labels) + 1) // 2)
                with blaming_encoder():
                    index = _index(seen.features, memory, normalize, weights)
                asked = queries.reference, queries.indicators
                found = retrieve(index, *asked, k, progress=progress)
                score = float(hit_rate(labels[found], queries.targets, k))
                record["validation_hit_rate"] = {str(k): score}
        return Validation(record, score)

    return validate


def _index(
    features: Float[np.ndarray, "M P d"],
    memory: Float[Array | np.ndarray, "J P d"] | LearnedEdit,
    normalize: Normalization,
    weights: Float[np.ndarray, " N"] | None,
) -> GalleryIndex:
    if isinstance(memory, LearnedEdit):
        return make_index(features, None, normalize, weights, edit=memory)
    return make_index(features, memory, normalize, weights)
