"""Defines a catalogue, labelled images in parts, and how images are chosen for the parts."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.data.unlabelled import Nuisances, Unlabelled
from gradrev_jax.data.vector_rows import Vectors
from gradrev_jax.errors import ConfigError

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
SplitBy = Literal["image", "order"]
SPLITS_BY: tuple[SplitBy, ...] = get_args(SplitBy)


@dataclasses.dataclass(frozen=True)
class Transform:
    """Represents how an image becomes a square: it is resized to a square, then centre-cropped.

    The aspect ratio is not kept, as in the paper.

    Attributes:
      size: the height and width of the result, in pixels.
      resize: the height and width before the crop, in pixels; equal to ``size``: no crop.
    """

    size: int
    resize: int

    @classmethod
    def for_part(cls, part: str, size: int, train_resize: int | None = None) -> "Transform":
        """Creates the paper's transform: a crop of 224 from 256 for train (scaled), a plain resize elsewhere.

        Args:
          part: the part of the catalogue.
          size: the height and width of the result, in pixels.
          train_resize: the size that training images are resized to; None: size * 256 / 224.

        Example:
          >>> Transform.for_part("train", 224), Transform.for_part("test", 96)
          (Transform(size=224, resize=256), Transform(size=96, resize=96))
        """
        return cls(size, (train_resize or round(size * 256 / 224)) if part == TRAIN else size)


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class ImageSource(Protocol):
    """Images by row, from files or from a generator; both are read through ``cached_images``."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def name(self, row: int) -> str:
        """Returns the name of an image in messages and reports; the path of a file."""
        ...

    def digest(self, row: int) -> bytes:
        """Returns a digest of an image's content before any transform.

        Raises:
          OSError: the image cannot be read.
        """
        ...

    def read(self, row: int, transform: Transform) -> np.ndarray:
        """Returns the transformed image, uint8 [size, size, 3].

        Raises:
          OSError, ValueError: the image cannot be read or decoded.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Represents labelled images in three parts.

    Attributes:
      schema: the attributes and their values.
      images: M images by row.
      labels: int32 [M, N], the index of the value within its attribute; -1: not labelled.
      parts: int64 arrays of the rows of "train", "validation" and "test"; disjoint, possibly empty.
      queries: manipulation queries that come with the catalogue, whose references are counted within the
        test part; None: they are to be generated.
      triplets: training triplets that come with the catalogue, whose rows are counted within the catalogue;
        None: they are to be generated.
      vectors: what another network has computed of the M images, for models that read this; None: nothing.
      unlabelled: the labels of attributes that were left out, see ``leave_out``; None: there are none.
      nuisances: what the generator of the images knows of them beyond any label; None: nothing is known.

    Raises:
      ValueError: the labels do not fit the schema or the number of images, or a row is in two parts.
    """

    schema: AttributeSchema
    images: ImageSource
    labels: np.ndarray
    parts: Mapping[str, np.ndarray]
    queries: Queries | None = None
    triplets: Triplets | None = None
    vectors: Vectors | None = None
    unlabelled: Unlabelled | None = None
    nuisances: Nuisances | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, self.schema)
        if len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} rows of labels")
        for beside in (self.unlabelled, self.nuisances):
            if beside is not None and len(beside) != len(self.images):
                raise ValueError(f"{len(self.images)} images but {len(beside)} rows beside their labels")
        if set(self.parts) != set(PARTS):
            raise ValueError(f"parts must be {PARTS}, got {tuple(self.parts)}")
        rows = np.concatenate([self.parts[part] for part in PARTS])
        if len(np.unique(rows)) != len(rows):
            raise ValueError("a row stands in two parts")

    def part_labels(self, *parts: str) -> np.ndarray:
        """Returns the labels of one or several parts in the order of their rows, int32 [rows, N]."""
        return self.labels[self.rows(*parts)]

    def rows(self, *parts: str) -> np.ndarray:
        """Returns the rows of one or several parts, one part after another."""
        return np.concatenate([self.parts[part] for part in parts])


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Represents the seeded choices of a reader: the images that it reads, and their test part.

    Attributes:
      limit: the number of images read; None: all.
      test_fraction: the share of the test part, if the images come without parts.
      split_by: the way in which the test part is chosen, see ``choose_images``.
      seed: the seed of both choices.

    Raises:
      ConfigError: the limit is below 1.
    """

    limit: int | None = None
    test_fraction: float = 0.2
    split_by: SplitBy = "image"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"`limit` must be at least 1, got {self.limit}", arguments=("limit",))

    def choose_rows(self, count: int) -> Int[np.ndarray, " rows"]:
        """Returns the rows that are read, in ascending order.

        Args:
          count: the number of images there are.

        Example:
          >>> Sampling().choose_rows(3).tolist(), len(Sampling(limit=2).choose_rows(3))
          ([0, 1, 2], 2)
        """
        if self.limit is None:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.seed).permutation(count)[: self.limit])


DEFAULT_SAMPLING = Sampling()


def hold_out_validation(
    catalogue: Catalogue, fraction: float, seed: int, *, split_by: SplitBy = "image"
) -> Catalogue:
    """Moves a seeded share of the train part to validation, unless the catalogue has a validation part.

    Args:
      catalogue: the catalogue, with the parts that its format gives it.
      fraction: the share of the training images.
      seed: the seed of the choice.
      split_by: the way in which images are chosen, see ``choose_images``.

    Raises:
      ConfigError: the fraction lies outside [0, 1), or leaves no training image.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"`fraction` must lie in [0, 1), got {fraction}", arguments=("fraction",))
    if len(catalogue.parts[VALIDATION]):
        return catalogue
    train = catalogue.parts[TRAIN]
    names = [catalogue.images.name(int(row)) for row in train]
    held_out = choose_images(names, fraction, seed, purpose=VALIDATION, split_by=split_by)
    if held_out.all():
        raise ConfigError(
            f"`fraction` {fraction} holds out all {len(train)} training images for validation; lower it",
            arguments=("fraction",),
        )
    parts = {**catalogue.parts, TRAIN: train[~held_out], VALIDATION: train[held_out]}
    return dataclasses.replace(catalogue, parts=parts)


