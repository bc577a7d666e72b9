"""Reads pickles of nested dicts of NumPy arrays, without executing them."""

import math
import os
import reprlib
from typing import Any, ClassVar

import numpy as np

from gradrev_jax.errors import WeightsError
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.weights.instructions import FLOATS, OLD_TEXTS, Instructions
from gradrev_jax.weights.legacy_reader import is_legacy
from gradrev_jax.weights.reader import naming_file
from gradrev_jax.weights.tensor_pickle import are_counts

KINDS = frozenset(f"f{size}" for size in (2, 4, 8)) | {f"{k}{size}" for k in "iu" for size in (1, 2, 4, 8)}
MOST_DIMENSIONS = 32  # every release of NumPy has arrays of so many
DEEPEST = 100  # dicts inside one another
SAVE_AGAIN = "save dicts of arrays of numbers alone, as pickle.dump does, or a .safetensors file"
# What a pickle of arrays names -> what stands for it here; NumPy 2 renamed its modules.
GLOBALS = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "_reconstruct" for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "_frombuffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    # Protocol 2 has no bytes: they are text, encoded.
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
}
# What no dict of arrays needs.
OTHER_OBJECTS = {"LIST", "EMPTY_LIST", "APPEND", "APPENDS", "DICT", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
OTHER_WAYS = {"POP", "POP_MARK", "DUP", "PERSID", "BINPERSID", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2"}
UNNEEDED = frozenset({"INT", "LONG", "LONG4", *OTHER_OBJECTS, *OTHER_WAYS, *FLOATS, *OLD_TEXTS})


class _Global(str):
    """The name of a function or a class that a pickle refers to; it is never looked up."""


class _Call:
    """A call, and the state that is set on its result: recorded, never made."""

    def __init__(self, function: _Global, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.state: tuple[Any, ...] | None = None


def read_numpy_pickle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a pickle of nested dicts, whose keys are strings and whose leaves are NumPy arrays.

    No part of the pickle is executed, and nothing is looked up in a module: its instructions are followed on
    a stack of records, from which arrays are made after all that they declare has been checked. Any other
    object is refused. Memory is bounded by the size of the file.

    Args:
      path: the file, written by ``pickle.dump`` at protocols 2 to 5.

    Returns:
      The dicts, with arrays of floating-point numbers or integers, read-only; some may share memory.

    Raises:
      WeightsError: there is no such file, or it is damaged, of another format, or has other objects; the
        message names one.

    Example:
      >>> import pickle, tempfile
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     file.write(pickle.dumps({"fc": {"bias": np.ones(3, np.float16)}})) > 0
      ...     file.flush()
      ...     read_numpy_pickle(file.name)
      True
      {'fc': {'bias': array([1., 1., 1.], dtype=float16)}}
    """
    with naming_file(path) as path:
        content = path.read_bytes()
        if is_lfs_pointer(content[:HEAD]):
            raise WeightsError(LFS_ADVICE)
        if not is_plain_pickle(content[:HEAD]):
            raise WeightsError(
                f"is no pickle of protocols 2 to 5: it begins with {content[:16]!r}"
                if content
                else "is empty"
            )
        return _Arrays().tree(_Records().follow(content))


def is_plain_pickle(start: bytes) -> bool:
    r"""Returns whether a file is a pickle of protocols 2 to 5, and not one of ``torch.save``.

    Args:
      start: the first ``HEAD`` bytes of the file, or all of them.

    Example:
      >>> is_plain_pickle(b"\x80\x04}."), is_plain_pickle(b"PK\x03\x04")
      (True, False)
    """
    return start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and not is_legacy(start)


class _Records(Instructions):
    """Follows a pickle to dicts of records of what it would make."""

    objects, one, advice, unneeded = "arrays", "an array", SAVE_AGAIN, UNNEEDED
    names: ClassVar = {key: _Global(kind) for key, kind in GLOBALS.items()}

    def call(self, function: Any, arguments: Any) -> _Call:
        """Returns a record of a call."""
        if type(function) is not _Global or type(arguments) is not tuple:
            raise ValueError("it calls what is no function")
        return _Call(function, arguments)

    def set_state(self, target: Any, state: Any) -> None:
        """Records the state of the result of a call."""
        if type(target) is not _Call or target.state is not None or type(state) is not tuple:
            raise ValueError("it sets the state of what has none")
        target.state = state

    def check_key(self, key: Any) -> bool:
        """Raises an error unless a key is a string: the hash of nested objects may take forever."""
        if type(key) is not str:
            raise WeightsError(f"has the key {reprlib.repr(key)}, which is no string; {SAVE_AGAIN}")
        return True


class _Arrays:
    """Makes arrays of records, each record once, so that references to one cost no memory."""

    def __init__(self) -> None:
        self.dicts: set[int] = set()
        self.arrays: dict[int, np.ndarray] = {}
        self.encoded: dict[int, bytes] = {}

    def tree(self, record: Any, keys: tuple[str, ...] = ()) -> dict[str, Any]:
        """Makes the arrays of nested dicts, which lie below these keys."""
        if type(record) is not dict:
            raise WeightsError(f"has no dict of arrays but {_described(record)}; {SAVE_AGAIN}")
        # A dict that holds itself has no end, and one that is in many places may make many in few bytes.
        if id(record) in self.dicts or len(keys) > DEEPEST:
            raise WeightsError(f"has a dict in two places, or too many within one another; {SAVE_AGAIN}")
        self.dicts.add(id(record))
        return {
            key: self.tree(part, (*keys, key)) if type(part) is dict else self._array(part, (*keys, key))
            for key, part in record.items()
        }

    def _array(self, record: Any, keys: tuple[str, ...]) -> np.ndarray:
        if id(record) not in self.arrays:
            name = reprlib.repr("/".join(keys))
            match record:
                case _Call(
                    function="_reconstruct",
                    arguments=("ndarray", _, _),
                    state=(1, shape, dtype, bool(fortran), content),
                ):
                    pass
                case _Call(function="_frombuffer", arguments=(content, dtype, shape, "C" | "F" as order)):
                    fortran = order == "F"
                case _:
                    raise WeightsError(f"has {_described(record)} as {name}, which is no array; {SAVE_AGAIN}")
            self.arrays[id(record)] = _view(name, shape, _dtype(name, dtype), fortran, self._bytes(content))
        return self.arrays[id(record)]

    def _bytes(self, content: Any) -> Any:
        """Returns the bytes of an array, decoded from text if they are from a pickle of protocol 2."""
        match content:
            case bytes() | bytearray():
                return content
            case _Call(function="bytes", arguments=(), state=None):
                return b""
            case _Call(function="encode", arguments=(str(text), "latin1"), state=None):
                if id(text) not in self.encoded:
                    self.encoded[id(text)] = text.encode("latin1")
                return self.encoded[id(text)]
        raise ValueError(f"the bytes of an array are {_described(content)}")


def _dtype(name: str, record: Any) -> np.dtype:
    """Makes a dtype, if it is that of plain numbers in either order of bytes."""
    match record:
        case _Call(
            function="dtype",
            arguments=(str(kind), False, True),
            state=(3, "<" | ">" | "|" as order, None, None, None, -1, -1, 0),
        ) if kind in KINDS and (order == "|") == (kind[1:] == "1"):
            return np.dtype(order + kind)
        case _Call(function="dtype", arguments=(str(kind), *_)):
            raise WeightsError(
                f"has {name} of the dtype {reprlib.repr(kind)}, not one of plain numbers; {SAVE_AGAIN}"
            )
    raise ValueError(f"the dtype of {name} is {_described(record)}")


def _view(name: str, shape: Any, dtype: np.dtype, fortran: bool, content: Any) -> np.ndarray:
    """Makes an array of bytes, without a copy, if they are as many as its shape needs."""
    if type(shape) is not tuple or len(shape) > MOST_DIMENSIONS or not are_counts(shape):
        raise ValueError(f"the shape of {name} is {reprlib.repr(shape)}")
    count = math.prod(shape)
    if len(content) != count * dtype.itemsize:
        raise WeightsError(
            f"has {len(content):,} bytes for {name}, which is declared as {shape} numbers of {dtype}; "
            f"{SAVE_AGAIN}"
        )
    array = np.frombuffer(content, dtype, count).reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def _described(record: Any) -> str:
    """Describes a record, for errors."""
    return f"a {record.function}" if type(record) is _Call else f"a {type(record).__name__}"
