import os
import time

import numpy as np
import pytest

from gradrev_commands.image_cache import report
from gradrev_jax.data.images.cache_entries import build_entry, map_entry
from gradrev_jax.errors import DataError

SHAPE = (2, 3, 3, 3)


@pytest.fixture
def cache(tmp_path):
    for number, days in ((1, 0), (2, 40)):
        path = tmp_path / "cache" / f"{number:032x}.npy"
        with build_entry(path, SHAPE) as partial:
            np.lib.format.open_memmap(partial, "r+")[:] = number
        os.utime(path, (time.time() - days * 24 * 60 * 60,) * 2)
    (tmp_path / "cache" / "notes.npy").touch()
    return tmp_path / "cache"


def test_entries_are_listed_and_removed_unless_in_use(call, cache):
    lines = report(cache).splitlines()
    assert [line.split()[-1] for line in lines[:2]] == [f"{number:032x}.npy" for number in (2, 1)]
    assert all("0.0 MiB  2 images of 3 x 3 pixels" in line for line in lines[:2])
    assert lines[2:] == [f"{cache} has 2 entries, 0.0 MiB"]

    assert report(cache, clear=True, unused_days=30.0).splitlines()[0] == "removed 1 entry, 0.0 MiB"
    images = map_entry(cache / f"{1:032x}.npy", SHAPE)
    assert report(cache, clear=True).splitlines()[0] == "removed 0 entries, 0.0 MiB; 1 in use"
    del images
    ended = call("image_cache", f"--cache_dir={cache}", "--clear")
    assert ended.out.splitlines() == ["removed 1 entry, 0.0 MiB", f"{cache} has 0 entries, 0.0 MiB"]
    assert [path.name for path in cache.iterdir()] == ["notes.npy"]


def test_its_folder_is_the_default_of_the_config(call, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert call("image_cache").out == f"{tmp_path / 'gradrev_jax'} has 0 entries, 0.0 MiB\n"


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"the image cache .*file cannot be used: Not a directory"):
        report(tmp_path / "file")
