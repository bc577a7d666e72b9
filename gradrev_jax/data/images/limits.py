"""Limits of what is read as an image: where its file may lie, and how many pixels it may have."""

import dataclasses

from gradrev_jax.errors import DataError

MEGAPIXEL = 10**6
LARGEST_IMAGE = 100.0  # in megapixels
# Pillow refuses larger images itself, in every format and also where the header says less than the content.
MOST_MEGAPIXELS = 178.95697


@dataclasses.dataclass(frozen=True)
class ImageLimits:
    """Represents which image files are read.

    Attributes:
      outside: whether paths may lead out of the catalogue's folder: by ``..``, as absolute paths, or by
        symbolic links.
      largest_image: the size of the largest image that is decoded, in megapixels.
    """

    outside: bool = False
    largest_image: float = LARGEST_IMAGE


DEFAULT_LIMITS = ImageLimits()


def check_pixels(size: tuple[int, int], largest_image: float) -> None:
    """Checks the size that the header of an image says, before its pixels are decoded.

    Args:
      size: the width and height, in pixels.
      largest_image: the size of the largest image that is decoded, in megapixels.

    Raises:
      DataError: the image is larger.

    Example:
      >>> check_pixels((2_000, 1_000), largest_image=2.0)
      >>> check_pixels((20_000, 10_000), largest_image=100.0)
      Traceback (most recent call last):
      gradrev_jax.errors.DataError: has 20,000 x 10,000 pixels, more than the 100 megapixels of \
`largest_image`; make it smaller, or raise the limit
    """
    width, height = size
    if width * height > largest_image * MEGAPIXEL:
        raise DataError(
            f"has {width:,} x {height:,} pixels, more than the {largest_image:g} megapixels of "
            "`largest_image`; make it smaller, or raise the limit",
            arguments=("largest_image",),
        )
