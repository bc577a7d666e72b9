import io
import os
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, features

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images.files import ImageFiles, decode_image, to_square

SIZE = Transform(size=24, resize=24)


def noise(seed, height=40, width=30, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_exif_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright only after a quarter turn clockwise
    Image.fromarray(noise(0)).save(path, quality=100, subsampling=0, exif=exif)


def save_palette_with_transparency(path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.info["transparency"] = 1
    image.putpixel((0, 0), 0)
    image.save(path, transparency=1)


READABLE = {
    "grey.jpg": lambda path: Image.fromarray(noise(0, channels=1)).save(path),
    "grey_alpha.png": lambda path: Image.fromarray(noise(0)).convert("LA").save(path),
    "cmyk.jpg": lambda path: Image.fromarray(noise(0)).convert("CMYK").save(path),
    "palette.png": lambda path: Image.fromarray(noise(0)).quantize(16).save(path),
    "rgba.png": lambda path: Image.fromarray(noise(0, channels=4)).save(path),
    "bits.png": lambda path: Image.fromarray(noise(0, channels=1)).convert("1").save(path),
    "one_pixel.png": lambda path: Image.new("RGB", (1, 1), (10, 20, 30)).save(path),
    "animated.gif": lambda path: Image.fromarray(noise(0)).save(
        path, save_all=True, append_images=[Image.fromarray(noise(1))]
    ),
    "webp.webp": lambda path: Image.fromarray(noise(0)).save(path),
    "exif.jpg": save_exif_rotated,
    "transparent.png": save_palette_with_transparency,
}


@pytest.mark.parametrize("name", READABLE)
def test_usual_files_are_decoded(tmp_path, name):
    READABLE[name](tmp_path / name)
    image = ImageFiles(tmp_path, (name,)).read(0, SIZE)
    assert image.shape == (24, 24, 3)
    if name == "one_pixel.png":
        assert (image == [10, 20, 30]).all()
    elif name != "transparent.png":
        assert image.std() > 0
    if name.startswith("grey"):
        assert (image == image[..., :1]).all()


def test_transparency_lies_over_white(tmp_path):
    save_palette_with_transparency(tmp_path / "t.png")
    image = ImageFiles(tmp_path, ("t.png",)).read(0, Transform(8, 8))
    assert image[0, 0].tolist() == [255, 0, 0]
    assert (image[4, 4] == 255).all()


def test_sixteen_bit_greys_are_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(256, axis=0)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    image = ImageFiles(tmp_path, ("deep.png",)).read(0, Transform(256, 256))
    np.testing.assert_allclose(image[0, :, 0], np.arange(256), atol=1)


def test_exif_orientation_is_applied(tmp_path):
    save_exif_rotated(tmp_path / "e.jpg")
    plain = ImageFiles(tmp_path, ("e.jpg",)).read(0, Transform(24, 24)).astype(int)
    rotated = Image.fromarray(noise(0)).rotate(-90, expand=True).resize((24, 24), Image.Resampling.BILINEAR)
    assert np.abs(plain - np.asarray(rotated)).mean() < 5
    assert np.abs(plain - np.asarray(Image.fromarray(noise(0)).resize((24, 24)))).mean() > 10


def read(content, size=24):
    return decode_image(content, Transform(size, size))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_with(kind, content, checksum=None):
    """A PNG of noise, with a chunk before its pixels."""
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    whole = encoded(Image.fromarray(noise(0)), "PNG")
    return whole[:33] + chunk + whole[33:]


def jpeg_with(marker, content):
    """A JPEG of noise, with a segment before its others."""
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    whole = encoded(Image.fromarray(noise(0)), "JPEG")
    return whole[:2] + segment + whole[2:]


HEX = b"\nexif\n      10\nzzxxyy\n"
DAMAGED = {
    "PNG, raw profile, text": png_with(b"tEXt", b"Raw profile type exif\0" + HEX),
    "PNG, raw profile, packed": png_with(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX)),
    "PNG, Exif": png_with(b"eXIf", b"\xff" * 20),
    "PNG, ICC": png_with(b"iCCP", b"x"),
    "PNG, ICC not packed": png_with(b"iCCP", b"x\0\0none"),
    "PNG, text of a mebibyte and more": png_with(b"zTXt", b"c\0\0" + zlib.compress(bytes(2_000_000))),
    "PNG, text packed in an unknown way": png_with(b"zTXt", b"c\0\7abc"),
    "PNG, checksum of a text": png_with(b"tEXt", b"c\0abc", checksum=1),
    "PNG, resolution": png_with(b"pHYs", b"\1"),
    "PNG, colours": png_with(b"cHRM", b"\1\2"),
    "PNG, gamma": png_with(b"gAMA", b"\1"),
    "PNG, rendering": png_with(b"sRGB", b""),
    "PNG, animation": png_with(b"acTL", b"\1"),
    "JPEG, Exif": jpeg_with(0xE1, b"Exif\0\0" + b"\xff" * 40),
    "JPEG, Exif cut short": jpeg_with(0xE1, b"Exif\0\0MM\0*\0\0"),
    "JPEG, ICC": jpeg_with(0xE2, b"ICC_PROFILE\0\5\2"),
    "JPEG, several pictures": jpeg_with(0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"),
    "JPEG, header": jpeg_with(0xE0, b"JFIF\0"),
    "JPEG, Adobe": jpeg_with(0xEE, b"Adobe\0"),
    "JPEG, comment": jpeg_with(0xFE, b"\xff\xfe\0"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_pixels_are_read_whatever_the_metadata_say(damage):
    sound = encoded(Image.fromarray(noise(0)), damage.split(",")[0])
    np.testing.assert_array_equal(read(DAMAGED[damage]), read(sound))


def test_damaged_metadata_of_a_webp():
    image = Image.fromarray(noise(0))
    damaged = encoded(image, "WEBP", exif=b"Exif\0\0" + b"\xff" * 20, icc_profile=b"none")
    np.testing.assert_array_equal(read(damaged), read(encoded(image, "WEBP")))


def test_an_orientation_beside_damage_is_heeded(tmp_path):
    save_exif_rotated(tmp_path / "e.jpg")
    sound = (tmp_path / "e.jpg").read_bytes()
    damaged = sound[:2] + b"\xff\xee\0\x08Adobe\0" + sound[2:]
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(damaged))
    np.testing.assert_array_equal(read(damaged), read(sound))


def test_damage_to_the_pixels_is_named_even_beside_damaged_metadata():
    damaged = bytearray(jpeg_with(0xE1, b"Exif\0\0" + b"\xff" * 40))
    with pytest.raises(OSError, match="truncated"):
        read(bytes(damaged[:-200]))
    with pytest.raises(
        ValueError, match="Truncated tRNS chunk|cannot identify image file"
    ):  # before Pillow 13
        read(png_with(b"tRNS", b"\1"))
    broken = bytearray(png_with(b"pHYs", b"\1"))
    broken[-40] ^= 1
    with pytest.raises(ValueError, match="Truncated pHYs chunk"):
        read(bytes(broken))


def test_an_image_that_claims_more_than_the_memory_is_refused():
    def fill_memory(image):
        raise MemoryError

    with pytest.raises(ValueError, match="it claims to be larger than the memory"):
        decode_image(png_with(b"tIME", b""), SIZE, fill_memory)


GREY = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)


@pytest.mark.parametrize(
    "deep",
    [
        (GREY / 255).astype(np.float32),
        GREY.astype(np.float32),
        GREY.astype(np.uint16) * 257,
        GREY.astype(np.int32) * 257,
    ],
    ids=["fractions", "float levels", "16 bits", "32 bits"],
)
def test_deep_greys_are_read_where_their_meaning_is_plain(deep):
    image = read(encoded(Image.fromarray(deep), "TIFF"))
    np.testing.assert_array_equal(image, GREY[..., None].repeat(3, axis=-1))


@pytest.mark.parametrize(
    ("deep", "message"),
    [
        (GREY.astype(np.uint16), "black throughout"),
        (GREY.astype(np.int32), "black throughout"),
        (GREY.astype(np.int32) - 100, "clear meaning"),
        (GREY.astype(np.float32) / 127.5 - 1, "clear meaning"),
    ],
)
def test_deep_greys_whose_meaning_would_be_a_guess_are_refused(deep, message):
    with pytest.raises(ValueError, match=message):
        read(encoded(Image.fromarray(deep), "TIFF"))


def test_twelve_bits_of_a_tiff_are_scaled():
    samples = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    first, second = samples[:, ::2], samples[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    content = tiff(packed.tobytes(), side=16, bits=12, photometric=1)
    np.testing.assert_array_equal(read(content, 16)[..., 0], samples.astype(int) * 255 // 4095)


def test_sixteen_bits_of_a_tiff_whose_white_is_0():
    deep = GREY.astype("<u2") * 257
    content = tiff(deep.tobytes(), side=24, bits=16, photometric=0)
    np.testing.assert_array_equal(read(content)[..., 0], 255 - GREY)


def tiff(pixels, *, side, bits, photometric):
    """An uncompressed grey TIFF, by hand: Pillow writes none like these."""
    tags = {
        256: side,
        257: side,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: side,
        279: len(pixels),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def test_a_transparent_sixteen_bit_grey_lies_over_white():
    deep = GREY.astype(np.uint16) * 257
    deep[0, 0], deep[0, 1] = 12345, 12346
    whole = encoded(Image.fromarray(deep), "PNG")
    key = b"tRNS" + struct.pack(">H", 12345)
    chunk = struct.pack(">I", 2) + key + struct.pack(">I", zlib.crc32(key))
    image = read(whole[:33] + chunk + whole[33:])
    assert image[0, :2, 0].tolist() == [255, 12346 // 257]


OLD_PILLOW = int(PIL.__version__.partition(".")[0]) < 13
YCBCR = pytest.param("YCbCr", marks=pytest.mark.skipif(OLD_PILLOW, reason="Pillow reads these from 13.0 on"))


@pytest.mark.parametrize("mode", ["LAB", YCBCR, "CMYK", "RGBX"])
def test_other_ways_to_code_colours(mode):
    image = Image.fromarray(noise(0))
    other = read(encoded(image.convert(mode), "TIFF")).astype(int)
    assert np.abs(other - read(encoded(image, "PNG"))).mean() < 3


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "RGBa"])
def test_all_ways_to_be_transparent(mode):
    assert (to_square(Image.new(mode, (24, 24)), SIZE) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_pictures_the_first_is_read(kind):
    first, second = Image.new("RGB", (24, 24), (250, 0, 0)), Image.new("RGB", (24, 24), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read(encoded(first, kind, save_all=True, append_images=[second], **options)).astype(int)
    assert np.abs(image - [250, 0, 0]).max() < 5


def test_a_progressive_jpeg_with_a_wrong_suffix_is_decoded(tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "p.png", "JPEG", progressive=True)
    np.testing.assert_array_equal(
        ImageFiles(tmp_path, ("p.png",)).read(0, SIZE), read((tmp_path / "p.png").read_bytes())
    )


@pytest.mark.parametrize("shape", [(1, 300), (300, 1)])
def test_an_image_one_pixel_wide_is_decoded(shape):
    assert read(encoded(Image.new("RGB", shape, (1, 2, 3)), "PNG"))[5, 5].tolist() == [1, 2, 3]


def test_a_file_that_is_not_an_image_is_named():
    with pytest.raises(ValueError, match="is an HTML page, not an image"):
        read(b"<!DOCTYPE html><title>Not found</title>")
    with pytest.raises(ValueError, match="is a Git LFS pointer, .* run `git lfs pull`"):
        read(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def test_avif_is_named_if_pillow_cannot_read_it(monkeypatch):
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"])
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(ValueError, match="is AVIF, which this Pillow does not read"):
        read(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_that_is_cut_short_is_named_as_damaged():
    """The advice was to install the Pillow that was there."""
    content = encoded(Image.fromarray(noise(0)), "AVIF")
    for length in (32, 60, 200):
        with pytest.raises(ValueError, match="is AVIF, damaged or cut short; fetch the image again"):
            read(content[:length])


def test_folders_and_links_named_like_images_are_errors(tmp_path):
    (tmp_path / "d.jpg").mkdir()
    os.symlink("l.jpg", tmp_path / "l.jpg")
    for name, message in (("d.jpg", "Is a directory"), ("l.jpg", "Too many levels")):
        files = ImageFiles(tmp_path, (name,))
        with pytest.raises(OSError, match=message):
            files.digest(0)
        with pytest.raises(OSError, match=message):
            files.read(0, SIZE)
