"""Caches the decoded pixels of any image source: decoded once, memory-mapped from then on."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.cache_entries import ENTRY, build_entry, map_entry
from gradrev_jax.errors import DataError, join_lines

# Part of every key: entries of another way of decoding or another layout must not be found.
# 2: floating-point, 12-bit, inverted and transparent 16-bit greys are no longer black or opaque.
CACHE_VERSION = b"gradrev_jax images 2"

Result = TypeVar("Result")


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
    pool = _ImagePool(source, rows.tolist(), workers, description, progress)
    path = cache_dir / f"{_entry_key(pool, transform)}{ENTRY}"
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


@dataclasses.dataclass(frozen=True)
class _ImagePool:
    """Threads that work on some images of a source.

    Attributes:
      source: the images.
      rows: the rows of the images, in their order.
      workers: the number of threads; None: one per core.
      description: the text of the progress bar.
      progress: whether the progress bar is shown.
    """

    source: ImageSource
    rows: list[int]
    workers: int | None
    description: str
    progress: bool

    def call(self, verb: str, work: Callable[[int, int], Result]) -> list[Result]:
        """Returns ``work(position, row)`` for every image, in order.

        Args:
          verb: the name of the work in the progress bar.
          work: the function.

        Raises:
          DataError: the work failed for some images; all failures are counted.
        """
        faults: dict[int, str] = {}

        def attempt(position: int) -> Any:
            try:
                return work(position, self.rows[position])
            except Exception as error:  # decoders raise nearly anything on damaged files
                faults[position] = getattr(error, "strerror", None) or str(error) or type(error).__name__
                return None

        count = len(self.rows)
        with ThreadPoolExecutor(self.workers or os.cpu_count()) as pool:
            try:
                attempts = pool.map(attempt, range(count))
                title = f"{verb} {self.description}"
                bar = tqdm(attempts, title, count, unit="image", disable=not self.progress, leave=False)
                results = list(bar)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if faults:
            lines = [
                f"{_one_line(self.source.name(self.rows[position]))}: {faults[position]}"
                for position in sorted(faults)
            ]
            raise DataError(
                f"{len(lines)} of {count} images cannot be read:\n{join_lines(lines)}\n"
                "Replace these files, or take their rows out of the table."
            )
        return results


def _entry_key(pool: _ImagePool, transform: Transform) -> str:
    """Returns the name of the entry that holds the images of a pool."""
    key = hashlib.blake2b(CACHE_VERSION, digest_size=16)
    key.update(f"{transform.size} {transform.resize} {len(pool.rows)}".encode())
    for digest in pool.call("checking", lambda position, row: pool.source.digest(row)):
        key.update(digest)
    return key.hexdigest()


def _one_line(name: str) -> str:
    """Returns a name, quoted if it holds a line break or other unprintable characters."""
    return name if name.isprintable() else repr(name)
