import pathlib

import pytest

from gradrev_jax import paths
from gradrev_jax.errors import ConfigError


def test_the_home_folder_is_put_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.expand("~/runs/x", "--workdir") == tmp_path / "runs" / "x"
    assert paths.expand("a/~/b", "--workdir") == pathlib.Path("a/~/b")


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
        paths.expand(path, "data.root")


def test_without_a_home_folder_the_message_says_so(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigError, match="^--out=~/w: the home folder is not known, .*; set HOME, or give"):
        paths.expand("~/w", "--out")


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=f"^--workdir={file}: this is not a folder; give another path$"):
        paths.check_folder(file, "--workdir")
    with pytest.raises(ConfigError, match=f"^--workdir={file}/run: {file} is not a folder"):
        paths.check_folder(file / "run", "--workdir")
    paths.check_folder(tmp_path / "new" / "run", "--workdir", written=True)


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(paths.os, "access", lambda path, mode: False)
    paths.check_folder(tmp_path / "run", "--workdir")
    with pytest.raises(ConfigError, match=f"run: this user may not write to {tmp_path}; give another path"):
        paths.check_folder(tmp_path / "run", "--workdir", written=True)


def test_a_name_that_is_not_utf_8(tmp_path):
    with pytest.raises(ConfigError, match=r"\\udcff': the path is not valid UTF-8"):
        paths.check_folder(tmp_path / "r\udcff", "--workdir")
