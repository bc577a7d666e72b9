import errno
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images import ImageFiles, cached_images
from gradrev_jax.errors import DataError

SIZE = Transform(size=24, resize=24)
CROP = Transform(size=24, resize=28)


def noise(seed, height=40, width=30, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for i in range(7):
        Image.fromarray(noise(i)).save(root / f"{i}.jpg")
    return ImageFiles(root, tuple(f"{i}.jpg" for i in range(7)))


def cached(source, tmp_path, rows=None, transform=SIZE, **options):
    rows = np.arange(len(source)) if rows is None else rows
    return cached_images(source, rows, transform, tmp_path / "cache", progress=False, **options)


def slow_read(path, transform):
    """Pillow by hand: resize, then cut the middle."""
    image = (
        Image.open(path)
        .convert("RGB")
        .resize((transform.resize, transform.resize), Image.Resampling.BILINEAR)
    )
    left = (transform.resize - transform.size) // 2
    return np.asarray(image.crop((left, left, left + transform.size, left + transform.size)))


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("transform", [SIZE, CROP])
@pytest.mark.parametrize("workers", [1, 3, None])
def test_order_and_content(files, tmp_path, transform, workers):
    rows = np.array([5, 0, 3, 6])
    images = cached(files, tmp_path, rows, transform, workers=workers)
    assert images.shape == (4, 24, 24, 3)
    assert images.dtype == np.uint8
    for row, image in zip(rows, images, strict=True):
        np.testing.assert_array_equal(image, slow_read(files.root / files.paths[row], transform))
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_decoded_once_and_found_again_after_a_move(files, tmp_path, monkeypatch):
    cached(files, tmp_path)
    moved = files.root.rename(tmp_path / "moved")
    monkeypatch.setattr(ImageFiles, "read", lambda *_: pytest.fail("decoded again"))
    cached(ImageFiles(moved, files.paths), tmp_path)
    assert len(names(tmp_path)) == 1


def test_another_content_order_or_transform_is_another_entry(files, tmp_path):
    cached(files, tmp_path)
    cached(files, tmp_path, np.arange(7)[::-1])
    cached(files, tmp_path, transform=CROP)
    assert len(names(tmp_path)) == 3
    before = cached(files, tmp_path)[2].copy()
    Image.fromarray(noise(99)).save(files.root / "2.jpg")
    assert (cached(files, tmp_path)[2] != before).any()
    assert len(names(tmp_path)) == 4


def test_no_rows(files, tmp_path):
    assert cached(files, tmp_path, np.arange(0)).shape == (0, 24, 24, 3)
    assert not (tmp_path / "cache").exists()


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
def test_what_can_be_read_is_read(tmp_path, name):
    READABLE[name](tmp_path / name)
    image = cached(ImageFiles(tmp_path, (name,)), tmp_path)[0]
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


def test_all_unreadable_images_are_named_at_once_and_nothing_is_left(files, tmp_path):
    root = files.root
    (root / "1.jpg").write_bytes(b"")
    content = (root / "2.jpg").read_bytes()
    (root / "2.jpg").write_bytes(content[: len(content) // 2])
    (root / "4.jpg").write_text("not an image")
    with pytest.raises(DataError) as error:
        cached(files, tmp_path)
    message = str(error.value)
    assert message.startswith("3 of 7 images cannot be read:")
    assert "1.jpg: the file is empty" in message
    assert "2.jpg: image file is truncated" in message
    assert "4.jpg: cannot identify image file" in message
    assert names(tmp_path) == []
    (root / "5.jpg").unlink()
    with pytest.raises(DataError, match="5.jpg: No such file or directory"):
        cached(files, tmp_path)


def test_an_unreasonably_large_image_is_named(files, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        cached(files, tmp_path)


def test_a_cache_folder_that_cannot_be_written_to(files, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written to .*cache: File exists; set data.cache_dir"):
        cached(files, tmp_path)


def test_a_full_disk_says_how_much_is_needed(files, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"No space left on device; it needs 0\.\d MiB, [\d,]+ MiB are free"):
        cached(files, tmp_path)
    assert names(tmp_path) == []


def test_a_real_limit_on_the_file_size(files, tmp_path):
    result = run(files, tmp_path, before="resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    assert "DataError" in result.stderr
    assert "File too large; it needs" in result.stderr
    assert names(tmp_path) == []


def script(files, tmp_path, before=""):
    body = f"""
        import pathlib, resource, time, numpy as np
        from gradrev_jax.data.catalogue import Transform
        from gradrev_jax.data.images import ImageFiles, cached_images
        source = ImageFiles(pathlib.Path({str(files.root)!r}), {files.paths!r})
        {before}
        cache = pathlib.Path({str(tmp_path / "cache")!r})
        images = cached_images(source, np.arange(7), Transform(24, 24), cache, workers=1, progress=False)
        print(int(images.sum()))
    """
    return [sys.executable, "-c", textwrap.dedent(body)]


def run(files, tmp_path, before=""):
    return subprocess.run(script(files, tmp_path, before), capture_output=True, text=True)


SLOW = (
    "read = ImageFiles.read; "
    "ImageFiles.read = lambda *a: (print('decoding', flush=True), time.sleep(0.2), read(*a))[2]"
)


def test_a_killed_process_leaves_nothing_that_is_taken_for_a_cache(files, tmp_path):
    process = subprocess.Popen(script(files, tmp_path, SLOW), stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [pathlib.Path(name).suffix for name in names(tmp_path)] == [".lock", ".partial"]
    images = cached(files, tmp_path)
    np.testing.assert_array_equal(images[3], slow_read(files.root / "3.jpg", SIZE))
    assert [pathlib.Path(name).suffix for name in names(tmp_path)] == [".npy"]


def test_two_processes_build_an_entry_once(files, tmp_path):
    processes = [
        subprocess.Popen(script(files, tmp_path, SLOW), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert sum(output.count("decoding") for output in outputs) == 7
    sums = {output.split()[-1] for output in outputs}
    assert sums == {str(int(cached(files, tmp_path).sum()))}
    assert [pathlib.Path(name).suffix for name in names(tmp_path)] == [".npy"]


def test_an_interrupt_cleans_up(files, tmp_path):
    # A process started in the background of a script ignores SIGINT: this one must not inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        script(files, tmp_path, heed + SLOW), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert names(tmp_path) == []
