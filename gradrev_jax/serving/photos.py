"""Reads photographs that a person gives, and pictures of a gallery to show."""

import io
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.files import ImageFiles, decode_image, to_rgb, to_square
from gradrev_jax.data.images.metadata import turn_upright
from gradrev_jax.errors import DataError, first_line

MOST_PIXELS = 50_000_000  # of a photograph; more is taken for an attack, or a mistake
MOST_BYTES = 100_000_000
WHITE = (255, 255, 255)
QUALITY = 88  # of JPEG files

Photo = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


def read_photo(photo: Photo, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes a photograph into the square that a network sees.

    Args:
      photo: the path of a file, its content, a Pillow image, or RGB pixels, uint8 [H, W, 3].
      size: the height and width of the square, in pixels.

    Raises:
      DataError: it is no image that can be read, or an unreasonably large one.

    Example:
      >>> read_photo(np.zeros((30, 20, 3), np.uint8), 16).shape
      (16, 16, 3)
    """
    transform = Transform(size, size)
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise DataError(
                f"the pixels of a photograph must be uint8 [H, W, 3], got {photo.dtype} {photo.shape}"
            )
        photo = Image.fromarray(photo)
    if isinstance(photo, Image.Image):
        return _decoded(lambda: to_square(_of_allowed_size(photo), transform), "the image")
    content: bytes | pathlib.Path
    if isinstance(photo, bytes):
        content, name, count = photo, "the photograph", len(photo)
    else:
        content, name = pathlib.Path(photo), os.fspath(photo)
        try:
            count = content.stat().st_size
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}") from error
    if not count:
        raise DataError(f"{name} is empty; give a file of an image")
    if count > MOST_BYTES:
        raise DataError(f"{name} has {count:,} bytes; at most {MOST_BYTES:,} are read")
    return _decoded(lambda: decode_image(content, transform, _of_allowed_size), name)


def picture(source: ImageSource, row: int, size: int) -> bytes:
    """Returns a picture of an image to look at, as a JPEG file; its sides keep their ratio, on white.

    Args:
      source: the images of a catalogue.
      row: the image.
      size: the height and width of the picture, in pixels.

    Raises:
      DataError: the image cannot be read.
    """
    transform = Transform(size, size)
    files = getattr(source, "images", source)  # what has vectors beside it wraps them
    if isinstance(files, ImageFiles):
        path = files.root / files.paths[row]
        pixels = _decoded(lambda: decode_image(path, transform, _on_white_square), files.name(row))
    else:
        pixels = _decoded(lambda: source.read(row, transform), source.name(row))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _decoded(decode: Any, name: str) -> UInt8[np.ndarray, "S S 3"]:
    """Returns what a function decodes; its errors name the image."""
    try:
        return np.asarray(decode())
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise DataError(f"{name} is no image that can be read: {first_line(error).strip()}") from error


def _of_allowed_size(image: Image.Image) -> Image.Image:
    """Returns an image whose pixels are few enough to be decoded.

    Raises:
      DataError: they are not.
    """
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(
            f"the photograph has {width} x {height} pixels, more than {MOST_PIXELS:,}; make it smaller"
        )
    return image


def _on_white_square(image: Image.Image) -> Image.Image:
    """Returns an image turned upright, in the middle of a white square."""
    upright = to_rgb(turn_upright(_of_allowed_size(image)))
    side = max(upright.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(upright, ((side - upright.width) // 2, (side - upright.height) // 2))
    return square
