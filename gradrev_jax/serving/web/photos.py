"""Photographs that people bring: checked before they are decoded, and kept in memory for a while."""

import io
import secrets
from typing import Any

from PIL import Image

from gradrev_jax.data.images.formats import unreadable_format
from gradrev_jax.data.images.metadata import strip_metadata
from gradrev_jax.errors import DataError
from gradrev_jax.files import HEAD
from gradrev_jax.search.recent import Recent
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.refusals import Refused
from gradrev_jax.serving.web.shop import Shop

# The formats that cameras, telephones and browsers write: JPEG with MPO, which is a JPEG with more behind it.
# Pillow reads many more, some by other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
TOO_MANY_PIXELS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class Photos:
    """Holds the items of photographs, the most recently used ones; never their pixels, and never on disk.

    Args:
      shop: the retriever that makes an item of a photograph.
      limits: the limits of one photograph, and the number of those kept.
    """

    def __init__(self, shop: Shop, limits: Limits) -> None:
        self._shop, self._limits = shop, limits
        self._items = Recent[str, Any](limits.photos)

    def add(self, content: bytes) -> tuple[str, Any]:
        """Decodes a photograph; returns its id, which cannot be guessed, and its item.

        Raises:
          Refused: it is no image of a known format, or has too many pixels.
        """
        limits = self._limits
        if len(content) > limits.photo_bytes:
            raise Refused(f"the photograph is too long; send at most {limits.photo_bytes:,} bytes", 413)
        check_photo(content, limits.photo_pixels)
        try:
            item = self._shop.photo(content)
        except DataError as error:
            raise Refused(str(error)) from error
        name = secrets.token_urlsafe(12)
        self._items.put(name, item)
        return name, item

    def get(self, name: str) -> Any:
        """Returns the item of a photograph.

        Raises:
          Refused: there is none of this id, or no longer.
        """
        item = self._items.get(name)
        if item is None:
            raise Refused("this photograph is no longer kept; send it again", 404)
        return item


def check_photo(content: bytes, most_pixels: int) -> None:
    """Refuses what is no photograph or has too many pixels, by its head alone: nothing is decoded.

    Args:
      content: the content of the file.
      most_pixels: the number of pixels that it may have.

    Raises:
      Refused: the file is empty, of no known format, or too large.

    Example:
      >>> check_photo(b"", 1000)
      Traceback (most recent call last):
      gradrev_jax.serving.web.refusals.Refused: the photograph is empty; choose another file
    """
    if not content:
        raise Refused("the photograph is empty; choose another file")
    try:
        sizes = [size for file in {content, strip_metadata(content)} if (size := _size(file))]
    except TOO_MANY_PIXELS as error:  # which does not say how many
        raise Refused(
            f"the photograph has more pixels than can be read; send one of at most "
            f"{most_pixels / 1e6:g} megapixels",
            413,
        ) from error
    if not sizes:
        what = unreadable_format(content[:HEAD]).replace("cannot identify image file", "is no image", 1)
        raise Refused(f"the photograph {what}")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > most_pixels:
        raise Refused(
            f"the photograph has {width:,} x {height:,} pixels; send one of at most "
            f"{most_pixels / 1e6:g} megapixels",
            413,
        )


def _size(content: bytes) -> tuple[int, int] | None:
    """Returns the width and height that the head of an image says; None if it cannot be read."""
    Image.init()  # without which only some formats are known
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(content), formats=known) as image:
            return image.size
    except TOO_MANY_PIXELS:
        raise
    except Exception:  # decoders raise nearly anything on damaged files
        return None
