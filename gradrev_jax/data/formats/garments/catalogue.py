"""Creates catalogues of drawn garments: nothing to download, and every factor of variation is known.

They are for clothes what dSprites is for shapes: six attributes, independent of each other by default.
"""

import dataclasses
import functools
import hashlib

import numpy as np
from jaxtyping import Float, Int, UInt8

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue, Transform, check_test_fraction, split_parts
from gradrev_jax.data.formats.garments.drawing import (
    CATEGORIES,
    COLORS,
    LENGTHS,
    LOWER,
    NECKLINES,
    PATTERNS,
    SLEEVES,
    draw_garment,
)
from gradrev_jax.data.formats.garments.nuisances import PERIODS, garment_nuisances
from gradrev_jax.data.unlabelled import Nuisances
from gradrev_jax.errors import ConfigError

SCHEMA = AttributeSchema(
    ("category", "color", "length", "neckline", "pattern", "sleeve"),
    (CATEGORIES, tuple(COLORS), LENGTHS, NECKLINES, PATTERNS, tuple(SLEEVES)),
)
NOT_ON_LOWER = [SCHEMA.names.index(name) for name in ("neckline", "sleeve")]  # a skirt has no sleeves
VERSION = b"garments 1"  # part of every digest, because drawings of another version are other images
LABELS, PIXELS = 0, 1  # independent streams of random numbers


@dataclasses.dataclass(frozen=True)
class GarmentImages:
    """Represents drawings of M garments.

    Attributes:
      labels: int32 [M, N], the attributes of each garment.
      seed: the seed of everything that no attribute decides.
    """

    labels: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Returns the number of the garment."""
        return f"garment {row}"

    def digest(self, row: int) -> bytes:
        """Returns a digest of everything that decides the drawing."""
        content = f"{self.seed} {row} {self.labels[row].tolist()}".encode()
        return hashlib.blake2b(VERSION + content, digest_size=16).digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Draws the garment at the size before the crop, and crops the centre."""
        picture = draw_garment(self._garment(row), transform.resize, self._random(row))
        margin = (transform.resize - transform.size) // 2
        return picture[margin : margin + transform.size, margin : margin + transform.size]

    def nuisances(self, row: int) -> Float[np.ndarray, " L"]:
        """Returns the exact colour, size and pose of a drawing, see ``garment_nuisances``."""
        return garment_nuisances(self._garment(row), self._random(row))

    def _garment(self, row: int) -> dict[str, str]:
        """Returns the values of a garment by attribute."""
        return {
            name: values[label]
            for name, values, label in zip(
                SCHEMA.names, SCHEMA.values, self.labels[row].tolist(), strict=True
            )
            if label != NOT_LABELLED
        }

    def _random(self, row: int) -> np.random.Generator:
        """Returns the random numbers that a garment is drawn with."""
        return np.random.default_rng((self.seed, row, PIXELS))


class GarmentNuisances(Nuisances):
    """The nuisances of drawn garments, which are computed when they are read: a training reads none.

    Args:
      images: the garments.
    """

    _images: GarmentImages

    def __init__(self, images: GarmentImages) -> None:
        for name, value in {
            "names": tuple(PERIODS),
            "periods": tuple(PERIODS.values()),
            "_images": images,
        }.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self._images)

    @functools.cached_property
    def values(self) -> Float[np.ndarray, "M L"]:
        """The nuisances of all garments."""
        return self.of_rows(np.arange(len(self)))

    def of_rows(self, rows: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R L"]:
        """Computes the nuisances of some garments."""
        return np.stack([self._images.nuisances(row) for row in rows.tolist()])


def garments_catalogue(
    *,
    count: int,
    seed: int = 0,
    test_fraction: float = 0.2,
    missing: float = 0.0,
    correlation: float = 0.0,
) -> Catalogue:
    """Creates a catalogue of drawn garments.

    Each garment is a pure function of the seed and its index, so a larger catalogue contains the smaller
    ones. ``missing`` and ``correlation`` change training images alone, never the test part.

    Args:
      count: M, the number of training and test images together.
      seed: the seed of everything.
      test_fraction: the share of test images, which are spread evenly.
      missing: the fraction of the training labels that are hidden.
      correlation: the fraction of the training garments whose attributes all follow from their category, as
        black and long from coat; 0: attributes are independent.

    Raises:
      ConfigError: a value is out of range, or there are too few garments for both train and test.

    Example:
      >>> catalogue = garments_catalogue(count=10)
      >>> {part: len(rows) for part, rows in catalogue.parts.items()}
      {'train': 8, 'validation': 0, 'test': 2}
    """
    for name, value in {"missing": missing, "correlation": correlation}.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"`{name}` must lie in [0, 1], got {value}", arguments=(name,))
    check_test_fraction(test_fraction)
    before = np.floor(np.arange(max(count, 0) + 1) * test_fraction)
    is_test = before[1:] > before[:-1]
    if not (is_test.any() and not is_test.all()):
        raise ConfigError(
            f"`count` = {count} leaves train or test without images at `test_fraction` {test_fraction}; "
            "raise it",
            arguments=("count", "test_fraction"),
        )
    uniforms = np.stack(
        [np.random.default_rng((seed, row, LABELS)).random(2 * len(SCHEMA.names) + 1) for row in range(count)]
    )
    values, hidden, follows = np.split(uniforms, [len(SCHEMA.names), -1], axis=1)
    complete = np.floor(values * SCHEMA.sizes).astype(np.int32)
    correlated = ~is_test & (follows[:, 0] < correlation)
    complete[correlated] = _typical(complete[correlated, 0])
    is_lower = np.isin(np.asarray(CATEGORIES)[complete[:, 0]], list(LOWER))
    complete[np.flatnonzero(is_lower)[:, None], NOT_ON_LOWER] = NOT_LABELLED
    labels = np.where(~is_test[:, None] & (hidden < missing), np.int32(NOT_LABELLED), complete)
    images = GarmentImages(complete, seed)
    return Catalogue(
        SCHEMA,
        images,
        labels,
        split_parts(np.where(is_test, TEST, TRAIN)),
        nuisances=GarmentNuisances(images),
    )


def _typical(categories: Int[np.ndarray, " M"]) -> Int[np.ndarray, "M N"]:
    """Returns the labels of garments that follow their category: attributes cycle through their values."""
    return np.stack([categories % size for size in SCHEMA.sizes], axis=1).astype(np.int32)
