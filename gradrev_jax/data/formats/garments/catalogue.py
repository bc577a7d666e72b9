"""An embedded catalogue of drawn garments: nothing to download, and every factor of variation known.

What dSprites is to disentanglement, for clothes: six attributes, drawn independently unless asked otherwise.
"""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int, UInt8

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import TEST, TRAIN, Catalogue, Transform, split_parts
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
from gradrev_jax.errors import ConfigError

SCHEMA = AttributeSchema(
    ("category", "color", "length", "neckline", "pattern", "sleeve"),
    (CATEGORIES, tuple(COLORS), LENGTHS, NECKLINES, PATTERNS, tuple(SLEEVES)),
)
NOT_ON_LOWER = [SCHEMA.names.index(name) for name in ("neckline", "sleeve")]  # a skirt has no sleeves
VERSION = b"garments 1"  # part of every digest: drawings of another version are other images
LABELS, PIXELS = 0, 1  # streams of random numbers, apart from each other


@dataclasses.dataclass(frozen=True)
class GarmentImages:
    """Drawings of M garments.

    Attributes:
      labels: int32 [M, N], what each garment is.
      seed: of all that no attribute tells.
    """

    labels: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Number of the garment."""
        return f"garment {row}"

    def digest(self, row: int) -> bytes:
        """Digest of what decides the drawing."""
        content = f"{self.seed} {row} {self.labels[row].tolist()}".encode()
        return hashlib.blake2b(VERSION + content, digest_size=16).digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Draw the garment at the size to resize to, and crop the centre."""
        garment = {
            name: values[label]
            for name, values, label in zip(SCHEMA.names, SCHEMA.values, self.labels[row], strict=True)
            if label != NOT_LABELLED
        }
        picture = draw_garment(garment, transform.resize, np.random.default_rng((self.seed, row, PIXELS)))
        margin = (transform.resize - transform.size) // 2
        return picture[margin : margin + transform.size, margin : margin + transform.size]


def garments_catalogue(
    *,
    count: int,
    seed: int = 0,
    test_fraction: float = 0.2,
    missing: float = 0.0,
    correlation: float = 0.0,
) -> Catalogue:
    """Catalogue of drawn garments.

    Each garment is a pure function of the seed and its index: a larger catalogue holds the smaller ones.
    What the knobs do not concern stays as it is; the test part is that of ``missing=0, correlation=0``.

    Args:
      count: M, train and test together.
      seed: of everything.
      test_fraction: share of the test part, spread evenly.
      missing: fraction of the training labels that is hidden.
      correlation: fraction of the training garments whose attributes all follow their category (coats black
        and long, say); 0 leaves attributes independent.

    Raises:
      ConfigError: a value out of range, or so few garments that train or test has none.

    Example:
      >>> catalogue = garments_catalogue(count=10)
      >>> {part: len(rows) for part, rows in catalogue.parts.items()}
      {'train': 8, 'validation': 0, 'test': 2}
    """
    for name, value in {"missing": missing, "correlation": correlation}.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"data.{name} must lie in [0, 1], got {value}")
    if not 0 < test_fraction < 1:
        raise ConfigError(f"data.test_fraction must lie in (0, 1), got {test_fraction}")
    before = np.floor(np.arange(max(count, 0) + 1) * test_fraction)
    is_test = before[1:] > before[:-1]
    if not (is_test.any() and not is_test.all()):
        raise ConfigError(
            f"data.count = {count} leaves train or test without images at data.test_fraction "
            f"{test_fraction}; raise it"
        )
    uniforms = np.stack(
        [np.random.default_rng((seed, row, LABELS)).random(2 * len(SCHEMA.names) + 1) for row in range(count)]
    )
    values, hidden, follows = np.split(uniforms, [len(SCHEMA.names), -1], axis=1)
    drawn = np.floor(values * SCHEMA.sizes).astype(np.int32)
    correlated = ~is_test & (follows[:, 0] < correlation)
    drawn[correlated] = _typical(drawn[correlated, 0])
    is_lower = np.isin(np.asarray(CATEGORIES)[drawn[:, 0]], list(LOWER))
    drawn[np.flatnonzero(is_lower)[:, None], NOT_ON_LOWER] = NOT_LABELLED
    labels = np.where(~is_test[:, None] & (hidden < missing), np.int32(NOT_LABELLED), drawn)
    return Catalogue(SCHEMA, GarmentImages(drawn, seed), labels, split_parts(np.where(is_test, TEST, TRAIN)))


def _typical(categories: Int[np.ndarray, " M"]) -> Int[np.ndarray, "M N"]:
    """All labels of a garment that follows its category: each attribute cycles through its values."""
    return np.stack([categories % size for size in SCHEMA.sizes], axis=1).astype(np.int32)
