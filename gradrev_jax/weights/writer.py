"""Writes files of tensors that torch reads, without torch: ``.pth`` state dicts and ``.safetensors``."""

import io
import math
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Mapping
from pickle import (
    BINPERSID,
    BINUNICODE,
    EMPTY_DICT,
    EMPTY_TUPLE,
    GLOBAL,
    LONG1,
    MARK,
    NEWFALSE,
    PROTO,
    REDUCE,
    SETITEMS,
    STOP,
    TUPLE,
)
from typing import BinaryIO

import numpy as np
import safetensors.numpy

from gradrev_jax.errors import WeightsError
from gradrev_jax.files import temporary_sibling
from gradrev_jax.weights.state_dicts import contiguous_copies
from gradrev_jax.weights.tensor_pickle import STORAGES

CLASSES = {dtype: name for name, dtype in STORAGES.items()}


def write_state_dict(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors to a file atomically: writes a temporary sibling, then renames it.

    ``torch.load(path, weights_only=True)`` reads ``.pth`` files; ``read_state_dict`` reads both formats.

    Args:
      path: the file, whose name ends in ``.pth`` or ``.safetensors``; an existing file is replaced.
      tensors: the arrays by name, of dtypes that torch has.

    Raises:
      WeightsError: the suffix or a dtype is not supported, or the file cannot be written.

    Example:
      >>> import tempfile
      >>> from gradrev_jax.weights.reader import read_state_dict
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_state_dict(f"{folder}/weights.pth", {"fc.bias": np.ones(3, np.float32)})
      ...     read_state_dict(f"{folder}/weights.pth")
      {'fc.bias': array([1., 1., 1.], dtype=float32)}
    """
    path = pathlib.Path(path)
    if path.suffix not in WRITERS:
        raise WeightsError(f"{path} ends in {path.suffix or 'no suffix'!r}; give {' or '.join(WRITERS)}")
    tensors = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    if other := [
        f"{name}: {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in CLASSES
    ]:
        raise WeightsError(f"{path}: torch has no tensors of {', '.join(other[:3])}")
    try:
        with temporary_sibling(path) as partial:
            with partial.open("wb") as file:
                WRITERS[path.suffix](file, tensors)
            partial.chmod(0o644)  # a temporary file is private
            os.replace(partial, path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_pth(file: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the archive of ``torch.save``: a pickle, and one entry of bytes per storage.

    A ``ZipInfo`` gives entries a fixed date, so that the same tensors give the same bytes.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("data.pkl", _pickle(tensors)), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
        for key, tensor in enumerate(tensors.values()):
            little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
            archive.writestr(zipfile.ZipInfo(f"archive/data/{key}"), little.tobytes())


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    file.write(safetensors.numpy.save(contiguous_copies(tensors)))


# Suffix -> the function that writes files of this format.
WRITERS: dict[str, Callable[[BinaryIO, Mapping[str, np.ndarray]], None]] = {
    ".pth": _write_pth,
    ".safetensors": _write_safetensors,
}


def _pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Encodes the pickle of {name: tensor}, where the tensors are the whole of the storages 0, 1, ...

    A tensor is the call ``_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)``, which
    torch accepts with ``weights_only=True`` too.
    """
    out = io.BytesIO()
    out.write(PROTO + b"\2" + EMPTY_DICT + MARK)
    for key, (name, tensor) in enumerate(tensors.items()):
        out.write(_text(name) + _name("torch._utils", "_rebuild_tensor_v2") + MARK)
        out.write(MARK + _text("storage") + _name("torch", CLASSES[tensor.dtype]) + _text(str(key)))
        out.write(_text("cpu") + _integer(tensor.size) + TUPLE + BINPERSID)
        strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(tensor.ndim)]
        out.write(_integer(0) + _integers(tensor.shape) + _integers(strides) + NEWFALSE)
        out.write(_name("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE + TUPLE + REDUCE)
    out.write(SETITEMS + STOP)
    return out.getvalue()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _name(module: str, name: str) -> bytes:
    return GLOBAL + f"{module}\n{name}\n".encode()


def _integer(number: int) -> bytes:
    return LONG1 + b"\x08" + struct.pack("<q", number)


def _integers(numbers: tuple[int, ...] | list[int]) -> bytes:
    return MARK + b"".join(map(_integer, numbers)) + TUPLE
