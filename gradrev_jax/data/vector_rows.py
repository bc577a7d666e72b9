"""Represents vectors by row, in a file or in memory, of which only the rows asked for are read."""

import hashlib
import os
import pathlib
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Shaped

from gradrev_jax.errors import DataError

CHUNK = 2**23  # the number of bytes that are read at once before they are converted to float32
LARGEST_CALL = 2**30  # Linux reads at most 2 GiB, less a page, in one call


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class VectorSource(Protocol):
    """Vectors by row, in one or two views each: that of the item, and that of its mirror image.

    Attributes:
      shape: the number of rows, of views of a row and of numbers of a view.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of rows, of views of a row and of numbers of a view."""
        ...

    def read(self, rows: Int[np.ndarray, " R"]) -> Float32[np.ndarray, "R V D"]:
        """Returns some rows in the order given, as float32."""
        ...


class VectorFile:
    """Represents rows of one size in a file, of which only those asked for are read.

    The file is read by position and not mapped: pages of a map count as memory of the process once they are
    touched, and a pass over all rows touches every page. Threads may share an object. It keeps the file open,
    and closes it when the object goes.

    Args:
      path: the path of the file.
      offset: the position of the first row, in bytes.
      shape: the number of rows, of views of a row and of numbers of a view.
      dtype: the type of the numbers, in the byte order of the file; anything that NumPy converts to float32.

    Raises:
      OSError: the file cannot be opened.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "vectors")
      ...     np.arange(6, dtype=">f2").tofile(path)
      ...     vectors = VectorFile(path, offset=0, shape=(3, 1, 2), dtype=">f2")
      ...     vectors.read(np.array([2, 0])).tolist()
      [[[4.0, 5.0]], [[0.0, 1.0]]]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        offset: int,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any] | str,
    ) -> None:
        self.path = pathlib.Path(path)
        self.offset = offset
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._row_bytes = shape[1] * shape[2] * self.dtype.itemsize
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def read(self, rows: Int[np.ndarray, " R"]) -> Float32[np.ndarray, "R V D"]:
        """Returns some rows in the order given, as float32; rows that follow each other are read at once.

        Args:
          rows: the rows, counted from 0.

        Raises:
          IndexError: there is no such row.
          DataError: the file cannot be read, or has become shorter.
        """
        _check_rows(rows, self.shape[0])
        read = np.empty((len(rows), *self.shape[1:]), np.float32)
        if self.dtype == read.dtype:  # of this machine's byte order, too
            self._read_into(read, rows)
            return read
        step = max(1, CHUNK // max(1, self._row_bytes))
        raw = np.empty((min(step, len(rows)), *self.shape[1:]), self.dtype)
        for start in range(0, len(rows), step):
            part = raw[: len(rows) - start]
            self._read_into(part, rows[start : start + step])
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
                read[start : start + step] = part
        return read

    def _read_into(self, out: Shaped[np.ndarray, "R V D"], rows: Int[np.ndarray, " R"]) -> None:
        """Reads rows into an array of the file's type, one call per run of rows that follow each other."""
        if not out.size:
            return
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        content = out.reshape(-1).view(np.uint8).data
        size = self._row_bytes
        ends = [*starts[1:].tolist(), len(rows)]
        for start, end, row in zip(starts.tolist(), ends, rows[starts].tolist(), strict=True):
            self._fill(content[start * size : end * size], self.offset + row * size)

    def _fill(self, content: memoryview, position: int) -> None:
        """Fills a piece of memory with the bytes of the file from a position on.

        Raises:
          DataError: the file cannot be read, or ends earlier.
        """
        while content:
            try:
                count = os.preadv(self._descriptor, [content[:LARGEST_CALL]], position)
            except OSError as error:
                raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error
            if not count:
                raise DataError(
                    f"{self.path} has become shorter since it was opened: it ends before byte "
                    f"{position + len(content)}; restore it and start again"
                )
            content, position = content[count:], position + count


class VectorArray:
    """Represents vectors in memory.

    Args:
      array: the vectors, [rows, views, width].

    Example:
      >>> VectorArray(np.eye(2)[:, None]).read(np.array([1])).tolist()
      [[[0.0, 1.0]]]
    """

    def __init__(self, array: Shaped[np.ndarray, "rows V D"]) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of rows, of views of a row and of numbers of a view."""
        rows, views, width = self.array.shape
        return rows, views, width

    def read(self, rows: Int[np.ndarray, " R"]) -> Float32[np.ndarray, "R V D"]:
        """Returns some rows in the order given, as float32.

        Args:
          rows: the rows, counted from 0.

        Raises:
          IndexError: there is no such row.
        """
        _check_rows(rows, len(self.array))
        with np.errstate(over="ignore"):  # as VectorFile does
            return self.array[rows].astype(np.float32, copy=False)


class Vectors:
    """Represents some rows of a source in some order, read when they are indexed.

    Args:
      source: the vectors of all rows.
      rows: the rows of the source, [M].

    Raises:
      IndexError: the source has no such row.

    Example:
      >>> vectors = Vectors(VectorArray(np.arange(6.0).reshape(3, 1, 2)), np.array([2, 0]))
      >>> vectors.shape, vectors[np.array([[0], [1]])].shape, vectors[:1].tolist()
      ((2, 1, 2), (2, 1, 1, 2), [[[4.0, 5.0]]])
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, source: VectorSource, rows: Int[np.ndarray, " M"]) -> None:
        _check_rows(rows, source.shape[0])
        self.source = source
        self.rows = np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of rows, of views of a row and of numbers of a view."""
        return len(self.rows), *self.source.shape[1:]

    @property
    def nbytes(self) -> int:
        """The number of bytes of all rows as float32, which is what ``numpy.asarray`` needs."""
        rows, views, width = self.shape
        return rows * views * width * self.dtype.itemsize

    def __getitem__(self, index: int | slice | np.integer | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Returns the vectors of one row, of a slice, or of an array of rows of any shape, float32.

        Args:
          index: the rows of this view, as NumPy indexes the first axis: [K, b] gives [K, b, V, D].

        Raises:
          IndexError: there is no such row.
        """
        rows = np.asarray(self.rows[index])
        return self.source.read(rows.reshape(-1)).reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns all rows in memory."""
        if copy is False:
            raise ValueError("the vectors are read from their source, which makes a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Vectors":
        """Returns a view of some of these rows; nothing is read.

        Args:
          rows: the rows of this view.
        """
        return Vectors(self.source, self.rows[rows])

    def digest(self, row: int) -> bytes:
        """Returns a digest of a row's numbers, the same whatever type and file they are read from.

        Args:
          row: the row of this view.
        """
        return self.digests(np.array([row]))[0]

    def digests(self, rows: Int[np.ndarray, " rows"]) -> list[bytes]:
        """Returns the digest of each of some rows, which are read at once.

        Args:
          rows: the rows of this view.
        """
        numbers = np.ascontiguousarray(self[rows], "<f4")
        return [hashlib.blake2b(of_row, digest_size=16).digest() for of_row in numbers]


def _check_rows(rows: Int[np.ndarray, " R"], count: int) -> None:
    """Raises an IndexError unless all rows are in [0, count)."""
    if len(rows) and not (rows.min() >= 0 and rows.max() < count):
        raise IndexError(f"rows from {rows.min()} to {rows.max()} of {count}")
