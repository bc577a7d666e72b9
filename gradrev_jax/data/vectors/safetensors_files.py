"""Opens .safetensors files of vectors: only the header and the names are read."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from gradrev_jax.data.vector_rows import VectorFile, Vectors
from gradrev_jax.data.vectors.stored import (
    EMBEDDINGS,
    NAMES,
    Stored,
    check_names,
    check_shape,
    choose_entry,
)
from gradrev_jax.errors import DataError

# The name of a type of numbers in the header -> the type, always little-endian.
TYPES = {
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
}
LARGEST_HEADER = 100_000_000  # in bytes, as in the specification
METADATA = "__metadata__"
TENSOR = "two-dimensional tensor of numbers"


def open_safetensors(path: pathlib.Path) -> Stored:
    """Opens a file with a tensor [rows, numbers], and names as a tensor of text or in the metadata.

    Args:
      path: the file.

    Raises:
      DataError: it holds anything else, or is cut short; the message goes on after the file's name.
    """
    header, start = _read_header(path)
    metadata = header.pop(METADATA, {})
    tensors = {name: entry for name, entry in header.items() if name != NAMES}
    found = [f"{name}: {entry['dtype']} {entry['shape']}" for name, entry in header.items()]
    matrices = {
        name: entry
        for name, entry in tensors.items()
        if name == EMBEDDINGS or (len(entry["shape"]) == 2 and entry["dtype"] in TYPES)
    }
    name, entry = choose_entry(matrices, EMBEDDINGS, wanted=TENSOR, found=found)
    if entry["dtype"] not in TYPES:
        raise DataError(f"has {name} of type {entry['dtype']}, which is not read; save it again as F32")
    count, width = check_shape(entry["shape"])
    names = _read_names(path, header.get(NAMES), metadata, start)
    check_names(names, count)
    dtype = TYPES[entry["dtype"]]
    source = VectorFile(path, start + entry["data_offsets"][0], (count, 1, width), dtype)
    return Stored(count, names, dtype, lambda rows: Vectors(source, rows))


def _read_header(path: pathlib.Path) -> tuple[dict[str, Any], int]:
    """Reads what tensors there are; returns also the position of the first.

    Raises:
      DataError: it is damaged, or the file has fewer bytes than it says.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > LARGEST_HEADER:
            raise DataError("is not a .safetensors file; save it again with safetensors.numpy.save_file")
        content = file.read(length)
    start = 8 + length
    if size < start:
        raise DataError(f"is cut short: {start - size:,} bytes of its header are missing; fetch it again")
    try:
        header = json.loads(content)
        metadata = header.get(METADATA, {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError(f"{METADATA} is not of strings")
        ends = [_check_entry(name, entry, size - start) for name, entry in header.items() if name != METADATA]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"has a damaged header ({type(error).__name__}: {error}); save it again") from error
    if (end := max(ends, default=0)) > size - start:
        raise DataError(
            f"is cut short: {end - (size - start):,} of the {end:,} bytes of its tensors are missing; fetch "
            "it again, or save it again"
        )
    return header, start


def _check_entry(name: str, entry: Mapping[str, Any], size: int) -> int:
    """Returns where a tensor ends, in bytes after the header.

    Raises:
      DataError: it is not as long as its shape and type say.
      ValueError, KeyError, TypeError: the header is damaged.
    """
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (begin, end, *entry["shape"])):
        raise TypeError(f"{name} has a shape or a place that is not of whole numbers")
    numbers = math.prod(entry["shape"])
    dtype = TYPES.get(entry["dtype"])
    if not 0 <= begin <= end or (dtype is not None and end - begin != numbers * dtype.itemsize):
        raise DataError(
            f"has a damaged header: {name} of type {entry['dtype']} and shape {entry['shape']} cannot take "
            f"the bytes from {begin} to {end}; save it again"
        )
    return int(end)


def _read_names(
    path: pathlib.Path, entry: Mapping[str, Any] | None, metadata: Mapping[str, str], start: int
) -> list[str]:
    """Returns the names, one per row.

    Raises:
      DataError: there are none, or they are not written as they have to be.
    """
    how = (
        f"give them as the metadata `{NAMES}`, a JSON list of strings, or as the tensor `{NAMES}`, the UTF-8 "
        "bytes of one name per line"
    )
    if entry is None:
        if NAMES not in metadata:
            raise DataError(f"has no names of its rows; {how}")
        try:
            names = json.loads(metadata[NAMES])
        except (ValueError, RecursionError) as error:
            raise DataError(f"has names that cannot be read ({error}); {how}") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"has names that are no list of strings; {how}")
        return names
    if entry["dtype"] != "U8" or len(entry["shape"]) != 1:
        raise DataError(f"has names of type {entry['dtype']} and shape {entry['shape']}; {how}")
    begin, end = entry["data_offsets"]
    with path.open("rb") as file:
        file.seek(start + begin)
        content = file.read(end - begin)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"has names that are not UTF-8 ({error}); {how}") from error
    lines = text.split("\n")  # splitlines would also break at characters that a name may have
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
