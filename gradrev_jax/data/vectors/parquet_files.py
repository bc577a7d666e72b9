"""Opens Parquet files of vectors with pyarrow, an optional extra: imported when a function is called."""

import importlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.vector_rows import VectorArray, Vectors
from gradrev_jax.data.vectors.stored import (
    EMBEDDINGS,
    LONGEST_NAME,
    NAMES,
    Stored,
    check_names,
    check_packing,
    check_shape,
    choose_entry,
)
from gradrev_jax.errors import DataError, join_lines

BATCH = 1024  # the number of rows that are decoded at once


def open_parquet(path: pathlib.Path) -> Stored:
    """Opens a file with a column of names and a column of lists of numbers.

    The names are read at once, the numbers when it is known which rows are in use; these are then in memory.

    Args:
      path: the file.

    Raises:
      DataError: it holds anything else, or is damaged, or pyarrow is not installed; the message goes on after
        the file's name.
    """
    arrow, parquet = _import_pyarrow()
    try:
        file = parquet.ParquetFile(path)
        count = _check_count(file, path)
        fields = {field.name: field.type for field in file.schema_arrow}
        found = [f"{name}: {kind}" for name, kind in fields.items()]
        strings = {name: kind for name, kind in fields.items() if _is_text(arrow, kind)}
        lists = {name: kind for name, kind in fields.items() if _is_list_of_numbers(arrow, kind)}
        named, _ = choose_entry(strings, NAMES, wanted="column of strings", found=found)
        column, kind = choose_entry(lists, EMBEDDINGS, wanted="column of lists of numbers", found=found)
        names = _read_names(parquet, path, named)
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # damaged files lead to errors of many types
        raise _damage(error) from error
    check_names(names, count)

    def read_rows(rows: Int[np.ndarray, " rows"]) -> Vectors:
        try:
            array = _read_lists(file, column, rows, count, names)
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:
            raise _damage(error) from error
        return Vectors(VectorArray(array[:, None]), np.arange(len(rows)))

    return Stored(count, names, np.dtype(kind.value_type.to_pandas_dtype()), read_rows)


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"needs the package pyarrow, but: {error}; install it with "
            "pip install -c constraints.txt -e '.[parquet]', or save the vectors as .npz"
        ) from error


def _check_count(file: Any, path: pathlib.Path) -> int:
    """Returns the number of rows; raises a DataError if the file cannot have so many, or so much in them.

    Only what is said of whole groups of rows is asked for: where the description of a column is damaged,
    pyarrow ends the process.
    """
    count, size = file.metadata.num_rows, path.stat().st_size
    if not 0 <= count <= size:  # names are all different, so each takes a byte or more
        raise DataError(
            f"is damaged: it has {size:,} bytes and says that it has {count:,} rows; save it again"
        )
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    check_packing("rows", size, sum(group.total_byte_size for group in groups))
    return count


def _read_names(parquet: Any, path: pathlib.Path, column: str) -> list[str]:
    """Reads a column of text; a text that many rows share is in memory once until its length is checked."""
    compute = importlib.import_module("pyarrow.compute")
    with parquet.ParquetFile(path, read_dictionary=[column]) as file:
        texts = file.read(columns=[column]).column(0)
    for chunk in texts.chunks:
        different = getattr(chunk, "dictionary", chunk)
        longest = compute.max(compute.binary_length(different)).as_py() or 0
        if longest > LONGEST_NAME:
            raise DataError(f"has a name of {longest:,} bytes, and at most {LONGEST_NAME:,} are read")
    names = texts.to_pylist()
    if nameless := [f"row {row}" for row, name in enumerate(names) if name is None]:
        raise DataError(f"has {len(nameless):,} rows without a name:\n{join_lines(nameless)}")
    return names


def _damage(error: Exception) -> DataError:
    return DataError(f"is cut short, damaged, or no Parquet file ({error}); fetch it again, or save it again")


def _is_text(arrow: Any, kind: Any) -> bool:
    values = kind.value_type if arrow.types.is_dictionary(kind) else kind
    return arrow.types.is_string(values) or arrow.types.is_large_string(values)


def _is_list_of_numbers(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def _read_lists(
    file: Any, column: str, rows: Int[np.ndarray, " rows"], count: int, names: list[str]
) -> np.ndarray:
    """Reads the lists of some rows into an array, float32 [rows, numbers], batch by batch.

    Raises:
      DataError: a list is missing, or the lists have different lengths.
    """
    place = np.full(count, -1)
    place[rows] = np.arange(len(rows))
    array: np.ndarray | None = None
    faults: list[str] = []
    seen = 0
    for start, lists in _batches(file, column):
        seen += len(lists)
        used = np.flatnonzero(place[start : start + len(lists)] >= 0)
        if not len(used):
            continue
        lists = lists.take(_as_arrow(used))
        lengths = lists.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
        if array is None:
            _, width = check_shape((count, int(max(lengths[0], 0))))
            array = np.empty((len(rows), width), np.float32)
        width = array.shape[1]
        faults += [
            f"row {start + row}, {names[start + row]}: {'no list' if length < 0 else f'{length:,} numbers'}"
            for row, length in zip(used.tolist(), lengths.tolist(), strict=True)
            if length != width
        ]
        if not faults:
            numbers = lists.flatten().to_numpy(zero_copy_only=False)  # a number that is missing becomes NaN
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
                array[place[start + used]] = numbers.reshape(-1, width)
    if array is None or seen != count:
        raise DataError(f"is damaged: it has {seen:,} lists and says that it has {count:,}; save it again")
    if faults:
        raise DataError(
            f"has {len(faults):,} rows whose list is not of {array.shape[1]:,} numbers, as that of the first "
            f"row in use:\n{join_lines(faults)}"
        )
    return array


def _batches(file: Any, column: str) -> Iterator[tuple[int, Any]]:
    """Yields the lists of a column in pieces, each with the row of its first."""
    start = 0
    for batch in file.iter_batches(BATCH, columns=[column]):
        yield start, batch.column(0)
        start += len(batch)


def _as_arrow(rows: np.ndarray) -> Any:
    return importlib.import_module("pyarrow").array(rows)
