"""Represents the images of a catalogue whose content are vectors that came with it."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.vector_rows import Vectors


@dataclasses.dataclass(frozen=True)
class EmbeddedImages:
    """Represents images that are known by their vectors; their files are for pictures and may be missing.

    Attributes:
      images: the images, which give the names.
      vectors: the vectors of the images, in their order.

    Raises:
      ValueError: there are not as many vectors as images.
    """

    images: ImageSource
    vectors: Vectors

    def __post_init__(self) -> None:
        if len(self.images) != len(self.vectors):
            raise ValueError(f"{len(self.images)} images but {len(self.vectors)} vectors")

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        """Returns the name that the catalogue gives the image."""
        return self.images.name(row)

    def digest(self, row: int) -> bytes:
        """Returns the digest of the image's vector, so the file of the image may come, go or change."""
        return self.vectors.digest(row)

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Returns the image, for a picture of it.

        Raises:
          OSError, ValueError: the image cannot be read or decoded, or there is no file of it.
        """
        return self.images.read(row, transform)
