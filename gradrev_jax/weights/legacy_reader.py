"""Reads the files of ``torch.save`` before torch 1.6, without torch and without executing their pickles.

Such a file begins with five pickles: a magic number, a protocol number, a description of the machine, the
object, and the keys of the storages that it refers to. The storages follow in the order of the keys, each
as the count of its numbers and the numbers themselves.
"""

import io
import pathlib
import pickletools
import reprlib
from typing import BinaryIO

import numpy as np

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.tensor_pickle import (
    LARGEST_PICKLE,
    SAVE_AGAIN,
    Storage,
    find_tensors,
    to_array,
    unpickle,
    unpickle_with_storages,
)

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
COUNT = np.dtype("<i8")  # the count before a storage's numbers; all little-endian on any machine


def is_legacy(start: bytes) -> bool:
    """Returns whether a file is in this format.

    Args:
      start: the first bytes of the file, at least 32.

    Example:
      >>> import pickle
      >>> is_legacy(pickle.dumps(MAGIC, 2)), is_legacy(pickle.dumps({}, 2))
      (True, False)
    """
    return MAGIC.to_bytes(10, "little") in start


def read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a file; called by ``reader.read_state_dict``, which explains damage.

    Args:
      path: the file.

    Returns:
      The tensors by name.

    Raises:
      WeightsError: the file has objects other than tensors, or its parts disagree.
      Exception: the file is damaged; ``pickle`` and ``pickletools`` raise errors of many types.

    Example:
      >>> import pickle, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "weights.pkl")
      ...     _ = path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1, {}, {}, [])))
      ...     read_legacy(path)
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: is in protocol 1 of torch's format from before 1.6, not 1001; save...
    """
    with path.open("rb") as file:
        head = io.BytesIO(file.read(LARGEST_PICKLE))
        magic, protocol, _, checkpoint, keys = (_next_pickle(head) for _ in range(5))
        if type(found := unpickle(magic)) is not int or found != MAGIC:
            raise ValueError(f"magic number {reprlib.repr(found)}")
        if type(found := unpickle(protocol)) is not int or found != PROTOCOL:
            raise WeightsError(
                f"is in protocol {reprlib.repr(found)} of torch's format from before 1.6, not {PROTOCOL}; "
                f"{SAVE_AGAIN}"
            )
        described, storages = unpickle_with_storages(checkpoint)
        tensors = find_tensors(described)
        starts = _storage_starts(file, head.tell(), unpickle(keys), storages, path.stat().st_size)
        contents = {
            key: _read_bytes(file, starts[key], storages[key].num_bytes)
            for key in {tensor.storage.key for tensor in tensors.values()}
        }
    return {name: to_array(name, tensor, contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _next_pickle(stream: io.BytesIO) -> bytes:
    """Returns the bytes of the next pickle of a stream, without executing it."""
    start = stream.tell()
    try:
        for _ in pickletools.genops(stream):
            pass
    except Exception as error:
        if len(stream.getbuffer()) < LARGEST_PICKLE:
            raise
        raise WeightsError(
            f"has pickles of more than {LARGEST_PICKLE:,} bytes, too long for names and shapes"
        ) from error
    return stream.getvalue()[start : stream.tell()]


def _storage_starts(
    file: BinaryIO, position: int, keys: object, storages: dict[str, Storage], file_size: int
) -> dict[str, int]:
    """Returns the position of each storage's first number.

    Args:
      file: the file; only the counts are read.
      position: the position of the first count.
      keys: the keys of the storages in their order, as unpickled from the file.
      storages: the storages that the tensors of the file refer to.
      file_size: the size of the file in bytes.

    Raises:
      WeightsError: keys, counts and storages do not match.
      EOFError: the file ends before the last storage does.
    """
    # Keys that are no strings may take forever to compare.
    keys = keys if isinstance(keys, list) and all(type(key) is str for key in keys) else []
    if sorted(keys) != sorted(storages):
        raise WeightsError(
            f"does not list each of the {len(storages)} storages of its tensors exactly once; {SAVE_AGAIN}"
        )
    starts: dict[str, int] = {}
    for key in keys:
        count = int(np.frombuffer(_read_bytes(file, position, COUNT.itemsize), COUNT)[0])
        if count != storages[key].size:
            raise WeightsError(
                f"has a storage of {count:,} numbers, where {storages[key].size:,} are declared; {SAVE_AGAIN}"
            )
        starts[key] = position + COUNT.itemsize
        position = starts[key] + storages[key].num_bytes
        if position > file_size:
            raise EOFError(f"{file_size:,} bytes of at least {position:,}")
    return starts


def _read_bytes(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    if len(content := file.read(length)) != length:
        raise EOFError(f"it ends within the {length:,} bytes at {position:,}")
    return content
