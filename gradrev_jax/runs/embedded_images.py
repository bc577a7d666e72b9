"""Computes a frozen backbone's features of a catalogue's images once, and caches them."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue, Transform
from gradrev_jax.data.images.cache import Filling, cached_rows
from gradrev_jax.data.images.known_rows import EntryKind
from gradrev_jax.data.images.pool import DecodedImages, ImagePool
from gradrev_jax.data.vector_rows import VectorArray, VectorFile, Vectors
from gradrev_jax.errors import naming
from gradrev_jax.models.forward import predict_batches
from gradrev_jax.runs.frozen_backbone import FrozenBackbone, make_embed
from gradrev_jax.runs.pixels import cache_folder, cache_limit

VERSION = "gradrev_jax embeddings 1"  # part of every key, see ``data.images.cache``
FLOAT = np.dtype(np.float32)
# The number of images per batch. On a CPU, the outputs of the first layers of a larger one leave its cache.
BATCH, DEVICE_BATCH = 32, 256


class Pool(NamedTuple):
    """Represents parts of a catalogue that share a transform and views, and so an entry of the cache.

    Attributes:
      parts: the parts.
      transform: the transform from an image to a square.
      views: 1, or 2 with the mirror image.
    """

    parts: tuple[str, ...]
    transform: Transform
    views: int


def make_pools(image_size: int, train_resize: int | None, *, mirror: bool) -> list[Pool]:
    """Divides the parts of a catalogue into pools.

    Training and validation images are in one pool if they have one transform. Another seed holds out other
    images for validation, but then finds the same entry of the cache.

    Args:
      image_size: the height and width of the images, in pixels.
      train_resize: the size that training images are resized to before they are cropped; None: the usual one.
      mirror: whether training images are mirrored at random.

    Example:
      >>> [pool.parts for pool in make_pools(224, 224, mirror=True)]
      [('train', 'validation'), ('test',)]
    """
    views = 2 if mirror else 1
    cropped, plain = (Transform.for_part(part, image_size, train_resize) for part in (TRAIN, TEST))
    if cropped != plain:
        return [Pool((TRAIN,), cropped, views), Pool((VALIDATION,), plain, 1), Pool((TEST,), plain, 1)]
    if views == 1:
        return [Pool(PARTS, plain, 1)]
    return [Pool((TRAIN, VALIDATION), plain, views), Pool((TEST,), plain, 1)]


def embedded_images(
    catalogue: Catalogue,
    parts: Iterable[str],
    frozen: FrozenBackbone,
    config: ConfigDict,
    *,
    progress: bool = True,
) -> dict[str, Vectors]:
    """Returns a frozen backbone's features of the images of some parts, computed on first use.

    An entry of the cache is found by the content of the images, the transform, the network and its weights.

    Args:
      catalogue: the catalogue.
      parts: the parts that are needed.
      frozen: the backbone.
      config: the config of the run.
      progress: whether progress bars are shown.

    Raises:
      DataError: images cannot be read, or the cache cannot be written.
    """
    wanted, found = set(parts), dict[str, Vectors]()
    for pool in make_pools(config.data.image_size, config.data.train_resize, mirror=config.train.mirror):
        if wanted & set(pool.parts):
            rows = np.sort(catalogue.rows(*pool.parts))
            with naming("data.{}"):
                vectors = _embed_pool(catalogue, rows, pool, frozen, config, progress)
            for part in wanted & set(pool.parts):
                found[part] = vectors.take(np.searchsorted(rows, catalogue.parts[part]))
    return found


def _embed_pool(
    catalogue: Catalogue,
    rows: Int[np.ndarray, " M"],
    pool: Pool,
    frozen: FrozenBackbone,
    config: ConfigDict,
    progress: bool,
) -> Vectors:
    """Returns the backbone's features of the images of a pool, from the cache if they are there."""
    row_shape = (pool.views, frozen.output_width(pool.transform.size))
    if not len(rows):  # an empty file cannot be mapped
        return Vectors(VectorArray(np.zeros((0, *row_shape), FLOAT)), rows)
    images = ImagePool(
        catalogue.images, rows.tolist(), config.data.workers or None, ", ".join(pool.parts), progress
    )

    def embed(some: ImagePool, positions: Int[np.ndarray, " C"], filling: Filling) -> None:
        _embed(frozen, pool, some, positions, filling)

    version = f"{VERSION} {frozen.fingerprint} {pool.views}".encode()
    mapped = cached_rows(
        images,
        EntryKind(version, pool.transform, row_shape, FLOAT),
        cache_folder(config.data.cache_dir),
        embed,
        limit=cache_limit(config),
        checked=_batch_size(),
    )
    return Vectors(CacheEntry(mapped), np.arange(len(rows)))


class CacheEntry(VectorFile):
    """Represents an entry of the cache; it is marked as in use while this object exists.

    Args:
      mapped: the memory map of the entry, which holds the mark. Rows are read from the file, not the map.
    """

    def __init__(self, mapped: np.memmap) -> None:
        views, width = mapped.shape[1:]
        super().__init__(str(mapped.filename), mapped.offset, (len(mapped), views, width), FLOAT)
        self._mark = mapped


def _embed(
    frozen: FrozenBackbone,
    pool: Pool,
    images: ImagePool,
    positions: Int[np.ndarray, " C"],
    filling: Filling,
) -> None:
    """Computes the backbone's features of images, and writes them to their positions in an array."""
    for rows, features in predict_batches(
        make_embed(frozen.network, frozen.inputs, pool.views),
        frozen.variables,
        DecodedImages(images, pool.transform),
        batch_size=_batch_size(),
        description=f"embedding {images.description}",
        progress=images.progress,
    ):
        filling.put(positions[rows], np.asarray(features))


def _batch_size() -> int:
    """Returns the number of images per batch on the devices of this process."""
    return BATCH if jax.default_backend() == "cpu" else DEVICE_BATCH
