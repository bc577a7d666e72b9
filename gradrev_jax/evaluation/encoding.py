"""Encodes the images that an evaluation needs."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.manipulation import PrototypeSums, memory_from_sums
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Images, Material
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.models.forward import forward_program
from gradrev_jax.models.inference import Encoded, encode
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.prototypes import sum_features
from gradrev_jax.runs.kept_results import digest_of_rows, kept_result


class EncodedRun(NamedTuple):
    """Represents the images of a run as its encoder describes them.

    Attributes:
      gallery: the encoded test images.
      material: the same, the other images and the prototypes, as representations are made of them.
    """

    gallery: Encoded
    material: Material


def encode_run(run: OpenedRun, *, progress: bool) -> EncodedRun:
    """Computes the prototypes of a run that keeps none, and encodes the images that are compared."""
    memory = _prototypes(run, progress=progress) if run.memory is None else run.memory
    gallery, of_gallery = encode_part(run, TEST, run.inputs[TEST], progress=progress)
    held_out = encode_part(run, VALIDATION, run.inputs[VALIDATION], progress=progress)[1]
    is_fitted = REPRESENTATIONS[run.protocol.representation].needs_training
    material = Material(
        schema=run.schema,
        missing=run.encoder.missing,
        memory=memory,
        gallery=of_gallery,
        held_out=held_out,
        training=encode_part(run, TRAIN, run.inputs[TRAIN], progress=progress)[1] if is_fitted else None,
        train_labels=run.catalogue.part_labels(TRAIN),
        look=run.protocol.look or 0.0,
        blocks=run.encoder.blocks,
    )
    return EncodedRun(gallery, material)


def _prototypes(run: OpenedRun, *, progress: bool) -> Float[Array, "J P d"]:
    """Computes the prototypes of a run, unless the same model was given the same images before.

    Of several processes, each computes its part, because not all might find what was kept.
    """
    schema, batch_size = run.schema, run.protocol.batch_size
    parts = [(run.inputs[part], run.catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)]

    def compute() -> dict[str, Any]:
        total = sum_features(run.params, parts, run.encoder, batch_size=batch_size, progress=progress)
        return {name: np.asarray(numbers).tolist() for name, numbers in total._asdict().items()}

    program = None
    if run.cache is not None and jax.process_count() == 1:
        program = forward_program(run.params, parts[0][0], run.encoder, batch_size=batch_size)
    if program is None:
        found = compute()
    else:
        key = {
            "sum_features": program,
            "params": jax.device_get(jax.tree.leaves(run.params)),
            "inputs": [digest_of_rows(images) for images, _ in parts],
            "labels": [labels for _, labels in parts],
            "schema": (schema.names, schema.values),
            "blocks": dataclasses.asdict(run.encoder.blocks),
        }
        found = kept_result(run.cache, key, compute)
    total = PrototypeSums(*(np.asarray(found[name], np.float32) for name in PrototypeSums._fields))
    return memory_from_sums(total, schema, run.encoder.blocks)


def encode_part(run: OpenedRun, part: str, inputs: Rows, *, progress: bool) -> tuple[Encoded, Images]:
    """Encodes the images of one part of a run's catalogue.

    Args:
      run: the run.
      part: the part.
      inputs: the inputs of its images.
      progress: whether a progress bar is shown.

    Returns:
      All that ``encode`` computes, and what representations are made of.
    """
    labels = run.catalogue.part_labels(part)
    encoded = encode(
        run.params,
        inputs,
        labels,
        run.encoder,
        batch_size=run.protocol.batch_size,
        description="gallery" if part == TEST else part,
        progress=progress,
    )
    return encoded, Images(encoded.features, encoded.own_logits, encoded.embeddings, labels)
