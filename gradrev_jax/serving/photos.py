"""Reads photographs that a person gives, and pictures of a gallery to show."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gradrev_jax.data.catalogue import ImageSource, Transform
from gradrev_jax.data.images.files import ImageFiles, decode_image, to_rgb, to_square
from gradrev_jax.data.images.limits import LARGEST_IMAGE, check_pixels
from gradrev_jax.data.images.metadata import turn_upright
from gradrev_jax.errors import DataError, first_line

MOST_BYTES = 100_000_000
WHITE = (255, 255, 255)
QUALITY = 88  # of JPEG files

Photo = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray


def read_photo(photo: Photo, size: int, largest_image: float = LARGEST_IMAGE) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes a photograph into the square that a network sees.

    Args:
      photo: the path of a file, its content, an open file, a Pillow image, or RGB pixels, uint8 [H, W, 3].
      size: the height and width of the square, in pixels.
      largest_image: the size of the largest photograph that is decoded, in megapixels.

    Raises:
      DataError: it is no image that can be read, or a larger one.

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
        with _naming("the image"):
            check_pixels(photo.size, largest_image)
            return to_square(photo, transform)
    if hasattr(photo, "read"):
        photo = photo.read(MOST_BYTES + 1)
    if not isinstance(photo, str | os.PathLike | bytes):
        raise DataError(f"a photograph is a path, an open file, bytes, an image or pixels; got {photo!r:.99}")
    content: bytes | pathlib.Path
    if isinstance(photo, bytes):
        content, name, count = photo, "the photograph", len(photo)
    else:
        content, name = pathlib.Path(photo), os.fspath(photo)
        try:
            if not content.is_file() and content.exists() and not content.is_dir():  # a pipe has no size
                with content.open("rb") as pipe:
                    content = pipe.read(MOST_BYTES + 1)
            count = len(content) if isinstance(content, bytes) else content.stat().st_size
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}") from error
    if not count:
        raise DataError(f"{name} is empty; give a file of an image")
    if count > MOST_BYTES:
        raise DataError(f"{name} has {count:,} bytes; at most {MOST_BYTES:,} are read")
    with _naming(name):
        return decode_image(content, transform, largest_image=largest_image)


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
    with _naming(source.name(row)):
        if isinstance(files, ImageFiles):
            path, largest = files.root / files.paths[row], files.largest_image
            pixels = decode_image(path, transform, _on_white_square, largest_image=largest)
        else:
            pixels = source.read(row, transform)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns the errors of decoding into a DataError that names the image."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name} {error}", arguments=error.arguments) from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise DataError(f"{name} is no image that can be read: {first_line(error).strip()}") from error


def _on_white_square(image: Image.Image) -> Image.Image:
    """Returns an image turned upright, in the middle of a white square."""
    upright = to_rgb(turn_upright(image))
    side = max(upright.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(upright, ((side - upright.width) // 2, (side - upright.height) // 2))
    return square
