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
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.files import ImageFiles
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
def test_images_are_decoded_in_order(files, tmp_path, transform, workers):
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


def test_no_rows_need_no_cache(files, tmp_path):
    assert cached(files, tmp_path, np.arange(0)).shape == (0, 24, 24, 3)
    assert not (tmp_path / "cache").exists()


def test_all_unreadable_images_are_named_at_once(files, tmp_path):
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
    (entry,) = names(tmp_path)
    assert np.load(tmp_path / "cache" / entry).shape == (4, 24, 24, 3)  # of the others
    (root / "5.jpg").unlink()
    with pytest.raises(DataError, match="5.jpg: No such file or directory"):
        cached(files, tmp_path)


def test_of_many_unreadable_images_ten_are_named(tmp_path):
    names = [*(f"{i:02}.jpg" for i in range(14)), "a%sb.jpg", "line\nend.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as error:
        cached(ImageFiles(tmp_path, tuple(names[::-1])), tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0] == "16 of 16 images cannot be read:"
    assert lines[1:3] == [r"  'line\nend.jpg': the file is empty", "  a%sb.jpg: the file is empty"]
    assert lines[10:12] == ["  06.jpg: the file is empty", "  and 6 more"]
    # The last is of photographs without a table, over which a model to share is opened.
    assert (
        lines[12]
        == "Replace these files, or take them out of the table, the lists or the folder that has them."
    )


def test_a_pointer_of_git_lfs_is_named(files, tmp_path):
    (files.root / "3.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(
        DataError, match=r"3\.jpg: is a Git LFS pointer, not the file itself; run `git lfs pull`"
    ):
        cached(files, tmp_path)


def test_a_truncated_entry_is_built_anew(files, tmp_path):
    before = cached(files, tmp_path).copy()
    (entry,) = (tmp_path / "cache").iterdir()
    os.truncate(entry, 500)
    np.testing.assert_array_equal(cached(files, tmp_path), before)
    assert names(tmp_path) == [entry.name]


def test_the_cache_keeps_below_its_limit_except_for_entries_in_use(files, tmp_path):
    size = 7 * (24 * 24 * 3 + 16) + 128  # pixels, digests and the header
    cached(files, tmp_path)
    cached(files, tmp_path, np.arange(7)[::-1], limit=2 * size)
    assert len(names(tmp_path)) == 2
    cached(files, tmp_path, transform=CROP, limit=2 * size)
    assert len(names(tmp_path)) == 2
    orders = ([0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 3, 4, 5, 6])
    images = [cached(files, tmp_path, np.array(order), limit=size) for order in orders]
    assert len(names(tmp_path)) == 2, "both are in use"
    assert (images[0][0] == images[1][1]).all()


def test_an_unreasonably_large_image_is_named(files, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        cached(files, tmp_path)


def test_a_cache_folder_that_cannot_be_written_to_is_named(files, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written to .*cache: File exists; set `cache_dir`"):
        cached(files, tmp_path)


def test_a_full_disk_says_how_much_is_needed(files, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"No space left on device; it needs 0\.\d MiB, [\d,]+ MiB are free"):
        cached(files, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("system", ["", "import os; del os.posix_fallocate; "], ids=["any", "macOS"])
def test_a_limit_of_the_system_on_the_file_size_is_reported(files, tmp_path, system):
    result = run(files, tmp_path, before=system + "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    assert "DataError" in result.stderr
    assert "File too large; it needs" in result.stderr
    assert names(tmp_path) == []


def script(files, tmp_path, before=""):
    body = f"""
        import pathlib, resource, time, numpy as np
        from gradrev_jax.data.catalogue import Transform
        from gradrev_jax.data.images.cache import cached_images
        from gradrev_jax.data.images.files import ImageFiles
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
    "ImageFiles.read = lambda *a: (print('decoding', flush=True), time.sleep(0.1), read(*a))[2]"
)


def test_a_killed_process_leaves_no_entry(files, tmp_path):
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
