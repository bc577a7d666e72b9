import errno
import os
import pathlib

import pytest

from gradrev_jax import files
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.files import HEAD, is_lfs_pointer, new_folder, replace_file, temporary_sibling


@pytest.mark.parametrize("there", [False, True])
def test_a_new_folder_is_renamed_when_the_block_ends(there, tmp_path):
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
def test_a_new_folder_is_removed_if_the_block_fails(error, tmp_path):
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


LEFT = ".made-a0b1c2d_.part"


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_process_has_left_is_removed(folder, tmp_path):
    others = [".made-mine", ".made-2-a0b1c2d_.part", "made-a0b1c2d_.part", ".made-a0b1c2d_.parts"]
    for name in others:
        (tmp_path / name).touch()
    if folder:
        (tmp_path / LEFT).mkdir()
        (tmp_path / LEFT / "file").touch()
        make(tmp_path / "made")
    else:
        (tmp_path / LEFT).touch()
        replace_file(tmp_path / "made", b"x", DataError)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "made"])


@pytest.mark.parametrize("folder", [False, True])
def test_what_another_process_is_at_work_on_stays(folder, tmp_path):
    with temporary_sibling(tmp_path / "made", folder=folder) as new:
        replace_file(tmp_path / "made", b"x", DataError)
        assert new.exists()
    assert os.listdir(tmp_path) == ["made"]


def test_without_locks_everything_stays(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / LEFT).touch()
    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    replace_file(tmp_path / "made", b"x", DataError)
    assert sorted(os.listdir(tmp_path)) == [LEFT, "made"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_sibling_that_is_taken_for_a_leftover_is_made_again(folder, tmp_path, monkeypatch):
    """Between its creation and its lock, another process may take it for one, and remove it."""
    flock, taken = files.fcntl.flock, []

    def take(descriptor, operation):
        flock(descriptor, operation)
        if not taken:
            taken.append(os.listdir(tmp_path)[0])
            files.remove_leftovers(tmp_path / "nothing")
            (path,) = tmp_path.iterdir()
            path.rmdir() if folder else path.unlink()

    monkeypatch.setattr(files.fcntl, "flock", take)
    with temporary_sibling(tmp_path / "made", folder=folder) as new:
        assert os.listdir(tmp_path) == [new.name] != taken


def test_the_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand("~/runs/x", "--workdir") == tmp_path / "runs" / "x"
    assert files.expand("a/~/b", "--workdir") == pathlib.Path("a/~/b")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "~nobodyhere/x",
            r"^data.root=~nobodyhere/x: there is no user 'nobodyhere'; give the whole path, or ./~nobod",
        ),
        ("", "^data.root is empty; give a path$"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_sentence(path, message):
    with pytest.raises(ConfigError, match=message):
        files.expand(path, "data.root")


def test_without_a_home_folder_the_message_says_so(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigError, match="^--out=~/w: the home folder is not known, .*; set HOME, or give"):
        files.expand("~/w", "--out")


def test_a_file_is_not_a_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=f"^--workdir={file}: this is not a folder; give another path$"):
        files.check_folder(file, "--workdir")
    with pytest.raises(ConfigError, match=f"^--workdir={file}/run: {file} is not a folder"):
        files.check_folder(file / "run", "--workdir")
    files.check_folder(tmp_path / "new" / "run", "--workdir", written=True)


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    files.check_folder(tmp_path / "run", "--workdir")
    with pytest.raises(ConfigError, match=f"run: this user may not write to {tmp_path}; give another path"):
        files.check_folder(tmp_path / "run", "--workdir", written=True)


def test_a_name_that_is_not_utf_8(tmp_path):
    with pytest.raises(ConfigError, match=r"\\udcff': the path is not valid UTF-8"):
        files.check_folder(tmp_path / "r\udcff", "--workdir")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (POINTER, True),
        (POINTER.replace(b"git-lfs", b"hawser"), True),  # as its first releases wrote them
        (b"version 2\n1 0 0\n", False),
        (b"", False),
    ],
)
def test_a_pointer_is_told_by_its_first_bytes(content, pointer):
    assert is_lfs_pointer(content[:HEAD]) == pointer


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_file_that_is_not_replaced_leaves_no_other(error, tmp_path, monkeypatch):
    def fail(*paths):
        raise error

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises((KeyboardInterrupt, DataError)):
        files.replace_file(tmp_path / "file", b"new", DataError)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_others_may_read_a_new_file_and_one_that_was_there_keeps_its_mode(tmp_path):
    """A temporary file is its user's alone, and was renamed with that mode."""
    new, private = tmp_path / "new", tmp_path / "private"
    private.touch(0o600)
    for path in (new, private):
        replace_file(path, b"x", DataError)
    assert [path.stat().st_mode & 0o777 for path in (new, private)] == [0o644, 0o600]
