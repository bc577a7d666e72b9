"""A cache of decoded pixels for any image source: decoded once, memory-mapped from then on."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.cache_entries import ENTRY, build_entry, map_entry
from gradrev_jax.errors import DataError, join_lines

# Part of every cache key: a change to how images are decoded or laid out must not meet old entries.
# 2: floating-point, 12-bit and inverted greys, and transparent 16-bit ones, are no longer black or opaque.
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
    """Transformed images of the given rows, decoded once and memory-mapped from then on.

    An entry of the cache is keyed by the content of the images in their order and by the transform, so a
    moved folder finds it again and a changed file does not. It appears when it is complete: a process that
    dies earlier leaves only a ``.partial`` file, which the next build replaces. Two processes that need
    the same entry build it once. An entry that is damaged is built anew.

    Args:
      source: the images.
      rows: which of them, in this order.
      transform: from image to square.
      cache_dir: where entries are kept; created if need be.
      limit: bytes that all entries together may have; before a new one is written, those unused for longest
        are removed, but none that a process has mapped. None: any number.
      workers: threads that read and decode; None: one per core.
      description: what the progress bar says.
      progress: whether it is shown.

    Returns:
      uint8 [rows, size, size, 3], read-only.

    Raises:
      DataError: images that cannot be read, the first ten of them named; a cache folder that cannot be
        written to, or has not enough room, with the size that is needed.
    """
    shape = (len(rows), transform.size, transform.size, 3)
    if not len(rows):
        return np.zeros(shape, np.uint8)

    numbers: list[int] = rows.tolist()

    def for_all(verb: str, work: Callable[[int], Result]) -> list[Result]:
        """Results of work(position) in order, by several threads."""
        names = [source.name(row) for row in numbers]
        title = f"{verb} {description}"
        return _all_or_explain(work, names, workers=workers, description=title, progress=progress)

    key = hashlib.blake2b(CACHE_VERSION, digest_size=16)
    key.update(f"{transform.size} {transform.resize} {len(rows)}".encode())
    for digest in for_all("checking", lambda position: source.digest(numbers[position])):
        key.update(digest)
    path = cache_dir / f"{key.hexdigest()}{ENTRY}"
    if (images := map_entry(path, shape)) is not None:
        return images
    with build_entry(path, shape, limit) as partial:
        if partial is not None:
            pixels = np.lib.format.open_memmap(partial, mode="r+")

            def decode(position: int) -> None:
                pixels[position] = source.read(numbers[position], transform)

            for_all("decoding", decode)
            pixels.flush()
    if (images := map_entry(path, shape)) is None:
        raise DataError(f"another process has removed {path}, just after it was written; start again")
    return images


def _all_or_explain(
    work: Callable[[int], Result],
    names: Sequence[str],
    *,
    workers: int | None,
    description: str,
    progress: bool,
) -> list[Result]:
    """work(position) for every named image, in order; the failures together in one DataError."""
    unreadable: dict[int, str] = {}

    def attempt(position: int) -> Any:
        try:
            return work(position)
        except Exception as error:  # decoders raise nearly anything on damaged files
            unreadable[position] = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return None

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            attempts = pool.map(attempt, range(len(names)))
            results = list(
                tqdm(attempts, description, len(names), unit="image", disable=not progress, leave=False)
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if unreadable:
        faults = [f"{_one_line(names[position])}: {unreadable[position]}" for position in sorted(unreadable)]
        raise DataError(
            f"{len(faults)} of {len(names)} images cannot be read:\n{join_lines(faults)}\n"
            "Replace these files, or take their rows out of the table."
        )
    return results


def _one_line(name: str) -> str:
    """A name, quoted where it holds a line's end or something else that cannot be printed."""
    return name if name.isprintable() else repr(name)
