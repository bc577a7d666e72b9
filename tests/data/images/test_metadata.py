import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from gradrev_jax.data.images.metadata import EXIF, JPEG, PNG, strip_metadata, turn_upright

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6


def encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks):
    content = encoded("PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def segment(number, content):
    return bytes([0xFF, number]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize("orientation", range(10))
def test_it_turns_as_pillow_does(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(turn_upright(image)), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_turned_once(kind):
    with Image.open(io.BytesIO(encoded(kind, exif=TURNED))) as image:
        assert turn_upright(image).size == (5, 4)


@pytest.mark.parametrize("orientation", ["six", (6, 3), [6], b"\6"])
def test_an_orientation_that_is_not_a_number_is_ignored(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    assert turn_upright(image) is image


def test_pixels_that_cannot_be_decoded_are_an_error():
    with Image.open(io.BytesIO(encoded("JPEG")[:-40])) as image, pytest.raises(OSError, match="truncated"):
        turn_upright(image)


def test_chunks_of_pixels_and_intact_exif_data_stay_in_a_png():
    sound = png_with(chunk(b"tRNS", bytes(6)), chunk(b"eXIf", TURNED.tobytes()[6:]))
    described = png_with(
        chunk(b"tEXt", b"a\0b"),
        chunk(b"tRNS", bytes(6)),
        chunk(b"eXIf", b"broken", checksum=0),
        chunk(b"eXIf", TURNED.tobytes()[6:]),
        chunk(b"iCCP", b"x"),
    )
    assert strip_metadata(described) == sound
    assert strip_metadata(described + b"behind the end")[: len(sound)] == sound
    assert strip_metadata(sound) == sound


def test_of_a_jpeg_colours_and_exif_data_stay():
    content = encoded("JPEG", exif=TURNED)
    adobe = segment(0xEE, b"Adobe" + bytes(7))
    extra = segment(0xE2, b"ICC_PROFILE\0\1\1") + segment(0xFE, b"comment") + segment(0xEE, b"Adobe")
    assert strip_metadata(JPEG + adobe + extra + content[2:]) == JPEG + adobe + content[2:]
    assert EXIF in content
    assert b"JFIF" in encoded("JPEG")
    assert strip_metadata(encoded("JPEG")) == encoded("JPEG")


@pytest.mark.parametrize("content", [b"", b"GIF89a", JPEG, PNG, JPEG + b"\xff", JPEG + b"\0\xff\xe1\0\2"])
def test_other_contents_stay_unchanged(content):
    assert strip_metadata(content) == content


def test_any_cut_comes_to_an_end():
    for content in (encoded("PNG"), encoded("JPEG", exif=TURNED)):
        for length in range(len(content)):
            strip_metadata(content[:length])
