import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.files import ImageFiles, decode_image
from gradrev_jax.errors import DataError
from gradrev_jax.serving.photos import picture, read_photo

SIZE = Transform(16, 16)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width, height):
    """A PNG whose header says a size, and whose pixels are not there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_an_image_is_refused_by_its_header_before_a_pixel_is_decoded():
    with pytest.raises(DataError, match=r"has 12,000 x 10,000 pixels, more than the 100 megapixels of `la"):
        decode_image(png_of(12_000, 10_000), SIZE)


def test_the_limit_is_the_callers():
    with pytest.raises(DataError, match=r"more than the 0.01 megapixels") as error:
        decode_image(png_of(101, 100), SIZE, largest_image=0.01)
    assert error.value.arguments == ("largest_image",)
    file = io.BytesIO()
    Image.new("RGB", (100, 100)).save(file, "PNG")
    assert decode_image(file.getvalue(), SIZE, largest_image=0.01).shape == (16, 16, 3)


def test_an_image_that_is_too_large_is_named_with_the_argument(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(12_000, 10_000))
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    images = ImageFiles(tmp_path, ("good.png", "bomb.png"))
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read:\n  bomb.png: has 12,000 x") as error:
        cached_images(images, np.arange(2), SIZE, tmp_path / "cache", progress=False)
    assert error.value.arguments == ("largest_image",)
    with pytest.raises(DataError, match=r"^bomb.png has 12,000 x 10,000 pixels"):
        picture(images, 1, 32)
    small = ImageFiles(tmp_path, ("good.png",), largest_image=0.00005)
    with pytest.raises(DataError, match=re.escape("more than the 5e-05 megapixels")):
        small.read(0, SIZE)


def test_photographs_have_the_limit_in_every_form(tmp_path):
    image = Image.new("RGB", (40, 30))
    image.save(tmp_path / "photo.png")
    forms = [tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes(), image, np.asarray(image)]
    for form in forms:
        assert read_photo(form, 16, largest_image=0.0012).shape == (16, 16, 3)
        with pytest.raises(DataError, match=r"has 40 x 30 pixels, more than the 0.0011 megapixels"):
            read_photo(form, 16, largest_image=0.0011)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "is PostScript, a program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a document of Microsoft's"),
        (b"\xd7\xcd\xc6\x9a", "is a Windows metafile"),
    ],
)
def test_a_file_that_another_program_would_draw_is_refused_and_none_is_run(monkeypatch, start, message):
    def run(*arguments, **options):
        raise AssertionError(f"runs {arguments}")

    monkeypatch.setattr("subprocess.Popen", run)
    with pytest.raises(ValueError, match=message):
        decode_image(start + bytes(100), SIZE)


def test_a_format_that_another_package_registers_is_still_read(monkeypatch):
    """Registers a format, as pillow-heif does."""
    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID, "MINE"])
    made = lambda file, name: Image.new("RGB", (4, 4), "red")  # noqa: E731
    monkeypatch.setitem(Image.OPEN, "MINE", (made, lambda start: start.startswith(b"mine")))
    assert (decode_image(b"mine" + bytes(99), SIZE)[0, 0] == (255, 0, 0)).all()
