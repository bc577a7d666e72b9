"""Reading what ``torch.save`` wrote before torch 1.6, without torch and without running anything of it.

Such a file is five pickles, one after the other: a magic number, a protocol's, what the machine was like,
the object, and the keys of the storages that it refers to. Then each storage follows, in the order of the
keys: how many numbers it has, and these.
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
    as_array,
    named_tensors,
    unpickle,
    unpickle_with_storages,
)

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
COUNT = np.dtype("<i8")  # of a storage's numbers, before them; both little-endian, wherever written


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so, with 32 bytes or more, is in this format.

    Example:
      >>> import pickle
      >>> is_legacy(pickle.dumps(MAGIC, 2)), is_legacy(pickle.dumps({}, 2))
      (True, False)
    """
    return MAGIC.to_bytes(10, "little") in start


def read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors of a file by name; see ``torch_files.read_state_dict``, which puts damage into words.

    Args:
      path: the file.

    Raises:
      WeightsError: it holds more than tensors, or its parts disagree.
      Exception: it is damaged; ``pickle`` and ``pickletools`` raise nearly anything.

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
        magic, protocol, _, checkpoint, listed = (_next_pickle(head) for _ in range(5))
        if (found := unpickle(magic)) != MAGIC:
            raise ValueError(f"magic number {reprlib.repr(found)}")
        if (found := unpickle(protocol)) != PROTOCOL:
            raise WeightsError(
                f"is in protocol {reprlib.repr(found)} of torch's format from before 1.6, not {PROTOCOL}; "
                f"{SAVE_AGAIN}"
            )
        described, storages = unpickle_with_storages(checkpoint)
        tensors = named_tensors(described)
        places = _places(file, head.tell(), unpickle(listed), storages, path.stat().st_size)
        contents = {
            key: _read(file, places[key], storages[key].num_bytes)
            for key in {tensor.storage.key for tensor in tensors.values()}
        }
    return {name: as_array(name, tensor, contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _next_pickle(stream: io.BytesIO) -> bytes:
    """The pickle that a stream is at the beginning of; nothing of it is done."""
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


def _places(
    file: BinaryIO, place: int, listed: object, storages: dict[str, Storage], file_size: int
) -> dict[str, int]:
    """Where the numbers of each storage begin.

    Args:
      file: read for the counts alone.
      place: of the first count.
      listed: keys of the storages in their order, as the file has them.
      storages: those that the file's tensors refer to.
      file_size: bytes.

    Raises:
      WeightsError: keys, counts and storages do not belong together.
      EOFError: the file ends before they do.
    """
    keys = listed if isinstance(listed, list) else []
    if sorted(keys) != sorted(storages):
        raise WeightsError(
            f"does not list each of the {len(storages)} storages once that its tensors refer to; {SAVE_AGAIN}"
        )
    places: dict[str, int] = {}
    for key in keys:
        count = int(np.frombuffer(_read(file, place, COUNT.itemsize), COUNT)[0])
        if count != storages[key].size:
            raise WeightsError(
                f"has a storage of {count:,} numbers, where {storages[key].size:,} are declared; {SAVE_AGAIN}"
            )
        places[key] = place + COUNT.itemsize
        place = places[key] + storages[key].num_bytes
        if place > file_size:
            raise EOFError(f"{file_size:,} bytes of at least {place:,}")
    return places


def _read(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    if len(content := file.read(length)) != length:
        raise EOFError(f"it ends within the {length:,} bytes at {place:,}")
    return content
