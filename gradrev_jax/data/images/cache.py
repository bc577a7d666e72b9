"""Caches the decoded pixels of any image source: decoded once, memory-mapped from then on."""

import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.cache_entries import PIXEL, build_entry, map_entry
from gradrev_jax.data.images.entry_files import DIGEST
from gradrev_jax.data.images.known_rows import EntryKind, KnownRows, find_known_rows
from gradrev_jax.data.images.pool import ImagePool
from gradrev_jax.errors import DataError

# Part of every key: entries of another way of decoding or another layout must not be found.
# 2: floating-point, 12-bit, inverted and transparent 16-bit greys are no longer black or opaque.
CACHE_VERSION = b"gradrev_jax images 2"
# Images that are decoded, at least, where others are taken from another entry, see ``cached_rows``.
CHECKED = 16


class Filling(NamedTuple):
    """Represents the array of a new entry while it is filled.

    Attributes:
      array: the array, one row per image.
      is_filled: whether a row is there.
    """

    array: Shaped[np.ndarray, "M ..."]
    is_filled: Bool[np.ndarray, " M"]

    def put(self, positions: int | Int[np.ndarray, " C"], rows: Shaped[np.ndarray, "..."]) -> None:
        """Writes one row, or several, to their positions."""
        self.array[positions] = rows
        self.is_filled[positions] = True


# Computes the rows of images, given their positions [C] in a new entry, and puts them there.
Compute = Callable[[ImagePool, Int[np.ndarray, " C"], Filling], None]


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
    build it once. A damaged entry is built anew. Images that another entry has are not decoded again; if some
    cannot be read, the others become an entry of their own, for when these have been replaced.

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
    square = (transform.size, transform.size, 3)
    if not len(rows):
        return np.zeros((0, *square), np.uint8)
    pool = ImagePool(source, rows.tolist(), workers, description, progress)
    kind = EntryKind(CACHE_VERSION, transform, square, PIXEL)

    def decode(images: ImagePool, positions: Int[np.ndarray, " C"], pixels: Filling) -> None:
        def decode_one(number: int, row: int) -> None:
            pixels.put(int(positions[number]), source.read(row, transform))

        images.call("decoding", decode_one)

    return cached_rows(pool, kind, cache_dir, decode, limit=limit, checked=CHECKED)


def cached_rows(
    pool: ImagePool,
    kind: EntryKind,
    cache_dir: pathlib.Path,
    compute: Compute,
    *,
    limit: int | None,
    checked: int,
) -> np.memmap:
    """Returns what the cache holds of images, one row per image; what it does not hold is computed.

    An entry is found by the content of its images in their order. If it is not there, a new one takes the
    rows that it shares with the entry of its kind that has most of them, and only the others are computed.
    Some of the known images are computed with these, and compared: unless all their bits are the same,
    nothing is taken. So numbers that depend on the machine, on the version of a library, or on the position
    in a batch, are not mixed. If computing fails, the rows that are there become an entry of their own.

    Args:
      pool: the images, at least one.
      kind: what is held of them.
      cache_dir: the folder of the entries; created if necessary.
      compute: the function that computes rows.
      limit: the number of bytes of all entries together, see ``cached_images``.
      checked: the number of images that are computed together, a multiple of which is computed where
        rows are taken from another entry; half as many, at least, are known images.

    Raises:
      DataError: as ``cached_images`` does.
    """
    digests = pool.call("checking", lambda position, row: pool.source.digest(row))
    joined, shape = b"".join(digests), (len(digests), *kind.row_shape)
    path = cache_dir / kind.entry_name(joined, len(digests))
    if (mapped := map_entry(path, shape, kind.dtype)) is not None:
        return mapped
    kept = joined if len(joined) == DIGEST * len(digests) else b""
    with build_entry(path, shape, limit, kind.dtype, kept) as partial:
        if partial is not None:
            stored = np.lib.format.open_memmap(partial, mode="r+")
            filling = Filling(stored, np.zeros(len(stored), bool))
            # After room was made: what was removed for it is not read.
            known = find_known_rows(cache_dir, kind, digests)
            try:
                if known is None or not _complete(filling, known, pool, compute, checked):
                    compute(pool, np.arange(len(digests)), filling)
            except Exception:
                _keep_filled(filling, kind, digests, cache_dir, limit)
                raise
            stored.flush()
    if (mapped := map_entry(path, shape, kind.dtype)) is None:
        raise DataError(f"another process has removed {path}, just after it was written; start again")
    return mapped


def _complete(filling: Filling, known: KnownRows, pool: ImagePool, compute: Compute, checked: int) -> bool:
    """Copies known rows into an array and computes the others; returns whether the known ones are right."""
    stored = filling.array
    known.copy_to(stored)
    filling.is_filled[known.positions] = True
    count = len(known.positions)
    others = np.setdiff1d(np.arange(len(stored)), known.positions)
    most = checked // 2 + -(len(others) + checked // 2) % checked  # which fills the last batch
    compared = known.positions[np.linspace(0, count - 1, min(most, count)).astype(int)]
    expected = stored[compared].tobytes()
    pool.note(f"{count:,} of {len(stored):,} images are in the cache ({pool.description})")
    computed = np.concatenate([others, compared])
    compute(pool.take(computed), computed, filling)
    if stored[compared].tobytes() == expected:
        return True
    pool.note(f"they are not what is computed here, so all are computed anew ({pool.description})")
    filling.is_filled[:] = False
    return False


def _keep_filled(
    filling: Filling, kind: EntryKind, digests: Sequence[bytes], cache_dir: pathlib.Path, limit: int | None
) -> None:
    """Makes an entry of the rows that are there, which the next attempt takes them from; or else nothing."""
    filled = np.flatnonzero(filling.is_filled)
    joined = b"".join(digests[position] for position in filled.tolist())
    if not len(filled) or len(joined) != DIGEST * len(filled):
        return
    shape = (len(filled), *kind.row_shape)
    path = cache_dir / kind.entry_name(joined, len(filled))
    with contextlib.suppress(DataError), build_entry(path, shape, limit, kind.dtype, joined) as partial:
        if partial is not None:
            rows = KnownRows(filling.array, filled, np.arange(len(filled)))
            rows.copy_to(np.lib.format.open_memmap(partial, mode="r+"))
