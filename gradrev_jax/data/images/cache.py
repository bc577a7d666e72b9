"""Caches the decoded pixels of any image source: decoded once, memory-mapped from then on."""

import hashlib
import pathlib

import numpy as np
from jaxtyping import UInt8

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.cache_entries import ENTRY, build_entry, map_entry
from gradrev_jax.data.images.pool import ImagePool
from gradrev_jax.errors import DataError

# Part of every key: entries of another way of decoding or another layout must not be found.
# 2: floating-point, 12-bit, inverted and transparent 16-bit greys are no longer black or opaque.
CACHE_VERSION = b"gradrev_jax images 2"


def cached_images(
    source: ImageSource,
    rows: np.ndarray,
    transform: Transform,
    cache_dir: pathlib.Path,
    *,
    limit: int | None = None,
    workers: int | None = None,
    description: str = "images",
    progress: bool = True,
) -> UInt8[np.ndarray, "M S S 3"]:
    """Returns transformed images, decoded once and memory-mapped from then on.

    An entry of the cache is found by the content of the images in their order and by the transform: a moved
    folder finds it again, a changed file does not. It appears when it is complete; a process that dies
    earlier leaves a ``.partial`` file, which the next build replaces. Two processes that need the same entry
    build it once. A damaged entry is built anew.

    Args:
      source: the images.
      rows: the rows of the images, in their order.
      transform: the transform from an image to a square.
      cache_dir: the folder of the entries; created if necessary.
      limit: the number of bytes of all entries together; before a new one is written, those unused for
        longest are removed, except those that a process has mapped; None: no limit.
      workers: the number of threads that read and decode; None: one per core.
      description: the text of the progress bar.
      progress: whether the progress bar is shown.

    Returns:
      uint8 [rows, size, size, 3], read-only.

    Raises:
      DataError: images cannot be read, of which the first ten are named; or the cache folder cannot be
        written to, or has too little room.
    """
    shape = (len(rows), transform.size, transform.size, 3)
    if not len(rows):
        return np.zeros(shape, np.uint8)
    pool = ImagePool(source, rows.tolist(), workers, description, progress)
    path = cache_dir / f"{entry_key(pool, transform)}{ENTRY}"
    if (images := map_entry(path, shape)) is not None:
        return images
    with build_entry(path, shape, limit) as partial:
        if partial is not None:
            pixels = np.lib.format.open_memmap(partial, mode="r+")

            def decode(position: int, row: int) -> None:
                pixels[position] = source.read(row, transform)

            pool.call("decoding", decode)
            pixels.flush()
    if (images := map_entry(path, shape)) is None:
        raise DataError(f"another process has removed {path}, just after it was written; start again")
    return images


def entry_key(pool: ImagePool, transform: Transform, version: bytes = CACHE_VERSION) -> str:
    """Returns the name of the entry that holds what is made of the images of a pool.

    Args:
      pool: the images.
      transform: the transform from an image to a square.
      version: the kind of entry, with all else that decides its content.

    Raises:
      DataError: images cannot be read.
    """
    key = hashlib.blake2b(version, digest_size=16)
    key.update(f"{transform.size} {transform.resize} {len(pool.rows)}".encode())
    for digest in pool.call("checking", lambda position, row: pool.source.digest(row)):
        key.update(digest)
    return key.hexdigest()
