"""Reading files of tensors without torch: what ``torch.save`` writes, and ``.safetensors``."""

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
from gradrev_jax.weights.legacy_reader import is_legacy, read_legacy
from gradrev_jax.weights.tensor_pickle import LARGEST_PICKLE, SAVE_AGAIN, as_array, named_tensors, unpickle

# Name of a dtype in a .safetensors file -> dtype.
SAFETENSORS = {
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
    "BOOL": np.dtype(np.bool_),
}
LARGEST_HEADER = 100_000_000  # of a .safetensors file, as its format has it


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Tensors of a file by name: of ``torch.save``, old or new, or ``.safetensors``, whatever its suffix.

    Of a pickle nothing is run: it may name tensors, their storages and ordered dicts, and is refused
    otherwise. No more is read than the file is long. Where a checkpoint has the tensors under
    ``"state_dict"``, those are read; what is no tensor is left out.

    Args:
      path: the file.

    Returns:
      Name -> array of the tensor's shape and dtype, bfloat16 included. It may be read-only, have any strides,
      and share memory with others, as the tensors did.

    Raises:
      WeightsError: no such file, one that is damaged or of another format, or with more than tensors in it.

    Example:
      >>> import tempfile
      >>> from safetensors.numpy import save_file
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_file({"fc.bias": np.ones(3, np.float16)}, f"{folder}/weights.safetensors")
      ...     read_state_dict(f"{folder}/weights.safetensors")
      {'fc.bias': array([1., 1., 1.], dtype=float16)}
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise WeightsError("is not a file; give a file of weights" if path.exists() else "does not exist")
        with path.open("rb") as file:
            start = file.read(HEAD)
        with _damage_explained():
            return _reader(start)(path)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error.__cause__
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _reader(start: bytes) -> Callable[[pathlib.Path], dict[str, np.ndarray]]:
    """Reader for a file that begins so."""
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
def _damage_explained() -> Iterator[None]:
    """Whatever decoders raise on damaged bytes, which is nearly anything, as one error."""
    try:
        yield
    except (WeightsError, OSError):
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        raise WeightsError(f"is cut short or damaged ({what}); fetch it again, or save it again") from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    # Not by safetensors.numpy, which knows no bfloat16.
    entries = dict(sorted(safetensors.deserialize(path.read_bytes())))
    if other := [
        f"{name}: {entry['dtype']}" for name, entry in entries.items() if entry["dtype"] not in SAFETENSORS
    ]:
        raise WeightsError(f"holds tensors of a dtype that is not read: {', '.join(other[:3])}")
    return {
        name: np.frombuffer(entry["data"], SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in entries.items()
    }


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The file of ``torch.save``: a pickle, and an entry of bytes for each storage that it refers to."""
    with zipfile.ZipFile(path) as archive:
        _check_sizes(archive, path.stat().st_size)
        folder = _top_folder(archive)
        tensors = named_tensors(unpickle(archive.read(f"{folder}data.pkl")))
        entries = set(archive.namelist())
        byte_order = f"{folder}byteorder"  # not written before torch 2.1
        big_endian = byte_order in entries and archive.read(byte_order) == b"big"

        @functools.cache
        def content(key: str) -> bytes:
            entry = f"{folder}data/{key}"
            if entry not in entries:
                raise WeightsError(f"lacks {entry}, which its tensors refer to; {SAVE_AGAIN}")
            return archive.read(entry)

        return {
            name: as_array(name, tensor, content(tensor.storage.key), big_endian=big_endian)
            for name, tensor in tensors.items()
        }


def _check_sizes(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuse what would be larger in memory than it is as a file, before anything of it is read."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"is a compressed archive, which torch.save does not write; {SAVE_AGAIN}")
    if (declared := sum(entry.file_size for entry in entries)) > file_size:
        raise WeightsError(
            f"declares {declared:,} bytes and has {file_size:,}; fetch it again, or {SAVE_AGAIN}"
        )


def _top_folder(archive: zipfile.ZipFile) -> str:
    """``NAME/``, under which everything lies."""
    pickles = [entry for entry in archive.infolist() if entry.filename.split("/", 1)[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise WeightsError("is a zip archive, but not one of torch.save, which has one NAME/data.pkl")
    if pickles[0].file_size > LARGEST_PICKLE:
        raise WeightsError(f"has a pickle of {pickles[0].file_size:,} bytes, too long for names and shapes")
    return pickles[0].filename.removesuffix("data.pkl")
