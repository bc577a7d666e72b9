"""Fingerprints of catalogues: what a run was trained on, kept in its folder (see ``drift``)."""

import dataclasses
import io
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.catalogue import PARTS, TEST, Catalogue, ImageSource, Transform
from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.array_files import load_arrays
from gradrev_jax.runs.workdir import write_bytes

FINGERPRINT_FILE = "catalogue.npz"
GONE = len(PARTS)  # in place of the index of a part: the image is no longer in the catalogue
UNKNOWN = 0  # in place of the hash of a content: the image was not read
ARRAYS = ("names", "contents", "labels", "parts", "trained_on")  # in the file


class Fingerprint(NamedTuple):
    """Describes the M images of a catalogue, so that later changes of it can be found.

    Attributes:
      names: the names of the images, as ``ImageSource.name`` gives them.
      contents: [M], the hash of each image's content; 0 where it was not read.
      labels: [M, N], the labels.
      parts: [M], the index of the part in ``PARTS``; 3 if the image is no longer in the catalogue.
      trained_on: [M], whether the image is, or once was, in the train or validation part.
    """

    names: tuple[str, ...]
    contents: UInt64[np.ndarray, " M"]
    labels: Int[np.ndarray, "M N"]
    parts: UInt8[np.ndarray, " M"]
    trained_on: Bool[np.ndarray, " M"]


@dataclasses.dataclass(frozen=True)
class RememberedDigests:
    """An image source that remembers digests once they are computed, so that each file is read for it once.

    ``fingerprint`` only knows the contents of images whose digest is remembered. So before any image is read,
    fingerprints can be compared in names, labels and parts alone; afterwards, in contents too.

    Attributes:
      source: the images.
      known: row -> digest.
    """

    source: ImageSource
    known: dict[int, bytes] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source)

    def name(self, row: int) -> str:
        """Returns the source's name of an image."""
        return self.source.name(row)

    def digest(self, row: int) -> bytes:
        """Returns the source's digest of an image."""
        if row not in self.known:
            self.known[row] = self.source.digest(row)
        return self.known[row]

    def read(self, row: int, transform: Transform) -> np.ndarray:
        """Returns the source's pixels of an image."""
        return self.source.read(row, transform)


def remember_digests(catalogue: Catalogue) -> Catalogue:
    """Returns a catalogue whose images keep the digests that they were asked for."""
    return dataclasses.replace(catalogue, images=RememberedDigests(catalogue.images))


def fingerprint(catalogue: Catalogue) -> Fingerprint:
    """Returns the fingerprint of a catalogue, with the contents of the images whose digests it remembers."""
    images = catalogue.images
    known = images.known if isinstance(images, RememberedDigests) else {}
    rows = np.sort(catalogue.rows(*PARTS))
    part_of = np.full(len(images), GONE, np.uint8)
    for number, part in enumerate(PARTS):
        part_of[catalogue.parts[part]] = number
    contents = [int.from_bytes(known[row][:8], "big") if row in known else UNKNOWN for row in rows.tolist()]
    return Fingerprint(
        names=tuple(images.name(row) for row in rows.tolist()),
        contents=np.array(contents, np.uint64),
        labels=catalogue.labels[rows],
        parts=part_of[rows],
        trained_on=part_of[rows] < PARTS.index(TEST),
    )


def rows_before(before: Fingerprint, now: Fingerprint) -> Int[np.ndarray, " M"]:
    """Returns the row of each image in an earlier fingerprint, found by name; -1 if it has none."""
    then = {name: row for row, name in enumerate(before.names)}
    return np.array([then.get(name, -1) for name in now.names], int)


def merge_fingerprints(before: Fingerprint | None, now: Fingerprint) -> Fingerprint:
    """Returns the fingerprint of a run that goes on with a catalogue; images trained on before stay in it.

    Args:
      before: the fingerprint of the run so far; None: it begins.
      now: the fingerprint of the catalogue that it goes on with.
    """
    if before is None:
        return now
    rows = rows_before(before, now)
    known, old = rows >= 0, np.where(rows >= 0, rows, 0)
    trained_on = now.trained_on | (known & before.trained_on[old])
    contents = np.where((now.contents == UNKNOWN) & known, before.contents[old], now.contents)
    present = set(now.names)
    gone = np.array([name not in present for name in before.names], bool) & before.trained_on
    return Fingerprint(
        names=(*now.names, *(name for name, is_gone in zip(before.names, gone, strict=True) if is_gone)),
        contents=np.concatenate([contents, before.contents[gone]]),
        labels=np.concatenate([now.labels, before.labels[gone]]),
        parts=np.concatenate([now.parts, np.full(gone.sum(), GONE, np.uint8)]),
        trained_on=np.concatenate([trained_on, before.trained_on[gone]]),
    )


def save_fingerprint(directory: pathlib.Path, made: Fingerprint) -> None:
    """Writes a fingerprint into a run's folder.

    Raises:
      WorkdirError: the folder cannot be written to.
    """
    file = io.BytesIO()
    labels = made.labels.astype(np.min_scalar_type(-int(made.labels.max(initial=0)) - 1))
    names = np.frombuffer("\0".join(made.names).encode("utf-8", "surrogateescape"), np.uint8)
    np.savez_compressed(
        file,
        names=names,
        contents=made.contents,
        labels=labels,
        parts=made.parts,
        trained_on=made.trained_on,
    )
    write_bytes(directory / FINGERPRINT_FILE, file.getvalue())


def read_fingerprint(directory: pathlib.Path) -> Fingerprint | None:
    """Reads the fingerprint in a run's folder; None where it holds none.

    Raises:
      WorkdirError: it is damaged.
    """
    path = directory / FINGERPRINT_FILE
    try:
        return _make(load_arrays(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise WorkdirError(
            f"{path}, which says what the run was trained on, cannot be read: {error}; restore it from a "
            "copy, or train again in another --workdir"
        ) from error


def _make(arrays: Mapping[str, np.ndarray]) -> Fingerprint:
    """Makes a fingerprint of the arrays of its file.

    Raises:
      ValueError, KeyError, IndexError: they are damaged.
    """
    text, contents, labels, parts, trained_on = (arrays[name] for name in ARRAYS)
    if parts.ndim != 1:
        raise ValueError(f"its parts are {parts.shape}")
    count = len(parts)
    kinds = [array.dtype.kind for array in (contents, labels, parts, trained_on)]
    shapes = [array.shape for array in (contents, labels[:, :1], parts, trained_on)]
    if kinds != ["u", "i", "u", "b"] or shapes != [(count,), (count, 1), (count,), (count,)]:
        raise ValueError(f"its arrays do not fit each other: {shapes}")
    if text.dtype != np.uint8 or np.count_nonzero(text == 0) != max(count - 1, 0):
        raise ValueError(f"it does not have the names of {count:,} images")
    if (parts > GONE).any() or (labels < NOT_LABELLED).any():
        raise ValueError("its parts or labels are out of range")
    names = text.tobytes().decode("utf-8", "surrogateescape")
    return Fingerprint(
        names=tuple(names.split("\0")) if count else (),
        contents=contents.astype(np.uint64),
        labels=labels.astype(np.int32),
        parts=parts.astype(np.uint8),
        trained_on=trained_on,
    )
