"""Loads arrays of .npz files in a run's folder, which may be damaged or hostile."""

import io
import pathlib
import zipfile
from typing import Any

import numpy as np

from gradrev_jax.errors import first_line

LARGEST_ARRAYS = 1 << 30  # bytes of the arrays of one file
LONGEST_NAME = 64  # characters of a name in a message


class TooLargeError(ValueError):
    """A file has more bytes of arrays than are read."""


def load_arrays(path: pathlib.Path, *, most: int | None = None) -> dict[str, np.ndarray]:
    """Loads the arrays of a .npz file by name, unless they are unreasonably large.

    Args:
      path: the file.
      most: the number of bytes of arrays that are read; None: ``LARGEST_ARRAYS``.

    Raises:
      OSError: the file cannot be read.
      TooLargeError: it has more bytes of arrays: compressed, a few bytes can be any number of them.
      ValueError: it is damaged.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez_compressed(f"{folder}/arrays.npz", ks=np.array([1, 5]))
      ...     load_arrays(pathlib.Path(folder, "arrays.npz"))
      {'ks': array([1, 5])}
    """
    most = LARGEST_ARRAYS if most is None else most
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
            names = archive.namelist()
        if declared > most:
            raise TooLargeError(f"it has {declared:,} bytes of arrays, at most {most:,} are read")
        if len(set(names)) < len(names):
            raise ValueError("it has two arrays of one name")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: _checked(name, arrays[name]) for name in arrays.files}
    except TooLargeError:
        raise
    except Exception as error:  # zip files, and headers of arrays, are damaged in many ways
        raise ValueError(first_line(error)) from error


def _checked(name: str, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray):  # what has no header of an array are bytes
        raise ValueError(f"{name[:LONGEST_NAME]} is no array")
    return array
