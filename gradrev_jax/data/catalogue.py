"""A catalogue: labelled images in parts, whatever format they came from."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import ConfigError

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
SplitBy = Literal["image", "order"]
SPLITS_BY: tuple[SplitBy, ...] = get_args(SplitBy)


@dataclasses.dataclass(frozen=True)
class Transform:
    """How an image becomes a square of ``size`` pixels: resized to ``resize`` squared, then centre-cropped.

    The aspect ratio is not kept, as in the paper. ``resize == size`` means no crop.
    """

    size: int
    resize: int

    @classmethod
    def for_part(cls, part: str, size: int, train_resize: int | None = None) -> "Transform":
        """The paper's transforms: 256 -> crop 224 for train (scaled to ``size``), plain resize elsewhere.

        Args:
          part: train, validation or test.
          size: pixels a side.
          train_resize: what train images are resized to before the crop; None: size * 256 / 224.

        Example:
          >>> Transform.for_part("train", 224), Transform.for_part("test", 96)
          (Transform(size=224, resize=256), Transform(size=96, resize=96))
        """
        return cls(size, (train_resize or round(size * 256 / 224)) if part == TRAIN else size)


@runtime_checkable  # so that the tests' type checker can test it
class ImageSource(Protocol):
    """Pixels by row, of files or of a generator; both are read through image_cache.cached_images."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def name(self, row: int) -> str:
        """What to call the image in a message or a report (for a file, its path)."""
        ...

    def digest(self, row: int) -> bytes:
        """Digest of the image's content, before any transform. Raises OSError where it cannot be read."""
        ...

    def read(self, row: int, transform: Transform) -> np.ndarray:
        """The transformed image, uint8 [size, size, 3]. Raises OSError or ValueError where unreadable."""
        ...


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Labelled images.

    Attributes:
      schema: the attributes.
      images: M images by row.
      labels: int32 [M, N], value index within its attribute, -1 where not labelled.
      parts: rows of each part, int64 arrays under "train", "validation" and "test"; disjoint, and every
        part is there, if empty.
      queries: manipulation queries that come with it, references counted within the test part; None where
        they are to be generated.
      triplets: training triplets that come with it, rows counted within the catalogue; likewise.

    Raises:
      ValueError: labels that do not fit the schema or the number of images, a row in two parts.
    """

    schema: AttributeSchema
    images: ImageSource
    labels: np.ndarray
    parts: Mapping[str, np.ndarray]
    queries: Queries | None = None
    triplets: Triplets | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, self.schema)
        if len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} rows of labels")
        if set(self.parts) != set(PARTS):
            raise ValueError(f"parts must be {PARTS}, got {tuple(self.parts)}")
        rows = np.concatenate([self.parts[part] for part in PARTS])
        if len(np.unique(rows)) != len(rows):
            raise ValueError("a row stands in two parts")

    def part_labels(self, *parts: str) -> np.ndarray:
        """Labels of one or several parts in the order of their rows, int32 [rows, N]."""
        return self.labels[self.rows(*parts)]

    def rows(self, *parts: str) -> np.ndarray:
        """Rows of one or several parts, one after another."""
        return np.concatenate([self.parts[part] for part in parts])


def hold_out_validation(
    catalogue: Catalogue, fraction: float, seed: int, *, split_by: SplitBy = "image"
) -> Catalogue:
    """Moves a seeded share of the train part to validation, unless the catalogue has one already.

    Args:
      catalogue: with the parts that its format gives it.
      fraction: share of the training images.
      seed: of the choice.
      split_by: see ``drawn``.

    Raises:
      ConfigError: a fraction outside [0, 1), or one that leaves no training image.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"train.validation_fraction must lie in [0, 1), got {fraction}")
    if len(catalogue.parts[VALIDATION]):
        return catalogue
    train = catalogue.parts[TRAIN]
    names = [catalogue.images.name(int(row)) for row in train]
    held_out = drawn(names, fraction, seed, purpose=VALIDATION, split_by=split_by)
    if held_out.all():
        raise ConfigError(f"train.validation_fraction {fraction} leaves none of {len(train)} training images")
    parts = {**catalogue.parts, TRAIN: train[~held_out], VALIDATION: train[held_out]}
    return dataclasses.replace(catalogue, parts=parts)


def seeded_split(
    names: Sequence[str], test_fraction: float, seed: int, *, split_by: SplitBy = "image"
) -> dict[str, np.ndarray]:
    """Returns the rows of train, (empty) validation and test of images that come without parts.

    Args:
      names: of the images, as ``ImageSource.name`` gives them.
      test_fraction: share of the test part.
      seed: of the choice.
      split_by: see ``drawn``.

    Raises:
      ConfigError: a fraction outside (0, 1).

    Example:
      >>> names = [f"images/{number}.jpg" for number in range(10)]
      >>> seeded_split(names, 0.2, seed=1)["test"].tolist()
      [2, 4]
      >>> seeded_split(names[1:], 0.2, seed=1)["test"].tolist()  # the same images, a row further up
      [1, 3]
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(f"data.test_fraction must lie in (0, 1), got {test_fraction}")
    in_test = drawn(names, test_fraction, seed, purpose=TEST, split_by=split_by)
    return split_parts(np.where(in_test, TEST, TRAIN))


def drawn(
    names: Sequence[str], fraction: float, seed: int, *, purpose: str, split_by: SplitBy
) -> Bool[np.ndarray, " M"]:
    """Draws about a fraction of images.

    Args:
      names: of the images.
      fraction: share that is drawn.
      seed: of the choice.
      purpose: what they are drawn for; draws for two purposes are independent.
      split_by: ``image``: a hash of its name decides about each image, whatever other images there are, so
        that none changes its part when others come or go; the share is met on average. ``order``: the place
        among the images decides, so that the share is met exactly.

    Raises:
      ConfigError: an unknown ``split_by``.
    """
    if split_by == "order":
        return np.random.default_rng(seed).permutation(len(names)) < round(fraction * len(names))
    if split_by != "image":
        raise ConfigError(f"data.split_by must be one of {', '.join(SPLITS_BY)}, got {split_by!r}")
    keys = (f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogateescape") for name in names)
    hashes = [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") for key in keys]
    return np.array(hashes, np.uint64) < np.uint64(fraction * 2**64)


def split_parts(part_of: Sequence[str] | np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each part from the part's name of each row."""
    names = np.asarray(part_of)
    return {part: np.flatnonzero(names == part) for part in PARTS}