def seeded_split(
    names: Sequence[str], test_fraction: float, seed: int, *, split_by: SplitBy = "image"
) -> dict[str, np.ndarray]:
    """Returns the rows of train, (empty) validation and test for images that come without parts.

    Args:
      names: the names of the images, as ``ImageSource.name`` gives them.
      test_fraction: the share of the test part.
      seed: the seed of the choice.
      split_by: the way in which images are chosen, see ``choose_images``.

    Raises:
      ConfigError: the fraction lies outside (0, 1).

    Example:
      >>> names = [f"images/{number}.jpg" for number in range(10)]
      >>> seeded_split(names, 0.2, seed=1)["test"].tolist()
      [2, 4]
      >>> seeded_split(names[1:], 0.2, seed=1)["test"].tolist()  # the same images, a row further up
      [1, 3]
    """
    check_test_fraction(test_fraction)
    in_test = choose_images(names, test_fraction, seed, purpose=TEST, split_by=split_by)
    return split_parts(np.where(in_test, TEST, TRAIN))


def check_test_fraction(test_fraction: float) -> None:
    """Checks that a share of test images leaves images for both parts.

    Raises:
      ConfigError: the fraction lies outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(
            f"`test_fraction` must lie in (0, 1), got {test_fraction}", arguments=("test_fraction",)
        )


def choose_images(
    names: Sequence[str], fraction: float, seed: int, *, purpose: str, split_by: SplitBy
) -> Bool[np.ndarray, " M"]:
    """Chooses about a fraction of the images; returns a mask of those chosen.

    Args:
      names: the names of the images.
      fraction: the share that is chosen.
      seed: the seed of the choice.
      purpose: the part that the images are chosen for; choices for two purposes are independent.
      split_by: ``image``: a hash of its name decides about each image, whatever other images there are, so
        no image changes its part when others come or go; the share is met on average. ``order``: the
        position among the images decides, so the share is met exactly.

    Raises:
      ConfigError: ``split_by`` is unknown.
    """
    if split_by == "order":
        return np.random.default_rng(seed).permutation(len(names)) < round(fraction * len(names))
    if split_by != "image":
        raise ConfigError(
            f"`split_by` must be one of {', '.join(SPLITS_BY)}, got {split_by!r}", arguments=("split_by",)
        )
    keys = (f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogateescape") for name in names)
    hashes = [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") for key in keys]
    return np.array(hashes, np.uint64) < np.uint64(fraction * 2**64)


def split_parts(part_of_row: Sequence[str] | np.ndarray) -> dict[str, np.ndarray]:
    """Returns the rows of each part.

    Args:
      part_of_row: the name of the part of each row.

    Example:
      >>> split_parts(["train", "test", "train"])["train"].tolist()
      [0, 2]
    """
    names = np.asarray(part_of_row)
    return {part: np.flatnonzero(names == part) for part in PARTS}
