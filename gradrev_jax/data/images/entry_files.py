"""Lays out the file of a cache entry: the numbers of all images, and after them the images' digests.

A file is an .npy file, which NumPy reads. The digests after its numbers tell whose they are, row by row, so
that another entry can take rows that both share. Files of earlier versions end with their numbers.
"""

import errno
import math
import os
import pathlib
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np

# The errors of file systems, and operating systems, without posix_fallocate.
NOT_RESERVED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
ZEROS = 16 * 2**20  # the number of bytes written at once if room is reserved by writing zeros
DIGEST = 16  # the number of bytes of an image's digest


class Layout(NamedTuple):
    """Describes the file of an entry.

    Attributes:
      shape: the shape of its array, one row per image.
      dtype: the dtype of its array.
      start: the position of its numbers, in bytes.
      has_digests: whether the digests of its images follow.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    has_digests: bool

    @property
    def end(self) -> int:
        """The position after its numbers, in bytes."""
        return self.start + array_bytes(self.shape, self.dtype)


def read_layout(file: IO[bytes]) -> Layout | None:
    """Reads how an entry is laid out; None if it is damaged: its header, or its length.

    Args:
      file: the file, open at its start.

    Raises:
      OSError: the file cannot be read.
    """
    try:
        np.lib.format.read_magic(file)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except OSError:
        raise
    except Exception:  # NumPy's parser of a damaged header raises errors of many types
        return None
    layout = Layout(tuple(shape), dtype, file.tell(), has_digests=False)
    if not shape or is_fortran:
        return None
    after = os.fstat(file.fileno()).st_size - layout.end
    if after not in (0, DIGEST * shape[0]):
        return None
    return layout._replace(has_digests=after > 0)


def array_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    """Returns the size of an array in bytes.

    Example:
      >>> array_bytes((2, 3), np.dtype(np.float32))
      24
    """
    return math.prod(shape) * dtype.itemsize


def allocate(path: pathlib.Path, shape: Sequence[int], dtype: np.dtype, digests: bytes) -> None:
    """Creates the file of an entry with all its room reserved, and with its digests.

    On a full disk, writing through a memory map to a file with holes would kill the process with SIGBUS;
    reserving raises an error instead.

    Args:
      path: the path of the file.
      shape: the shape of its array.
      dtype: the dtype of its array.
      digests: the digests of its images, one after the other; empty: it has none.

    Raises:
      OSError: there is too little room, or the file cannot be written.
    """
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        end = file.tell() + array_bytes(shape, dtype)
        _reserve(file, end + len(digests))
        file.seek(end)
        file.write(digests)


def _reserve(file: IO[bytes], size: int) -> None:
    """Extends a file to a size with room on the disk for all of it, by writing zeros if necessary."""
    if hasattr(os, "posix_fallocate"):  # which macOS does not have
        try:
            return os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in NOT_RESERVED:
                raise
    for start in range(file.tell(), size, ZEROS):
        file.write(bytes(min(ZEROS, size - start)))
    return None
