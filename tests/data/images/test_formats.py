import pytest
from PIL import features

from gradrev_jax.data.images.formats import unreadable_format


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, .* pillow-heif reads it"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "is HEIC, .* convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "is a camera's raw file"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isom", "is a video, or an image that Pillow does not read"),
        (b"\xff\x0a\xfa\x7f", "is JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip"),
        (b"\n <!DOCTYPE HTML>\n<html>", "is an HTML page"),
        (b"\xef\xbb\xbf<html lang=en>", "is an HTML page"),
        (b"<svg xmlns=", "is an SVG drawing"),
        (b"<?xml version='1.0'?><Error>", "is XML, an SVG drawing or a server's error message"),
        (b'{"error": 404}', "is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, .* `git lfs pull`"),
        (bytes(64), "holds only zero bytes"),
        (b"garbage", "cannot identify image file: it begins with b'garbage'"),
    ],
)
def test_files_that_pillow_cannot_open_are_named_with_advice(start, message):
    from re import fullmatch

    assert fullmatch(f"{message}.*", unreadable_format(start))


@pytest.mark.parametrize("brand", [b"avif", b"avis"])
def test_a_newer_pillow_is_advised_only_where_it_reads_more(monkeypatch, brand):
    start = b"\0\0\0\x1cftyp" + brand + b"\0\0\0\0avifmif1"
    monkeypatch.setattr(features, "check", lambda feature: True)
    assert unreadable_format(start).startswith("is AVIF, damaged or cut short; fetch the image again")
    monkeypatch.setattr(features, "check", lambda feature: False)
    assert "install Pillow 11.3 or newer with AVIF" in unreadable_format(start)
