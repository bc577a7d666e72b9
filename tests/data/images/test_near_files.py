import os
import unicodedata

import pytest

from gradrev_jax.data.images.near_files import find_near_file

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "robe_été.jpg") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    names = (
        "images/0000.jpg",
        "images/0001.JPG",
        f"images/{COMPOSED}",
        "Photos/a b.png",
        "v1.5.jpg",
        "notes",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (r"images\0000.jpg", "images/0000.jpg"),
        (r".\images\\0000.jpg", "images/0000.jpg"),
        ("images/0001.jpg", "images/0001.JPG"),
        (r"IMAGES\0001.Jpg", "images/0001.JPG"),
        (f"images/{DECOMPOSED}", f"images/{COMPOSED}"),
        ("images/0000", "images/0000.jpg"),
        ("images/0000.png", "images/0000.jpg"),
        ("images/0000.jpeg", "images/0000.jpg"),
        (" photos / a b.png ", "Photos/a b.png"),
        ("v1.5", "v1.5.jpg"),
        ("Notes", "notes"),
        ("images/0000.jpg", "images/0000.jpg"),
        ("v1", None),
        ("v1.6.jpg", None),
        ("notes.jpg", None),
        ("images", None),
        ("nowhere/0000.jpg", None),
        ("notes/0000.jpg", None),
        ("images/../images/0000.jpg", None),
        ("images/00\0.jpg", None),
        ("im\0/0000.jpg", None),
        ("", None),
        ("/", None),
    ],
)
def test_a_name_means_the_file_that_differs_in_its_writing_alone(root, name, file):
    assert find_near_file(root, name) == file


def test_a_name_in_composed_form_finds_a_file_in_decomposed(tmp_path):
    (tmp_path / DECOMPOSED).touch()
    assert find_near_file(tmp_path, COMPOSED) == DECOMPOSED


def test_two_files_that_are_equally_near_are_not_suggested(root):
    (root / "images" / "0000.png").touch()
    assert find_near_file(root, "images/0000.jpg") == "images/0000.jpg"
    assert find_near_file(root, "images/0000.JPG") == "images/0000.jpg"
    assert find_near_file(root, "images/0000") is None


def test_a_symbolic_link_that_leads_to_itself_is_no_file(root):
    (root / "loop.jpg").symlink_to("loop.jpg")
    assert find_near_file(root, "Loop.jpg") in (None, "loop.jpg")
    assert find_near_file(root, "NOTES") == "notes"


def test_a_folder_is_listed_once_and_again_when_it_has_changed(root, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    for _ in range(3):
        assert find_near_file(root, "images/2.JPG") is None
    assert listed == [root, root / "images"]
    (root / "images" / "2.jpg").touch()
    os.utime(root / "images", (1, 1))  # where the clock of the file system is coarse
    assert find_near_file(root, "images/2.JPG") == "images/2.jpg"
    assert listed == [root, root / "images", root / "images"]
