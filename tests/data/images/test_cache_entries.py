import errno
import os
import time

import numpy as np
import pytest

from gradrev_jax.data.images.cache_entries import (
    Entry,
    build_entry,
    describe,
    entries,
    make_room,
    map_entry,
    remove,
)
from gradrev_jax.data.images.file_locks import hold_lock
from gradrev_jax.errors import DataError

SHAPE = (2, 3, 3, 3)
SIZE = 128 + 54  # of an entry of that shape


def name(number):
    return f"{number:032x}"


def build(folder, number, *, used=None, limit=None):
    path = folder / f"{name(number)}.npy"
    with build_entry(path, SHAPE, limit) as partial:
        np.lib.format.open_memmap(partial, "r+")[:] = number
    if used is not None:
        os.utime(path, (used, used))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_entry_is_mapped_as_it_was_written(tmp_path):
    path = build(tmp_path / "cache", 7)
    images = map_entry(path, SHAPE)
    assert images.shape == SHAPE
    assert (images == 7).all()
    np.testing.assert_array_equal(np.load(path), images)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_mapping_marks_it_as_used(tmp_path):
    path = build(tmp_path, 1, used=1000)
    map_entry(path, SHAPE)
    assert time.time() - path.stat().st_mtime < 60


def save(array):
    return lambda path: np.save(path, array)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b"garbage" * 30),
        lambda path: path.write_bytes(path.read_bytes().replace(b"}", b"{")),  # found by fuzzing
        lambda path: path.write_bytes(path.read_bytes().replace(b"'shape", b"'''shape")),
        lambda path: path.unlink(),
        save(np.zeros(SHAPE, np.float32)),
        save(np.zeros(SHAPE, np.int8)),
        save(np.zeros((3, 2, 3, 3), np.uint8)),
        save(np.asfortranarray(np.zeros(SHAPE, np.uint8))),
        save(np.array([{}], object)),
    ],
)
def test_a_damaged_entry_is_built_anew(tmp_path, damage):
    path = build(tmp_path, 1)
    damage(path)
    assert map_entry(path, SHAPE) is None
    build(tmp_path, 1)
    assert (map_entry(path, SHAPE) == 1).all()
    assert names(tmp_path) == [path.name]


def test_an_entry_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / f"{name(1)}.npy").mkdir()
    with pytest.raises(DataError, match=rf"{name(1)}\.npy cannot be read: Is a directory; remove it, or set"):
        map_entry(tmp_path / f"{name(1)}.npy", SHAPE)


def test_entries_unused_for_longest_are_removed_first(tmp_path):
    paths = [build(tmp_path, number, used=used) for number, used in ((1, 2000), (2, 1000), (3, 3000))]
    assert [entry.path for entry in entries(tmp_path)] == [paths[1], paths[0], paths[2]]
    assert [entry.size for entry in entries(tmp_path)] == [SIZE] * 3
    make_room(tmp_path, 3 * SIZE, SIZE)
    assert names(tmp_path) == [paths[0].name, paths[2].name]
    make_room(tmp_path, 3 * SIZE, SIZE)
    assert names(tmp_path) == [paths[0].name, paths[2].name], "they fit"
    make_room(tmp_path, 0, SIZE)
    assert names(tmp_path) == []


def test_an_entry_in_use_stays_however_long_ago_it_was_used(tmp_path):
    used, other = build(tmp_path, 1), build(tmp_path, 2)
    images = map_entry(used, SHAPE)
    os.utime(used, (1000, 1000))
    make_room(tmp_path, 0, 1)
    assert names(tmp_path) == [used.name]
    assert not other.exists()
    assert not remove(entries(tmp_path)[0])
    del images
    assert remove(entries(tmp_path)[0])
    assert names(tmp_path) == []


def test_a_new_entry_makes_its_own_room(tmp_path):
    for number in range(5):
        build(tmp_path, number, used=number, limit=2 * SIZE)
    assert names(tmp_path) == [f"{name(number)}.npy" for number in (3, 4)]


def test_remains_of_a_killed_build_are_removed_but_no_running_build(tmp_path):
    for suffix in (".partial", ".lock"):
        (tmp_path / f"{name(1)}{suffix}").write_bytes(bytes(9))
    with build_entry(tmp_path / f"{name(2)}.npy", SHAPE) as partial:
        make_room(tmp_path, 0, 1)
        assert partial.exists()
        assert names(tmp_path) == [f"{name(2)}.lock", f"{name(2)}.partial"]
        np.lib.format.open_memmap(partial, "r+")[:] = 1
    assert names(tmp_path) == [f"{name(2)}.npy"]


def test_the_lock_that_a_killed_build_has_left_is_removed(tmp_path):
    path = build(tmp_path, 1)
    lock = path.with_suffix(".lock")
    with hold_lock(lock):
        map_entry(path, SHAPE)
        assert lock.exists()
    lock.touch()
    map_entry(path, SHAPE)
    assert names(tmp_path) == [path.name]


def test_files_of_others_are_neither_counted_nor_removed(tmp_path):
    for other in ("weights.npy", f"{name(1)}.txt", f"x{name(1)}.npy", "a.partial"):
        (tmp_path / other).write_bytes(bytes(1000))
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    assert entries(tmp_path) == []
    make_room(tmp_path, 0, 1)
    assert names(tmp_path) == before


def test_an_entry_is_described(tmp_path):
    path = build(tmp_path, 1)
    (tmp_path / f"{name(2)}.partial").touch()
    (tmp_path / f"{name(3)}.npy").write_bytes(path.read_bytes()[:-9])
    np.save(tmp_path / f"{name(4)}.npy", np.zeros(3))
    said = {entry.path.stem: describe(entry) for entry in entries(tmp_path)}
    wanted = ("2 images of 3 x 3 pixels", "unfinished", "damaged", "damaged")
    assert said == {name(number): what for number, what in enumerate(wanted, start=1)}
    assert describe(Entry(tmp_path / "none.npy", 0, 0)) == "damaged"


def without(monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")


def refusing(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)


@pytest.mark.parametrize("system", [without, refusing])
def test_room_is_reserved_where_posix_fallocate_lacks(tmp_path, monkeypatch, system):
    system(monkeypatch)
    monkeypatch.setattr("gradrev_jax.data.images.entry_files.ZEROS", 10)
    path = build(tmp_path, 1)
    assert path.stat().st_size == SIZE
    assert (map_entry(path, SHAPE) == 1).all()
