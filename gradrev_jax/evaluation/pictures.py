"""The pictures of a gallery, for reports, also where the model does not see them."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from gradrev_jax.data.catalogue import ImageSource, Transform

LIGHT_GREY = 235  # the pixels of a picture that is not there; its name is written below it


@runtime_checkable  # beartype, which checks signatures in the tests, refuses a Protocol without it
class Pictures(Protocol):
    """Pictures by gallery row: an array of pixels, or ``FilePictures``."""

    def __getitem__(self, row: Any) -> np.ndarray:
        """Returns the picture of a row, uint8 [S, S, 3]."""
        ...


class FilePictures:
    """Represents pictures that are decoded when they are asked for, and may be missing.

    Args:
      images: all images of the catalogue.
      rows: the rows of the gallery among them, [G].
      transform: the transform from an image to a square.
    """

    def __init__(self, images: ImageSource, rows: Int[np.ndarray, " G"], transform: Transform) -> None:
        self._images, self._rows, self._transform = images, rows, transform

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "S S 3"]:
        """Returns the picture of a gallery row; a grey square if there is none that can be read."""
        try:
            return self._images.read(int(self._rows[row]), self._transform)
        except (OSError, ValueError):
            return np.full((self._transform.size, self._transform.size, 3), LIGHT_GREY, np.uint8)
