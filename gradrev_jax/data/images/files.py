"""Image files, and how any image becomes a square of RGB pixels."""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.formats import unreadable_format
from gradrev_jax.data.images.grey_levels import SIXTEEN_BITS, eight_bit_levels
from gradrev_jax.data.images.metadata import strip_metadata, turn_upright
from gradrev_jax.files import HEAD

DEEP_GREYS = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of more than 8 bits
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of the second


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder.

    Attributes:
      root: the folder.
      paths: of the files, relative to it.
    """

    root: pathlib.Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """Path of the file, as the catalogue gives it."""
        return self.paths[row]

    def digest(self, row: int) -> bytes:
        """Digest of the file's bytes."""
        return hashlib.blake2b((self.root / self.paths[row]).read_bytes(), digest_size=16).digest()

    def read(self, row: int, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
        """Decode, turn upright, convert to RGB, resize (bilinear, antialiased) and centre-crop.

        Raises:
          OSError, ValueError: the file is missing, truncated, no image, unreasonably large, or its pixels'
            meaning would be a guess.
        """
        path = self.root / self.paths[row]
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        return decode_image(path, transform)


def decode_image(
    file: pathlib.Path | bytes,
    transform: Transform,
    prepare: Callable[[Image.Image], Image.Image] = lambda image: image,
) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes an image file into a square, whatever its metadata say.

    Args:
      file: its path, or its content.
      transform: from image to square.
      prepare: what is done to the image before anything else.

    Raises:
      OSError, ValueError: see ``ImageFiles.read``.
    """

    def attempt(source: pathlib.Path | io.BytesIO) -> np.ndarray:
        with _opened(source) as image:
            return to_square(prepare(image), transform)

    try:
        return attempt(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as error:  # decoders raise nearly anything on damaged files
        content = file if isinstance(file, bytes) else file.read_bytes()
        bare = strip_metadata(content)
        if bare != content:
            with contextlib.suppress(Exception):  # then what was wrong at first is what is said
                return attempt(io.BytesIO(bare))
        if isinstance(error, UnidentifiedImageError):
            raise ValueError(unreadable_format(content[:HEAD])) from error
        raise


@contextlib.contextmanager
def _opened(file: pathlib.Path | io.BytesIO) -> Iterator[Image.Image]:
    """A Pillow image, without warnings: of damaged metadata and large sizes; what matters is the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            yield image


def to_square(image: Image.Image, transform: Transform) -> UInt8[np.ndarray, "S S 3"]:
    """Turned upright, in RGB, resized (bilinear, antialiased) and centre-cropped.

    Raises:
      OSError, ValueError: the pixels cannot be decoded, or what they mean would be a guess.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF; what is made of its image has none
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
    """An image of 8 bits a channel or fewer in RGB, transparency over white."""
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        image = Image.alpha_composite(white, over)
    return image.convert("RGB")


def _as_eight_bits(image: Image.Image, *, full_scale: int, inverted: bool) -> Image.Image:
    """A grey image of more than 8 bits in 8, what is transparent in white."""
    grey = np.asarray(image)
    levels = eight_bit_levels(grey, full_scale)
    if inverted:
        levels = 255 - levels
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(grey == transparent, np.uint8(255), levels)
    return Image.fromarray(levels)
