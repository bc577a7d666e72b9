"""Opens the inputs of a run's model: pixels, a frozen backbone's features of them, or the user's vectors."""

import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.vector_rows import Vectors
from gradrev_jax.distributed import say
from gradrev_jax.models.embeddings import READ_AT_ONCE
from gradrev_jax.models.inputs import Rows
from gradrev_jax.progress import ProgressBar
from gradrev_jax.runs import pixels
from gradrev_jax.runs.embedded_images import embedded_images
from gradrev_jax.runs.fingerprints import RememberedDigests
from gradrev_jax.runs.frozen_backbone import FrozenBackbone, open_frozen_backbone


def open_frozen(config: ConfigDict, directory: pathlib.Path) -> FrozenBackbone | None:
    """Returns the backbone of a run if it is frozen, see ``open_frozen_backbone``; None if it is trained.

    Raises:
      WeightsError: its weights cannot be read, or are of another network.
    """
    if not config.model.freeze_backbone:
        return None
    if config.model.pretrained is None:
        say(
            "model.freeze_backbone is set, and model.pretrained is not: the backbone stays at its random "
            "weights, which know nothing of images (config: model.pretrained=imagenet)"
        )
    return open_frozen_backbone(config, directory)


def open_inputs(
    catalogue: Catalogue,
    parts: Iterable[str],
    config: ConfigDict,
    frozen: FrozenBackbone | None,
    *,
    progress: bool = True,
) -> dict[str, Rows]:
    """Returns the inputs of a run's model by part.

    Args:
      catalogue: the catalogue of the run.
      parts: the parts that are needed.
      config: the config of the run.
      frozen: the backbone of the run if it is frozen.
      progress: whether progress bars are shown.

    Raises:
      DataError: images cannot be read, or the cache cannot be written.
    """
    parts = list(dict.fromkeys(parts))
    if frozen is not None:
        return dict(embedded_images(catalogue, parts, frozen, config, progress=progress))
    if catalogue.vectors is None:
        return dict(pixels.open_parts(catalogue, parts, config, progress=progress))
    _remember_vectors(catalogue, catalogue.vectors, np.sort(catalogue.rows(*parts)), progress=progress)
    return {part: catalogue.vectors.take(catalogue.parts[part]) for part in parts}


def expected_pixels(catalogue: Catalogue, part: str, config: ConfigDict) -> UInt8[np.ndarray, "rows S S 3"]:
    """Returns zeros of the shape that a part's decoded images will have; they take no memory.

    Args:
      catalogue: the catalogue of the run.
      part: the part.
      config: the config of the run.
    """
    size = config.data.image_size
    return np.broadcast_to(np.uint8(0), (len(catalogue.parts[part]), size, size, 3))


def _remember_vectors(
    catalogue: Catalogue, vectors: Vectors, rows: Int[np.ndarray, " rows"], *, progress: bool
) -> None:
    """Remembers the digests of vectors as those of their images, for the fingerprint of the catalogue."""
    if not isinstance(catalogue.images, RememberedDigests):
        return
    with ProgressBar(total=len(rows), desc="checking", unit="vector", progress=progress, leave=False) as bar:
        for start in range(0, len(rows), READ_AT_ONCE):
            part = rows[start : start + READ_AT_ONCE]
            catalogue.images.known.update(zip(part.tolist(), vectors.digests(part), strict=True))
            bar.update(len(part))


def input_size(config: ConfigDict, inputs: Rows) -> int:
    """Returns the height and width of a run's images in pixels, or the width of its vectors.

    Args:
      config: the config of the run.
      inputs: the inputs of any part.
    """
    return inputs.shape[-1] if reads_vectors(config) else config.data.image_size


def reads_vectors(config: ConfigDict) -> bool:
    """Returns whether the model of a run reads vectors."""
    return config.model.freeze_backbone or bool(config.data.embeddings)
