"""Records of a prepared TFDS data set by row, and their images.

Imports tensorflow_datasets, an optional extra: ``data/tfds.py`` says what to install where it is missing.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image
from tqdm import tqdm

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.tfds.features import Feature, leaves, select_features, value_at
from gradrev_jax.data.images.files import decode_image, to_square

CHUNK = 512  # records that are read at once
VERSION = b"tfds images 1"  # part of every digest: greys are stretched here and not in files


@dataclasses.dataclass(frozen=True)
class Records:
    """Serialised records of several splits by row.

    Attributes:
      title: of the data set.
      sources: the records of each split by its name, bytes.
      places: int64 [M, 2], for each row which of the sources, in their order, and which of its records.
    """

    title: str
    sources: Mapping[str, Sequence[Any]]
    places: Int[np.ndarray, "M 2"]

    @classmethod
    def drawn(
        cls, title: str, sources: Mapping[str, Sequence[Any]], *, limit: int | None = None, seed: int = 0
    ) -> "Records":
        """All records, or as many as ``limit`` drawn with the seed, in the order of the splits."""
        places = np.concatenate(
            [
                np.stack([np.full(len(source), number), np.arange(len(source))], axis=1)
                for number, source in enumerate(sources.values())
            ]
        )
        if limit is not None:
            places = places[np.sort(np.random.default_rng(seed).permutation(len(places))[:limit])]
        return cls(title, sources, places)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, row: int) -> str:
        """Data set, split and number of a record, as ``shapes3d/train/17``."""
        source, record = self.places[row].tolist()
        return f"{self.title}/{tuple(self.sources)[source]}/{record}"

    def __getitem__(self, row: int) -> bytes:
        source, record = self.places[row].tolist()
        return tuple(self.sources.values())[source][record]

    def in_order(self, description: str, *, progress: bool = True) -> Iterator[bytes]:
        """All records, read in chunks, with a progress bar where it takes more than seconds."""
        with tqdm(
            total=len(self), desc=description, unit="record", delay=2, leave=False, disable=not progress
        ) as bar:
            for number, source in enumerate(self.sources.values()):
                of_source = self.places[self.places[:, 0] == number, 1]
                for start in range(0, len(of_source), CHUNK):
                    # TFDS offers reading many at once under this name only.
                    chunk = source.__getitems__(of_source[start : start + CHUNK].tolist())  # type: ignore[attr-defined]
                    yield from chunk
                    bar.update(len(chunk))


def read_columns(
    records: Records, features: Feature, paths: Collection[str], *, progress: bool = True
) -> dict[str, list[Any]]:
    """What every record holds at some paths; nothing else is parsed, and no image decoded.

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
    """Whether a feature is an image that can be read: encoded, or an array uint8 [H, W, 1 or 3].

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
    """Images of a TFDS data set: encoded files, or arrays uint8 [H, W, 1 or 3].

    Greys of which none is brighter than 1, as those of dSprites, are a mask: 1 becomes white, because as 1 of
    255 it could not be seen.

    Attributes:
      records: M records.
      features: a FeaturesDict of the image alone.
    """

    records: Records
    features: Feature

    @classmethod
    def of(cls, records: Records, features: Feature, path: str) -> "TfdsImages":
        """The images that the feature at a path holds."""
        return cls(records, select_features(features, [path]))

    def __len__(self) -> int:
        return len(self.records)

    def name(self, row: int) -> str:
        """Data set, split and number of the record."""
        return self.records.name(row)

    def digest(self, row: int) -> bytes:
        """Digest of the encoded file, or of the array."""
        content = self._content(row)
        key = hashlib.blake2b(VERSION, digest_size=16)
        if isinstance(content, np.ndarray):
            key.update(str(content.shape).encode())
        key.update(bytes(content))
        return key.digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """The image as an ``ImageFiles`` has it.

        Raises:
          OSError, ValueError: it is no image, or damaged.
        """
        content = self._content(row)
        if isinstance(content, np.ndarray):
            pixels = content[..., 0] if content.shape[-1] == 1 else content
            return to_square(_visible(Image.fromarray(pixels)), transform)
        if not content:
            raise ValueError("the record has no image")
        return decode_image(content, transform, _visible)

    def _content(self, row: int) -> bytes | np.ndarray:
        ((path, feature),) = leaves(self.features).items()
        decoders: Any = None
        if isinstance(feature, tfds.features.Image):
            decoders = tfds.decode.SkipDecoding()
            for name in reversed(path.split("/")):
                decoders = {name: decoders}
        return value_at(self.features.deserialize_example_np(self.records[row], decoders=decoders), path)


def _visible(image: Image.Image) -> Image.Image:
    """A mask of 0 and 1 in black and white; any other image as it is."""
    if image.mode == "L" and image.getextrema()[1] == 1:
        return image.point(lambda level: 255 * level)
    return image
