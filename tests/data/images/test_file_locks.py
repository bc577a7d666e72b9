import subprocess
import sys

import numpy as np
import pytest

from gradrev_jax import files
from gradrev_jax.data.images import file_locks
from gradrev_jax.data.images.file_locks import hold_lock, is_in_use, mark_in_use
from gradrev_jax.errors import DataError


def held_elsewhere(path):
    """Returns whether another process finds a file in use."""
    script = (
        "from gradrev_jax.data.images.file_locks import is_in_use; "
        f"print(is_in_use(open({str(path)!r}, 'r+b')))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "True\n"


def test_a_lock_file_is_there_while_it_is_held(tmp_path):
    with hold_lock(tmp_path / "a.lock"):
        assert held_elsewhere(tmp_path / "a.lock")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.lock").touch()  # left by a process that died
    with hold_lock(tmp_path / "a.lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_shared_file_is_in_use_as_long_as_it_is_mapped(tmp_path):
    np.arange(9, dtype=np.uint8).tofile(tmp_path / "a")
    with (tmp_path / "a").open("rb") as file:
        mark_in_use(file)
        images = np.memmap(file, np.uint8, "r")
    with (tmp_path / "a").open("r+b") as other:
        assert is_in_use(other)
        assert held_elsewhere(tmp_path / "a")
        view = images[2:4]
        del images
        assert is_in_use(other)
        del view
        assert not is_in_use(other)


def test_without_locks_it_says_which_systems_have_them(tmp_path, monkeypatch):
    for module in (file_locks, files):
        monkeypatch.setattr(module, "fcntl", None)
    with (
        pytest.raises(DataError, match="on Linux and macOS; on Windows, run it under WSL"),
        hold_lock(tmp_path / "a"),
    ):
        pass
    with (tmp_path / "a").open("wb") as file:
        mark_in_use(file)
        assert is_in_use(file)


def test_pure_functions_and_the_cache_can_be_imported_without_fcntl():
    script = """
import sys
sys.modules["fcntl"] = None
from gradrev_jax import reverse_gradient
from gradrev_jax.data.images import file_locks
from gradrev_jax.data.images import cache
assert file_locks.fcntl is None
"""
    subprocess.run([sys.executable, "-c", script], check=True)
