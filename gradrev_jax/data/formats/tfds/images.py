"""Reads the records of a prepared TFDS data set by row, and their images.

Imports tensorflow_datasets, an optional extra: ``import_tfds`` says how to install it.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

from gradrev_jax.data.catalogue import DEFAULT_SAMPLING, Sampling, Transform
from gradrev_jax.data.formats.tfds.features import Feature, leaves, select_features, value_at
from gradrev_jax.data.images.files import decode_image, to_square
from gradrev_jax.data.images.limits import LARGEST_IMAGE
from gradrev_jax.progress import ProgressBar

CHUNK = 512  # the number of records read at once
VERSION = b"tfds images 1"  # part of every digest: masks are stretched here, but not in files


@dataclasses.dataclass(frozen=True)
class Records:
    """Represents the serialised records of several splits by row.

    Attributes:
      title: the name of the data set.
      sources: the records of each split, as bytes, by the name of the split.
      places: int64 [M, 2], the number of the source of each row, and the number of its record there.
    """

    title: str
    sources: Mapping[str, Sequence[Any]]
    places: Int[np.ndarray, "M 2"]

    @classmethod
    def from_sources(
        cls, title: str, sources: Mapping[str, Sequence[Any]], sampling: Sampling = DEFAULT_SAMPLING
    ) -> "Records":
        """Creates records of all splits in their order, or of as many rows as the sampling chooses."""
        places = np.concatenate(
            [
                np.stack([np.full(len(source), number), np.arange(len(source))], axis=1)
                for number, source in enumerate(sources.values())
            ]
        )
        return cls(title, sources, places[sampling.choose_rows(len(places))])

    def __len__(self) -> int:
        return len(self.places)

    def name(self, row: int) -> str:
        """Returns the data set, split and number of a record, as ``shapes3d/train/17``."""
        source, record = self.places[row].tolist()
        return f"{self.title}/{tuple(self.sources)[source]}/{record}"

    def __getitem__(self, row: int) -> bytes:
        source, record = self.places[row].tolist()
        return tuple(self.sources.values())[source][record]

    def in_order(self, description: str, *, progress: bool = True) -> Iterator[bytes]:
        """Yields all records, read in chunks, with a progress bar if that takes more than seconds."""
        with ProgressBar(
            total=len(self), desc=description, unit="record", delay=2, leave=False, progress=progress
        ) as bar:
            for number, source in enumerate(self.sources.values()):
                of_source = self.places[self.places[:, 0] == number, 1]
                for start in range(0, len(of_source), CHUNK):
                    # TFDS reads many records at once under this name alone.
                    chunk = source.__getitems__(of_source[start : start + CHUNK].tolist())  # type: ignore[attr-defined]
                    yield from chunk
                    bar.update(len(chunk))


def read_columns(
    records: Records, features: Feature, paths: Collection[str], *, progress: bool = True
) -> dict[str, list[Any]]:
    """Returns the values of all records at some paths; nothing else is parsed, and no image is decoded.

    Raises:
      RuntimeError, OSError: a file of records is damaged.
    """
    wanted = select_features(features, paths)
    cells: dict[str, list[Any]] = {path: [] for path in paths}
    for record in records.in_order(f"labels of {records.title}", progress=progress):
        example = wanted.deserialize_example_np(record)
        for path, column in cells.items():
            column.append(value_at(example, path))
    return cells


def is_image(feature: Feature) -> bool:
    """Returns whether a feature is an image that can be read: encoded, or an array uint8 [H, W, 1 or 3].

    Example:
      >>> is_image(tfds.features.Image()), is_image(tfds.features.Tensor(shape=(2, 2, 4), dtype=np.uint8))
      (True, False)
    """
    if isinstance(feature, tfds.features.Image):
        return np.dtype(feature.np_dtype).kind == "u"  # TFDS packs floating-point images in its own way
    return (
        type(feature) is tfds.features.Tensor
        and np.dtype(feature.np_dtype) == np.uint8
        and len(feature.shape) == 3
        and feature.shape[-1] in (1, 3)
    )


@dataclasses.dataclass(frozen=True)
class TfdsImages:
    """Represents the images of a TFDS data set: encoded files, or arrays uint8 [H, W, 1 or 3].

    Images without a grey above 1, as those of dSprites, are masks: 1 becomes white, because 1 of 255 could
    not be seen.

    Attributes:
      records: M records.
      features: a FeaturesDict of the image alone.
      largest_image: the size of the largest encoded image that is decoded, in megapixels.
    """

    records: Records
    features: Feature
    largest_image: float = LARGEST_IMAGE

    @classmethod
    def from_feature(
        cls, records: Records, features: Feature, path: str, largest_image: float = LARGEST_IMAGE
    ) -> "TfdsImages":
        """Creates the images of the feature at a path."""
        return cls(records, select_features(features, [path]), largest_image)

    def __len__(self) -> int:
        return len(self.records)

    def name(self, row: int) -> str:
        """Returns the data set, split and number of the record."""
        return self.records.name(row)

    def digest(self, row: int) -> bytes:
        """Returns the digest of the encoded file, or of the array."""
        content = self._content(row)
        key = hashlib.blake2b(VERSION, digest_size=16)
        if isinstance(content, np.ndarray):
            key.update(str(content.shape).encode())
        key.update(bytes(content))
        return key.digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Returns the image, transformed as ``ImageFiles`` does.

        Raises:
          OSError, ValueError: the record holds no image, or it is damaged.
        """
        content = self._content(row)
        if isinstance(content, np.ndarray):
            pixels = content[..., 0] if content.shape[-1] == 1 else content
            return to_square(_visible(Image.fromarray(pixels)), transform)
        if not content:
            raise ValueError("the record has no image")
        return decode_image(content, transform, _visible, largest_image=self.largest_image)

    def _content(self, row: int) -> bytes | np.ndarray:
        ((path, feature),) = leaves(self.features).items()
        decoders: Any = None
        if isinstance(feature, tfds.features.Image):
            decoders = tfds.decode.SkipDecoding()
            for name in reversed(path.split("/")):
                decoders = {name: decoders}
        return value_at(self.features.deserialize_example_np(self.records[row], decoders=decoders), path)


def _visible(image: Image.Image) -> Image.Image:
    """Returns a mask of 0 and 1 in black and white; any other image unchanged."""
    if image.mode == "L" and image.getextrema()[1] == 1:
        return image.point(lambda level: 255 * level)
    return image
