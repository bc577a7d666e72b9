"""Makes images with damaged metadata readable if their pixels are intact."""

import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# Chunks of a PNG that decide about its pixels; all others only describe it.
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Segments of a JPEG that only describe it: APP0 to APP15 and comments ...
DESCRIPTIONS = (*range(0xE0, 0xF0), 0xFE)
# ... except those that say how colours are coded: start of the content -> its least length.
COLOR_SEGMENTS = {b"JFIF\0": 14, b"Adobe": 12}
EXIF, START_OF_SCAN = b"Exif\0\0", b"\xff\xda"

UPRIGHT = 1
# Every other orientation of Exif -> the operation that turns the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(image: Image.Image) -> Image.Image:
    """Turns an image as its Exif data say; returns it unchanged if these cannot be read.

    ``PIL.ImageOps.exif_transpose`` does the same, but raises an error if the metadata are damaged.

    Raises:
      OSError, ValueError: the pixels cannot be decoded.

    Example:
      >>> image = Image.new("RGB", (2, 1))
      >>> image.getexif()[ExifTags.Base.Orientation] = 6
      >>> turn_upright(image).size
      (1, 2)
    """
    image.load()  # the orientation may follow the pixels in the file
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # parsers of metadata raise nearly anything on damaged ones
        return image
    return image if turn is None else image.transpose(turn)


def strip_metadata(content: bytes) -> bytes:
    r"""Removes the parts of a PNG or JPEG that only describe it, except intact Exif data for the orientation.

    Pillow refuses a file if any part of it is damaged. The content of the removed parts is lost.

    Args:
      content: the content of an image file.

    Returns:
      The content without these parts; unchanged if it is of another format, or so damaged that its parts
      cannot be told apart.

    Example:
      >>> strip_metadata(JPEG + b"\xff\xfe\0\4hi" + b"\xff\xda pixels")
      b'\xff\xd8\xff\xda pixels'
    """
    if content.startswith(PNG):
        return PNG + b"".join(chunk for chunk in _png_chunks(content) if _matters(chunk))
    if content.startswith(JPEG):
        return JPEG + b"".join(_jpeg_segments(content))
    return content


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yields the chunks of a PNG, each with length, type, content and checksum; the last may be truncated."""
    start = len(PNG)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        yield content[start:end]
        start = end


def _matters(chunk: bytes) -> bool:
    kind = chunk[4:8]
    whole = chunk[-4:] == zlib.crc32(chunk[4:-4]).to_bytes(4, "big")
    return kind in PIXEL_CHUNKS or (kind == b"eXIf" and whole)


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """Yields the segments that matter, then everything from the scan, or from the first damage, on."""
    start = len(JPEG)
    while len(marker := content[start : start + 2]) == 2 and marker[0] == 0xFF and marker != START_OF_SCAN:
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        body = content[start + 4 : end]
        tells_colors = any(body.startswith(name) and len(body) >= n for name, n in COLOR_SEGMENTS.items())
        if marker[1] not in DESCRIPTIONS or tells_colors or body.startswith(EXIF):
            yield content[start:end]
        start = end
    yield content[start:]
