"""Reads files of tensors without torch: those of ``torch.save``, and ``.safetensors``."""

import contextlib
import functools
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
import safetensors

from gradrev_jax.errors import WeightsError
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.weights.instructions import LONGEST_NAME
from gradrev_jax.weights.legacy_reader import is_legacy, read_legacy
from gradrev_jax.weights.tensor_pickle import (
    LARGEST_PICKLE,
    SAVE_AGAIN,
    Storage,
    find_tensors,
    swap_bytes,
    to_array,
    unpickle,
)

# The name of a dtype in a .safetensors file -> the dtype.
SAFETENSORS = {
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
    "BOOL": np.dtype(np.bool_),
}
LARGEST_HEADER = 100_000_000  # bytes of the header of a .safetensors file, as in its specification


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file of ``torch.save``, old or new, or of a ``.safetensors`` file.

    The format is recognised by the content; the suffix does not matter. Pickles are not executed: one that
    names anything but tensors, their storages and ordered dicts is refused. Memory is bounded by the size of
    the file. If a checkpoint has its tensors under ``"state_dict"``, those are read; other objects are
    ignored.

    Args:
      path: the file.

    Returns:
      The tensors by name, as arrays of their shapes and dtypes, bfloat16 included. An array may be read-only,
      have any strides, and share memory with others if the tensors did.

    Raises:
      WeightsError: there is no such file, or it is damaged, of another format, or has objects other than
        tensors.

    Example:
      >>> import tempfile
      >>> from safetensors.numpy import save_file
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_file({"fc.bias": np.ones(3, np.float16)}, f"{folder}/weights.safetensors")
      ...     read_state_dict(f"{folder}/weights.safetensors")
      {'fc.bias': array([1., 1., 1.], dtype=float16)}
    """
    with naming_file(path) as path:
        with path.open("rb") as file:
            start = file.read(HEAD)
        return _reader(start)(path)


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Puts the path of a file before the errors of a block that reads it, and explains those of damage.

    Args:
      path: the file.

    Yields:
      The path.

    Raises:
      WeightsError: there is no such file, or the block raised any error.

    Example:
      >>> with naming_file("none.pth") as path:
      ...     path.read_bytes()
      Traceback (most recent call last):
      gradrev_jax.errors.WeightsError: none.pth does not exist
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise WeightsError("is not a file; give a file of weights" if path.exists() else "does not exist")
        with _explain_damage():
            yield path
    except WeightsError as error:
        raise WeightsError(f"{path} {error}", arguments=("path",)) from error.__cause__
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"{path} cannot be read: {reason}", arguments=("path",)) from error


def _reader(start: bytes) -> Callable[[pathlib.Path], dict[str, np.ndarray]]:
    """Returns the function that reads a file with these first bytes."""
    if start.startswith(b"PK\x03\x04"):
        return _read_zip
    if is_lfs_pointer(start):
        raise WeightsError(LFS_ADVICE)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LARGEST_HEADER:
        return _read_safetensors
    if is_legacy(start):
        return read_legacy
    if start[:1] == b"\x80" and start[1:2] <= bytes([pickle.HIGHEST_PROTOCOL]):
        raise WeightsError(f"is a plain pickle, which torch.save does not write; {SAVE_AGAIN}")
    if not start:
        raise WeightsError("is empty")
    raise WeightsError(
        f"is neither a file of torch.save nor a .safetensors file: it begins with {start[:16]!r}"
    )


@contextlib.contextmanager
def _explain_damage() -> Iterator[None]:
    """Converts the errors of decoders on damaged bytes, which are of many types, to one type."""
    try:
        yield
    except (WeightsError, OSError):
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        raise WeightsError(f"is cut short or damaged ({what}); fetch it again, or save it again") from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    # safetensors.numpy does not support bfloat16.
    entries = dict(sorted(safetensors.deserialize(path.read_bytes())))
    if other := [
        f"{name}: {entry['dtype']}" for name, entry in entries.items() if entry["dtype"] not in SAFETENSORS
    ]:
        raise WeightsError(f"has tensors of an unsupported dtype: {', '.join(other[:3])}")
    return {
        name: np.frombuffer(entry["data"], SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in entries.items()
    }


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a zip archive of ``torch.save``: a pickle, and one entry of bytes per storage."""
    with zipfile.ZipFile(path) as archive:
        _check_sizes(archive, path.stat().st_size)
        folder = _top_folder(archive)
        tensors = find_tensors(unpickle(archive.read(f"{folder}data.pkl")))
        entries = set(archive.namelist())
        byte_order = f"{folder}byteorder"  # not written before torch 2.1
        big_endian = byte_order in entries and archive.read(byte_order) == b"big"

        @functools.cache
        def content(storage: Storage) -> bytes:
            entry = f"{folder}data/{storage.key}"
            if entry not in entries:
                raise WeightsError(
                    f"has no entry {entry[:LONGEST_NAME]}, which its tensors need; {SAVE_AGAIN}"
                )
            stored = archive.read(entry)
            return swap_bytes(stored, storage.dtype.itemsize) if big_endian else stored

        return {name: to_array(name, tensor, content(tensor.storage)) for name, tensor in tensors.items()}


def _check_sizes(archive: zipfile.ZipFile, file_size: int) -> None:
    """Raises an error if the entries of an archive are larger than the file, before any of them is read."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"is a compressed archive, which torch.save does not write; {SAVE_AGAIN}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise WeightsError(f"has two entries of one name, which torch.save does not write; {SAVE_AGAIN}")
    if (declared := sum(entry.file_size for entry in entries)) > file_size:
        raise WeightsError(
            f"declares {declared:,} bytes and has {file_size:,}; fetch it again, or {SAVE_AGAIN}"
        )


def _top_folder(archive: zipfile.ZipFile) -> str:
    """Returns the folder of all entries, ``NAME/``."""
    pickles = [entry for entry in archive.infolist() if entry.filename.split("/", 1)[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise WeightsError("is a zip archive, but not one of torch.save, which has one NAME/data.pkl")
    if pickles[0].file_size > LARGEST_PICKLE:
        raise WeightsError(f"has a pickle of {pickles[0].file_size:,} bytes, too long for names and shapes")
    return pickles[0].filename.removesuffix("data.pkl")
