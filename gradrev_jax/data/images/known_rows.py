"""Finds rows that another entry of the cache has already: those of images with the same digest.

Only entries of the same kind count. An entry's name is a hash of its kind and of its images' digests, so an
entry of another kind, or with damaged digests, has not the name that its digests lead to.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.cache_entries import ENTRY, entries
from gradrev_jax.data.images.entry_files import DIGEST, read_layout
from gradrev_jax.data.images.file_locks import mark_in_use

COPIED_AT_ONCE = 2**24  # bytes


class EntryKind(NamedTuple):
    """Describes what entries hold of an image, and so which entries can share rows.

    Attributes:
      version: the kind of entry, with all else that decides its content.
      transform: the transform from an image to a square.
      row_shape: the shape of what is held of an image.
      dtype: the dtype of the numbers.
    """

    version: bytes
    transform: Transform
    row_shape: tuple[int, ...]
    dtype: np.dtype

    def entry_name(self, digests: bytes, count: int) -> str:
        """Returns the name of the file of an entry of this kind.

        Args:
          digests: the digests of its images in their order, one after the other.
          count: the number of images.
        """
        key = hashlib.blake2b(self.version, digest_size=16)
        key.update(f"{self.transform.size} {self.transform.resize} {count}".encode())
        key.update(digests)
        return f"{key.hexdigest()}{ENTRY}"


class KnownRows(NamedTuple):
    """Represents the rows that an entry can take from another.

    Attributes:
      array: the array of the other entry, which is in use while this object is there.
      rows: the rows of that array, [K].
      positions: the rows that they become, [K].
    """

    array: Shaped[np.ndarray, "M ..."]
    rows: Int[np.ndarray, " K"]
    positions: Int[np.ndarray, " K"]

    def copy_to(self, stored: Shaped[np.ndarray, "N ..."]) -> None:
        """Copies the rows, a piece at a time, because all may not fit in memory.

        Args:
          stored: the array of the new entry.
        """
        step = max(1, COPIED_AT_ONCE // self.array[0].nbytes)
        for start in range(0, len(self.rows), step):
            piece = slice(start, start + step)
            stored[self.positions[piece]] = self.array[self.rows[piece]]


def find_known_rows(folder: pathlib.Path, kind: EntryKind, digests: Sequence[bytes]) -> KnownRows | None:
    """Finds the entry of a kind that has most of the images of a new one; None if none has any.

    Looking for rows does not count as a use of an entry.

    Args:
      folder: the folder of the cache.
      kind: the kind of the new entry.
      digests: the digests of its images, in their order.

    Example:
      >>> kind = EntryKind(b"pixels 1", Transform(size=8, resize=8), (8, 8, 3), np.dtype(np.uint8))
      >>> find_known_rows(pathlib.Path("/no/such/folder"), kind, [bytes(16)]) is None
      True
    """
    best: KnownRows | None = None
    for entry in reversed(entries(folder)):  # of equals, the one that was used last
        opened = _open_rows(entry.path, kind) if entry.path.suffix == ENTRY else None
        if opened is None:
            continue
        array, its_digests = opened
        row_of = {its_digests[row * DIGEST : (row + 1) * DIGEST]: row for row in range(len(array))}
        shared = [(row_of[d], position) for position, d in enumerate(digests) if d in row_of]
        if len(shared) > (0 if best is None else len(best.rows)):
            rows, positions = np.array(shared).T
            best = KnownRows(array, rows, positions)
    return best


def _open_rows(path: pathlib.Path, kind: EntryKind) -> tuple[np.ndarray, bytes] | None:
    """Maps an entry, and reads its digests; None if it is of another kind, is damaged, or has none."""
    try:
        with path.open("rb") as file:
            mark_in_use(file)
            layout = read_layout(file)
            if layout is None or (layout.shape[1:], layout.dtype) != (kind.row_shape, kind.dtype):
                return None
            file.seek(layout.end)
            digests = file.read()
            if not layout.has_digests or path.name != kind.entry_name(digests, layout.shape[0]):
                return None
            return np.memmap(file, kind.dtype, "r", layout.start, layout.shape), digests
    except OSError:  # another process has removed it meanwhile, or it may not be read
        return None
