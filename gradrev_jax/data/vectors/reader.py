"""Opens a file of embeddings, one row per image of a catalogue."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.images.near_files import find_near_file
from gradrev_jax.data.vector_rows import Vectors
from gradrev_jax.data.vectors.names import match_names
from gradrev_jax.data.vectors.numpy_files import open_npy, open_npz
from gradrev_jax.data.vectors.parquet_files import open_parquet
from gradrev_jax.data.vectors.safetensors_files import open_safetensors
from gradrev_jax.data.vectors.stored import Stored
from gradrev_jax.errors import DataError, did_you_mean, join_lines
from gradrev_jax.files import HEAD, LFS_ADVICE, is_lfs_pointer
from gradrev_jax.progress import ProgressBar

FORMATS: dict[str, Callable[[pathlib.Path], Stored]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".safetensors": open_safetensors,
    ".parquet": open_parquet,
}
CHECKED = 2**24  # the number of bytes that are checked at once
PATIENCE = 3.0  # seconds before the progress bar is shown


def open_vectors(
    path: str | os.PathLike[str], names: Sequence[str], *, say: Callable[[str], None], progress: bool = True
) -> Vectors:
    """Opens a file of embeddings: the vectors of a catalogue's images, in its order.

    docs/embeddings.md says what each format has to hold. The vectors stay in the file (those of a compressed
    .npz and of a .parquet file are loaded); all that are in use are read once, to check them.

    Args:
      path: the file, .npy, .npz, .safetensors or .parquet.
      names: the names of the images in the order of the catalogue, as ``ImageSource.name`` gives them.
      say: receives notes on how the file is read.
      progress: whether a progress bar is shown if the check takes long.

    Returns:
      The vectors [len(names), 1, numbers].

    Raises:
      DataError: the file is missing, cut short or damaged, does not fit the catalogue, holds anything but
        numbers, or numbers that are not finite.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "vectors.npz")
      ...     np.savez(path, names=["b.jpg", "a.jpg"], embeddings=np.eye(2, dtype=np.float32))
      ...     open_vectors(path, ["a.jpg", "b.jpg"], say=print)[0].tolist()
      [[0.0, 1.0]]
    """
    path = pathlib.Path(path)
    try:
        _check_file(path)
        stored = _format(path)(path)
        rows = _match_rows(stored, names, lambda note: say(f"{path}: {note}"))
        vectors = stored.open(rows)
    except DataError as error:
        raise DataError(f"{path} {error}", arguments=("embeddings",)) from error.__cause__
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be read: {reason}", arguments=("embeddings",)) from error
    _check_finite(path, vectors, rows, names, progress=progress)
    if stored.dtype.newbyteorder("=") != np.float32:
        say(f"{path}: its numbers are {stored.dtype.name}; they are converted to float32 as they are read")
    return vectors


def _check_file(path: pathlib.Path) -> None:
    """Raises a DataError unless there is a file that is not empty."""
    if path.is_dir():
        raise DataError(f"is a folder; give one file of {', '.join(FORMATS)}")
    if not path.exists():
        near = find_near_file(path.parent, path.name)
        if near:
            raise DataError(f"does not exist; did you mean {near}?")
        beside = [other.name for other in path.parent.glob("*") if other.suffix.lower() in FORMATS]
        hint = did_you_mean(path.name, beside, otherwise="give the path of a file of embeddings")
        raise DataError(f"does not exist; {hint}")
    with path.open("rb") as file:
        start = file.read(HEAD)
    if not start:
        raise DataError("is empty; save it again")
    if is_lfs_pointer(start):
        raise DataError(LFS_ADVICE)


def _format(path: pathlib.Path) -> Callable[[pathlib.Path], Stored]:
    """Returns the function that opens files of a suffix."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(
            f"has the suffix {suffix!r}; files of embeddings are {', '.join(FORMATS)}, each as "
            "docs/embeddings.md describes it"
        )
    return FORMATS[suffix]


def _match_rows(stored: Stored, names: Sequence[str], say: Callable[[str], None]) -> Int[np.ndarray, " rows"]:
    """Returns the row of each image."""
    if stored.names is not None:
        return match_names(stored.names, names, say=say)
    if stored.num_rows != len(names):
        more = "file" if stored.num_rows > len(names) else "catalogue"
        raise DataError(
            f"has {stored.num_rows:,} rows and the catalogue {len(names):,} images; the {more} has "
            f"{abs(stored.num_rows - len(names)):,} more. An array without names needs one row per image in "
            "the catalogue's order; rows of an .npz, .safetensors or .parquet file are matched by their names"
        )
    return np.arange(stored.num_rows)


def _check_finite(
    path: pathlib.Path, vectors: Vectors, rows: Int[np.ndarray, " M"], names: Sequence[str], *, progress: bool
) -> None:
    """Raises a DataError if vectors in use are not finite; they are read in the order of the file."""
    order = np.argsort(rows)
    step = max(1, CHECKED // max(1, vectors.nbytes // max(1, len(vectors))))
    faults: list[int] = []
    starts = range(0, len(order), step)
    title = f"checking {path.name}"
    for start in ProgressBar(starts, title, delay=PATIENCE, leave=False, progress=progress):
        part = order[start : start + step]
        finite = np.isfinite(vectors[part]).all(axis=(1, 2))
        faults += part[~finite].tolist()
    if faults:
        lines = [f"row {rows[n]}, {names[n]}" for n in faults]
        raise DataError(
            f"{path} has {len(faults):,} rows with numbers that are NaN, infinite or too large for float32 "
            f"(rows are counted from 0):\n{join_lines(lines)}\n"
            "Compute the vectors of these images again, or take their rows out of the table.",
            arguments=("embeddings",),
        )
