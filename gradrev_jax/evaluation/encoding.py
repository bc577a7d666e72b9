"""Encodes the images that an evaluation needs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Images, Material
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION
from gradrev_jax.evaluation.opening import OpenedRun
from gradrev_jax.models.inference import Encoded, encode, make_forward
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
    """Computes the prototypes of a run that has no memory, and encodes the images that are compared."""
    batch_size, catalogue = run.protocol.batch_size, run.catalogue

    def encode_part(part: str) -> Encoded:
        return encode(
            run.params,
            run.inputs[part],
            catalogue.part_labels(part),
            run.encoder,
            batch_size=batch_size,
            description="gallery" if part == TEST else part,
            progress=progress,
        )

    memory = run.memory
    if memory is None:
        memory = build_memory(
            make_forward(run.encoder),
            run.params,
            [(run.inputs[part], catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)],
            run.schema,
            feature_dim=run.encoder.feature_dim,
            batch_size=batch_size,
            progress=progress,
        )
    gallery, held_out = encode_part(TEST), encode_part(VALIDATION)
    is_fitted = REPRESENTATIONS[run.protocol.representation].needs_training
    material = Material(
        schema=run.schema,
        missing=run.encoder.missing,
        memory=memory,
        gallery=_images(gallery, catalogue.part_labels(TEST)),
        held_out=_images(held_out, catalogue.part_labels(VALIDATION)),
        training=_images(encode_part(TRAIN), catalogue.part_labels(TRAIN)) if is_fitted else None,
        train_labels=catalogue.part_labels(TRAIN),
        look=run.protocol.look or 0.0,
    )
    return EncodedRun(gallery, material)


def _images(encoded: Encoded, labels: Int[np.ndarray, "M N"]) -> Images:
    return Images(encoded.features, encoded.own_logits, encoded.embeddings, labels)
