"""Maps arrays of files into memory, whose headers may be damaged or hostile."""

import pathlib

import numpy as np

from gradrev_jax.errors import first_line


def map_array(path: pathlib.Path, dtypes: str = "f") -> np.ndarray:
    """Maps the array of a .npy file into memory, read-only; nothing but its header is read or executed.

    Args:
      path: the file.
      dtypes: the kinds of numbers that it may have: ``f`` for floating-point numbers, ``i`` for integers.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged, or something else; the message names it.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(f"{folder}/rows.npy", np.arange(3.0))
      ...     map_array(pathlib.Path(folder, "rows.npy")).tolist()
      [0.0, 1.0, 2.0]
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the decoder of damaged headers raises errors of many types
        raise ValueError(f"{path.name} is cut short or damaged ({first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path.name} is an archive, and no array")
    if array.dtype.kind not in dtypes or not array.dtype.isnative:
        raise ValueError(f"{path.name} has numbers of the type {array.dtype}")
    return array
