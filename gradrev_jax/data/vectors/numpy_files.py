"""Opens files of NumPy, .npy and .npz; pickles are refused and never loaded."""

import io
import math
import os
import pathlib
import struct
import sys
import zipfile
from typing import IO, Any, NamedTuple

import numpy as np

from gradrev_jax.data.vector_rows import VectorArray, VectorFile, Vectors, VectorSource
from gradrev_jax.data.vectors.stored import (
    EMBEDDINGS,
    LONGEST_NAME,
    NAMES,
    Stored,
    check_names,
    check_numbers,
    check_packing,
    check_shape,
    choose_entry,
)
from gradrev_jax.errors import DataError

MAGIC, PICKLE = b"\x93NUMPY", b"\x80"
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of an entry of a zip archive: ..., lengths of its name and extra
STRINGS = "a one-dimensional array of strings"
LONGEST_HEADER = 10_000  # in bytes; NumPy's limit
MATRIX = "two-dimensional array of numbers"


class _Header(NamedTuple):
    """The header of an array.

    Attributes:
      shape: the shape.
      fortran: whether columns are stored one after another, not rows.
      dtype: the type of the values.
      length: the number of bytes before the first value.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def open_npy(path: pathlib.Path) -> Stored:
    """Opens a file with one array [rows, numbers] in the order of the catalogue.

    Args:
      path: the file.

    Raises:
      DataError: it holds anything else, or is cut short; the message goes on after the file's name.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        size = os.fstat(file.fileno()).st_size
    count, width = _check_matrix(header)
    _check_bytes(count * width * header.dtype.itemsize, size - header.length)
    source = VectorFile(path, header.length, (count, 1, width), header.dtype)
    return Stored(count, None, header.dtype, lambda rows: Vectors(source, rows))


def open_npz(path: pathlib.Path) -> Stored:
    """Opens an archive with an array of names and an array [rows, numbers].

    The numbers of an archive that is not compressed are read from the file; others are loaded.

    Args:
      path: the file.

    Raises:
      DataError: it holds anything else, or is damaged; the message goes on after the file's name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _open_archive(path, archive)
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # damaged archives, and those that are encrypted, raise errors of many types
        raise DataError(f"is cut short, damaged, or no file of np.savez ({error}); save it again") from error


def _open_archive(path: pathlib.Path, archive: zipfile.ZipFile) -> Stored:
    headers: dict[str, tuple[zipfile.ZipInfo, _Header]] = {}
    for entry in archive.infolist():
        if entry.filename.endswith(".npy"):
            with archive.open(entry) as file:
                headers[entry.filename.removesuffix(".npy")] = entry, _read_header(file)
    found = [f"{name}: {header}" for name, (_, header) in headers.items()]
    strings = {
        name: (entry, header)
        for name, (entry, header) in headers.items()
        if len(header.shape) == 1 and header.dtype.kind in "US"
    }
    matrices = {
        name: (entry, header)
        for name, (entry, header) in headers.items()
        if name == EMBEDDINGS or (len(header.shape) == 2 and header.dtype.kind in "fiubV")
    }
    objects = [name for name, (_, header) in headers.items() if header.dtype.hasobject]
    if NAMES in objects or (objects and not strings):
        raise DataError(
            f"has an array `{NAMES if NAMES in objects else objects[0]}` of Python objects and not of "
            "strings; these are stored as a pickle, which can run any program and is never loaded. Save the "
            "names as np.array(names, dtype=str)"
        )
    _, (named, of_names) = choose_entry(strings, NAMES, wanted=STRINGS.removeprefix("a "), found=found)
    _, (entry, header) = choose_entry(matrices, EMBEDDINGS, wanted=MATRIX, found=found)
    count, width = _check_matrix(header)
    _check_bytes(math.prod(of_names.shape) * of_names.dtype.itemsize, named.file_size - of_names.length)
    if of_names.dtype.itemsize > (width_limit := LONGEST_NAME * (4 if of_names.dtype.kind == "U" else 1)):
        raise DataError(
            f"has names of {of_names.dtype.itemsize:,} bytes, and at most {width_limit:,} are read"
        )
    names = _as_strings(_load(archive, named))
    check_names(names, count)
    _check_bytes(count * width * header.dtype.itemsize, entry.file_size - header.length)
    source: VectorSource
    if entry.compress_type == zipfile.ZIP_STORED:
        start = _content_position(path, entry) + header.length
        source = VectorFile(path, start, (count, 1, width), header.dtype)
    else:
        source = VectorArray(_load(archive, entry)[:, None])
    return Stored(count, names, header.dtype, lambda rows: Vectors(source, rows))


def _read_header(file: IO[bytes] | io.BufferedIOBase) -> _Header:
    """Reads the header of an array, and nothing that follows it."""
    start = file.read(len(MAGIC))
    if start != MAGIC:
        if start[:1] == PICKLE:
            raise DataError(
                "is a pickle, which can run any program and is never loaded; save the vectors with np.save"
            )
        raise DataError(f"is not an array of NumPy: it begins with {start!r}; save it with np.save")
    version = tuple(file.read(2))
    count = file.read(2 if version == (1, 0) else 4)
    if int.from_bytes(count, "little") > LONGEST_HEADER:  # NumPy would read it before it refuses it
        raise DataError(
            f"has a damaged header of more than {LONGEST_HEADER:,} bytes; save it again with np.save"
        )
    file.seek(-len(count), os.SEEK_CUR)
    try:
        # Version 3 differs from 2 in the names of fields alone, and arrays with fields are refused.
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {'.'.join(map(str, version))} is not known")
        shape, fortran, dtype = read(file)
    except Exception as error:  # the decoder of damaged bytes raises errors of many types
        raise DataError(f"has a damaged header ({error}); save it again with np.save") from error
    return _Header(shape, fortran, dtype, file.tell())


def _check_matrix(header: _Header) -> tuple[int, int]:
    """Returns the number of rows and of numbers in a row, of an array whose rows can be read."""
    check_numbers(header.dtype)
    count, width = check_shape(header.shape)
    if header.fortran and count > 1 and width > 1:
        raise DataError(
            "holds its array column by column (Fortran order), so that no row can be read alone; save it "
            "again as np.ascontiguousarray(array)"
        )
    return count, width


def _check_bytes(needed: int, there: int) -> None:
    """Raises a DataError if a file has fewer bytes than its header says."""
    if there < needed:
        raise DataError(
            f"is cut short: {needed - there:,} of the {needed:,} bytes of an array are missing; fetch it "
            "again, or save it again"
        )


def _load(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    check_packing(f"an array {entry.filename}", entry.compress_size, entry.file_size)
    with archive.open(entry) as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"has a damaged array {entry.filename} ({error}); save it again") from error


def _as_strings(names: np.ndarray) -> list[str]:
    if names.dtype.kind == "U":
        codes = np.frombuffer(names.tobytes(), f"{names.dtype.byteorder}u4")
        if codes.size and codes.max() > sys.maxunicode:  # NumPy would make strings that break Python
            raise DataError(
                "has damaged names, with characters that do not exist; save them again as strings"
            )
        return names.tolist()
    try:
        return [name.decode() for name in names.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"has names that are not UTF-8 ({error}); save them as strings") from error


def _content_position(path: pathlib.Path, entry: zipfile.ZipInfo) -> int:
    """Returns the position of an entry's first byte in its archive."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        _, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    return entry.header_offset + LOCAL_HEADER.size + name + extra
