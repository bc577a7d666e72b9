"""Defines what the reader of each format finds in a file of vectors before it reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.vector_rows import Vectors
from gradrev_jax.errors import DataError, join_lines

NAMES, EMBEDDINGS = "names", "embeddings"  # what the two entries of a file are best called
WIDEST = (
    65_536  # the largest number of numbers of a vector; more are most likely images, or a transposed array
)
LONGEST_NAME = 4096  # in bytes, as long as a path may be
# What takes more bytes than this in memory must not be a small part of them in the file.
LARGEST_PACKED = 2**29
MOST_PACKED = 100  # the number of bytes that one byte of the file may become
AS_FLOAT32 = "save it again as float32"

Entry = TypeVar("Entry")


class Stored(NamedTuple):
    """Represents the content of a file of vectors.

    Attributes:
      num_rows: the number of rows.
      names: the name of each row; None: the rows are in the order of the catalogue.
      dtype: the type of the numbers.
      open: returns the vectors of some rows, in their order.
    """

    num_rows: int
    names: Sequence[str] | None
    dtype: np.dtype[Any]
    open: Callable[[Int[np.ndarray, " rows"]], Vectors]


def choose_entry(
    candidates: Mapping[str, Entry], preferred: str, *, wanted: str, found: Sequence[str]
) -> tuple[str, Entry]:
    """Returns the entry of a file that is meant, and its name.

    Args:
      candidates: the entries that would do, by name.
      preferred: the name that wins if there are several.
      wanted: what is needed, in words, for the message.
      found: all entries of the file, each in words, for the message.

    Raises:
      DataError: there is none, or there are several and none has the preferred name.

    Example:
      >>> choose_entry({"x": 1, "names": 2}, "names", wanted="an array of strings", found=[])
      ('names', 2)
    """
    if preferred in candidates:
        return preferred, candidates[preferred]
    if len(candidates) == 1:
        return next(iter(candidates.items()))
    if not candidates:
        raise DataError(f"has no {wanted}; call one `{preferred}`. It has:\n{join_lines(found)}")
    raise DataError(
        f"has several entries that may be the {wanted}; name the one that is meant `{preferred}`, or leave "
        f"the others out:\n{join_lines([*candidates])}"
    )


def check_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Returns the number of rows and of numbers in a row.

    Args:
      shape: the shape of an array.

    Raises:
      DataError: the array is not [rows, numbers], or is empty, or its rows are too long.
    """
    if len(shape) != 2:
        raise DataError(
            f"holds an array of shape {tuple(shape)}; it has to be [rows, numbers], one row per image, as "
            "array.reshape(len(array), -1) would make it"
        )
    count, width = shape
    if not count or not width:
        raise DataError(f"holds an array of shape {tuple(shape)}, which has no numbers")
    if width > WIDEST:
        raise DataError(
            f"has rows of {width:,} numbers, and at most {WIDEST:,} are read; it may hold images, or its "
            "rows and columns may have changed places"
        )
    return count, width


def check_numbers(dtype: np.dtype[Any]) -> None:
    """Raises a DataError unless values of a type are numbers that can be converted to float32."""
    if dtype.hasobject:
        raise DataError(
            "holds Python objects, which are stored as a pickle; a pickle can run any program and is never "
            "loaded. Save numbers, as np.stack(vectors).astype(np.float32)"
        )
    if dtype.kind == "V" and dtype.fields is None and "bfloat16" not in dtype.name:
        raise DataError(
            f"holds values of {dtype.itemsize} bytes whose type NumPy did not write down, as it is with "
            f"bfloat16; {AS_FLOAT32}"
        )
    if dtype.kind not in "fiub" and "bfloat16" not in dtype.name:
        raise DataError(f"holds values of type {dtype}, not numbers; {AS_FLOAT32}")


def check_packing(what: str, packed: int, unpacked: int) -> None:
    """Raises a DataError if a part of a file would take far more memory than it takes in the file.

    Args:
      what: the part, for the message.
      packed: the number of bytes that it takes in the file.
      unpacked: the number of bytes that it says it takes in memory.
    """
    if unpacked > max(LARGEST_PACKED, MOST_PACKED * packed):
        raise DataError(
            f"has {what} whose {packed:,} bytes would become {unpacked:,}, {MOST_PACKED} times as many or "
            "more; save it without compression if that is right"
        )


def check_names(names: Sequence[str], count: int) -> None:
    """Raises a DataError unless there is one name per row, and all can be written as UTF-8."""
    if len(names) != count:
        raise DataError(f"has {len(names):,} names and {count:,} rows of numbers; it needs one name per row")
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"has names that are no text ({error.reason}); save them again as strings") from error
