"""Encodes the images that an evaluation needs."""

from typing import NamedTuple

from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Images, Material
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.models.inference import Encoded, encode
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.prototypes import build_memory


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
    batch_size, catalogue = run.protocol.batch_size, run.catalogue
    memory = run.memory
    if memory is None:
        memory = build_memory(
            run.params,
            [(run.inputs[part], catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
            run.encoder,
            batch_size=batch_size,
            progress=progress,
        )
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
        train_labels=catalogue.part_labels(TRAIN),
        look=run.protocol.look or 0.0,
        blocks=run.encoder.blocks,
    )
    return EncodedRun(gallery, material)


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
