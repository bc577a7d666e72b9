"""Entries of the image cache that take rows from another entry."""

import contextlib
import os

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import progress
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.images import cache
from gradrev_jax.data.images.cache import cached_images
from gradrev_jax.data.images.cache_entries import PIXEL, build_entry, entries, remove
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.known_rows import EntryKind, find_known_rows
from gradrev_jax.errors import DataError

SIZE = Transform(size=24, resize=24)


@pytest.fixture
def files(tmp_path, rng):
    root = tmp_path / "images"
    root.mkdir()
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(root / f"{i}.jpg")
    return ImageFiles(root, tuple(f"{i}.jpg" for i in range(7)))


def cached(files, tmp_path, rows=None, **options):
    rows = np.arange(len(files)) if rows is None else rows
    options = {"progress": False, "transform": SIZE, **options}
    return cached_images(files, rows, cache_dir=tmp_path / "cache", **options)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded, of which one known image is enough for a comparison."""
    names, read = [], ImageFiles.read
    monkeypatch.setattr(cache, "CHECKED", 2)
    monkeypatch.setattr(ImageFiles, "read", lambda self, *a: names.append(self.paths[a[0]]) or read(self, *a))
    return names


def anew(files, tmp_path, rows):
    return cached_images(files, rows, SIZE, tmp_path / "other", progress=False).copy()


MORE = np.array([6, 0, 5, 1, 3, 2, 4, 3])  # in another order, with an image that is there twice


def test_images_of_another_entry_are_not_decoded_again(files, tmp_path, decoded):
    cached(files, tmp_path, np.arange(6))
    decoded.clear()
    images = cached(files, tmp_path, MORE)
    assert sorted(decoded) == ["0.jpg", "6.jpg"], "one is new, and one that is known is compared"
    np.testing.assert_array_equal(images, anew(files, tmp_path, MORE))
    assert len(names(tmp_path)) == 2
    decoded.clear()
    cached(files, tmp_path, np.array([4, 2, 5, 1]))
    assert len(decoded) == 2, "none is new"


@pytest.mark.parametrize("known", [[], [0, 2]])
def test_what_could_be_read_is_not_decoded_again_when_the_others_are_replaced(
    files, tmp_path, decoded, known
):
    cached(files, tmp_path, np.array(known, int))
    whole = (files.root / "5.jpg").read_bytes()
    (files.root / "5.jpg").write_bytes(whole[:-200])
    for _ in range(2):
        decoded.clear()
        with pytest.raises(DataError, match=r"(?s)^1 of 8 .* 5.jpg: image file is truncated"):
            cached(files, tmp_path, MORE)
    assert len(decoded) == 2, "the broken one is tried again, and one that is known is compared"
    (files.root / "5.jpg").write_bytes(whole)
    decoded.clear()
    np.testing.assert_array_equal(cached(files, tmp_path, MORE), anew(files, tmp_path, MORE))
    assert len(decoded[:-8]) == 2
    assert not [name for name in names(tmp_path) if name.endswith(".partial")]


def test_where_there_is_no_room_for_the_others_the_error_is_that_of_the_images(
    files, tmp_path, decoded, monkeypatch
):
    (files.root / "5.jpg").write_bytes(b"")
    built = []

    @contextlib.contextmanager
    def build_once(path, *arguments):
        built.append(path)
        if len(built) > 1:
            raise DataError("the disk is full")
        with build_entry(path, *arguments) as partial:
            yield partial

    monkeypatch.setattr(cache, "build_entry", build_once)
    with pytest.raises(DataError, match="5.jpg: the file is empty"):
        cached(files, tmp_path, MORE)
    assert len(built) == 2
    assert names(tmp_path) == []


def test_without_an_image_that_can_be_read_nothing_is_left(files, tmp_path):
    for name in files.paths:
        (files.root / name).write_bytes(b"")
    with pytest.raises(DataError, match="^7 of 7 "):
        cached(files, tmp_path)
    assert names(tmp_path) == []


def test_rows_come_from_the_entry_that_shares_most(files, tmp_path, decoded):
    for rows in ([0, 1, 2, 3, 4, 5], [0, 1, 2], [6]):
        cached(files, tmp_path, np.array(rows))
    decoded.clear()
    np.testing.assert_array_equal(cached(files, tmp_path, MORE), anew(files, tmp_path, MORE))
    assert len(decoded[:-8]) == 2


def rewrite(start, content):
    """Damages an entry from a position on, which counts from its end if it is negative."""

    def damage(path):
        whole = bytearray(path.read_bytes())
        start_at = start % len(whole)
        whole[start_at : start_at + len(content)] = content
        path.write_bytes(whole)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: os.truncate(path, path.stat().st_size - 1), id="half written"),
        pytest.param(
            lambda path: os.truncate(path, path.stat().st_size - 6 * 16), id="of an earlier version"
        ),
        pytest.param(rewrite(-1, b"!"), id="damaged digests"),
        pytest.param(rewrite(0, b"garbage"), id="damaged header"),
        pytest.param(rewrite(128, bytes(6 * 24 * 24 * 3)), id="other numbers"),
        pytest.param(lambda path: path.rename(path.with_suffix(".partial")), id="unfinished"),
        pytest.param(lambda path: path.rename(path.with_name("0" * 32 + ".npy")), id="of another kind"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a folder"),
    ],
)
def test_nothing_is_taken_from_an_entry_that_is_damaged_or_another_version(files, tmp_path, decoded, damage):
    cached(files, tmp_path, np.arange(6))
    (entry,) = (tmp_path / "cache").iterdir()
    damage(entry)
    decoded.clear()
    images = cached(files, tmp_path)
    assert set(decoded) == set(files.paths)
    np.testing.assert_array_equal(images, anew(files, tmp_path, np.arange(7)))


def test_nothing_is_taken_from_an_entry_of_another_transform_or_version(
    files, tmp_path, decoded, monkeypatch
):
    cached(files, tmp_path, np.arange(6), transform=Transform(size=24, resize=25))
    monkeypatch.setattr(cache, "CACHE_VERSION", b"an earlier version")
    cached(files, tmp_path, np.arange(6))
    monkeypatch.undo()
    assert len(names(tmp_path)) == 2
    np.testing.assert_array_equal(cached(files, tmp_path), anew(files, tmp_path, np.arange(7)))


def test_an_entry_of_an_earlier_version_is_found(files, tmp_path, monkeypatch):
    images = cached(files, tmp_path).copy()
    (entry,) = (tmp_path / "cache").iterdir()
    entry.unlink()
    with build_entry(entry, images.shape) as partial:  # without digests
        np.lib.format.open_memmap(partial, "r+")[:] = images
    monkeypatch.setattr(ImageFiles, "read", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(cached(files, tmp_path), images)


def test_room_is_made_before_rows_are_taken(files, tmp_path, decoded):
    cached(files, tmp_path, np.arange(6))
    decoded.clear()
    cached(files, tmp_path, limit=7 * (24 * 24 * 3 + 16) + 128)
    assert len(names(tmp_path)) == 1
    assert len(decoded) == 7, "what was removed is not read"


def test_how_many_images_are_known_is_said_with_the_progress_bars(
    files, tmp_path, decoded, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "can_draw", lambda: True)
    cached(files, tmp_path, np.arange(6))
    assert not capsys.readouterr().err
    cached(files, tmp_path, progress=True, description="gallery")
    said = capsys.readouterr().err
    assert "note: 6 of 7 images are in the cache (gallery)" in said
    assert "decoding gallery:   0%|          | 0/2 [" in said, "one is new, one is compared"
    for entry in (tmp_path / "cache").iterdir():
        rewrite(128, bytes(6 * 24 * 24 * 3))(entry)
    cached(files, tmp_path, np.arange(6)[::-1], progress=True, description="gallery")
    assert (
        "note: they are not what is computed here, so all are computed anew (gallery)"
        in capsys.readouterr().err
    )


def test_an_entry_stays_while_rows_are_taken_from_it(files, tmp_path):
    cached(files, tmp_path, np.arange(6))
    kind = EntryKind(cache.CACHE_VERSION, SIZE, (24, 24, 3), PIXEL)
    known = find_known_rows(tmp_path / "cache", kind, [files.digest(3), files.digest(6)])
    (entry,) = entries(tmp_path / "cache")
    used = entry.path.stat().st_mtime_ns
    assert not remove(entry)
    stored = np.zeros((2, 24, 24, 3), np.uint8)
    known.copy_to(stored)
    np.testing.assert_array_equal(stored[0], files.read(3, SIZE))
    assert not stored[1].any()
    assert entry.path.stat().st_mtime_ns == used, "that is no use of the entry"
    del known
    assert remove(entry)


def test_many_rows_are_copied_a_piece_at_a_time(files, tmp_path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.data.images.known_rows.COPIED_AT_ONCE", 2 * 24 * 24 * 3)
    cached(files, tmp_path, np.arange(6))
    np.testing.assert_array_equal(cached(files, tmp_path, MORE), anew(files, tmp_path, MORE))
