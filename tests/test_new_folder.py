import os
import pathlib

import pytest

from gradrev_jax.errors import DataError
from gradrev_jax.new_folder import new_folder


@pytest.mark.parametrize("there", [False, True])
def test_it_takes_its_name_when_it_is_whole(there, tmp_path):
    made = tmp_path / "a" / "b"
    if there:
        made.mkdir(parents=True)
    with new_folder(made, DataError) as folder:
        (folder / "file").write_text("x")
        assert not (made / "file").exists()
        assert folder.parent == made.parent
    assert os.listdir(made) == ["file"]
    assert os.listdir(made.parent) == ["b"]
    assert made.stat().st_mode & 0o777 == 0o755


def make(directory, error=None):
    with new_folder(directory, DataError) as folder:
        (folder / "file").write_text("x")
        if error:
            raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_it_goes_where_the_block_does_not_end_well(error, tmp_path):
    with pytest.raises(error):
        make(tmp_path / "made", error)
    assert not os.listdir(tmp_path)


def test_a_full_disk(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path / 'made'} cannot be written: No space left on device$"):
        make(tmp_path / "made", OSError(28, "No space left on device"))
    assert not os.listdir(tmp_path)


def test_a_name_that_is_taken(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").write_text("x")
    with pytest.raises(DataError, match="made cannot be written: "):
        make(tmp_path / "made")
    assert os.listdir(tmp_path) == ["made"]
    assert os.listdir(tmp_path / "made") == ["old"]
    with pytest.raises(DataError, match="^/proc/none/made cannot be written"):
        make(pathlib.Path("/proc/none/made"))
