"""Decodes image files, and turns any image into a square of RGB pixels."""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.formats import OF_OTHER_PROGRAMS, unreadable_format
from gradrev_jax.data.images.grey_levels import SIXTEEN_BITS, eight_bit_levels
from gradrev_jax.data.images.limits import LARGEST_IMAGE, check_pixels
from gradrev_jax.data.images.metadata import strip_metadata, turn_upright
from gradrev_jax.data.images.quiet_pillow import quiet_pillow
from gradrev_jax.files import HEAD

DEEP_GREYS = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of more than 8 bits
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # two tags of TIFF, and a value of the second


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Represents image files below a folder.

    Attributes:
      root: the folder.
      paths: the paths of the files, relative to the folder.
      largest_image: the size of the largest image that is decoded, in megapixels.
    """

    root: pathlib.Path
    paths: tuple[str, ...]
    largest_image: float = LARGEST_IMAGE

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """Returns the path of the file, as the catalogue gives it."""
        return self.paths[row]

    def digest(self, row: int) -> bytes:
        """Returns the digest of the file's bytes."""
        return hashlib.blake2b((self.root / self.paths[row]).read_bytes(), digest_size=16).digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Returns the image turned upright, in RGB, resized (bilinear, antialiased) and centre-cropped.

        Raises:
          OSError, ValueError: the file is missing, truncated, not an image or too large, or the meaning of
            its pixels is unclear.
        """
        path = self.root / self.paths[row]
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        return decode_image(path, transform, largest_image=self.largest_image)


def decode_image(
    file: pathlib.Path | bytes,
    transform: Transform,
    prepare: Callable[[Image.Image], Image.Image] = lambda image: image,
    *,
    largest_image: float = LARGEST_IMAGE,
) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes an image file into a square, whatever its metadata say.

    Args:
      file: the path of the file, or its content.
      transform: the transform from an image to a square.
      prepare: a function that is applied to the image first.
      largest_image: the size of the largest image that is decoded, in megapixels.

    Raises:
      DataError: the image is larger than that.
      OSError, ValueError: see ``ImageFiles.read``.
    """

    def attempt(source: pathlib.Path | io.BytesIO) -> np.ndarray:
        with _open_image(source) as image:
            check_pixels(image.size, largest_image)
            return to_square(prepare(image), transform)

    try:
        return attempt(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as error:  # decoders raise nearly anything on damaged files
        content = file if isinstance(file, bytes) else file.read_bytes()
        bare = strip_metadata(content)
        if bare != content:
            with contextlib.suppress(Exception):  # the first error is the one to report
                return attempt(io.BytesIO(bare))
        if isinstance(error, UnidentifiedImageError):
            raise ValueError(unreadable_format(content[:HEAD])) from error
        if isinstance(error, MemoryError):  # Pillow asks at once for as many bytes as a header claims
            raise ValueError("it claims to be larger than the memory") from error
        raise


@contextlib.contextmanager
def _open_image(file: pathlib.Path | io.BytesIO) -> Iterator[Image.Image]:
    """Yields a Pillow image, without warnings of damaged metadata or large sizes: only its pixels matter."""
    with quiet_pillow():
        Image.init()  # so that all formats are known, those of other packages too
        with Image.open(file, formats=[name for name in Image.ID if name not in OF_OTHER_PROGRAMS]) as image:
            yield image


def to_square(image: Image.Image, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
    """Returns an image turned upright, in RGB, resized (bilinear, antialiased) and centre-cropped.

    Args:
      image: the image.
      transform: the sizes before and after the crop.

    Raises:
      OSError, ValueError: the pixels cannot be decoded, or their meaning is unclear.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF; a converted image no longer has them
    pixels = turn_upright(image)
    if pixels.mode in DEEP_GREYS:
        pixels = _as_eight_bits(
            pixels,
            full_scale=2 ** tags[BITS_PER_SAMPLE][0] - 1 if pixels.mode == "I;16" and tags else SIXTEEN_BITS,
            inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO,
        )
    size = (transform.resize, transform.resize)
    resized = to_rgb(pixels).resize(size, Image.Resampling.BILINEAR)
    margin = (transform.resize - transform.size) // 2
    return np.asarray(resized)[margin : margin + transform.size, margin : margin + transform.size]


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of at most 8 bits per channel in RGB, with white behind transparent pixels."""
    return (_over_white(image) if image.has_transparency_data else image).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Returns an image over white; its copies, which may be large, go when the function ends."""
    over = image if image.mode == "RGBA" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)


def _as_eight_bits(image: Image.Image, *, full_scale: int, inverted: bool) -> Image.Image:
    """Returns a grey image of more than 8 bits in 8 bits, with transparent pixels in white."""
    grey = np.asarray(image)
    levels = eight_bit_levels(grey, full_scale)
    if inverted:
        levels = 255 - levels
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(grey == transparent, np.uint8(255), levels)
    return Image.fromarray(levels)
