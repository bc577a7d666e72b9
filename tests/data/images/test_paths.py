import os
import pathlib

import pytest

from gradrev_jax.data.images.paths import closed_folder, is_file, paths_outside, quote_path


@pytest.fixture
def root(tmp_path):
    """A folder with images, links within it, and links out of it."""
    root = tmp_path / "shop"
    (root / "images" / "inner").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in (root / "images" / "a.jpg", tmp_path / "elsewhere" / "b.jpg"):
        path.touch()
    (root / "within.jpg").symlink_to("images/a.jpg")
    (root / "out.jpg").symlink_to("../elsewhere/b.jpg")
    (root / "whole.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    (root / "folder").symlink_to("../elsewhere")
    (root / "again.jpg").symlink_to("out.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "dangling.jpg").symlink_to("../no/such.jpg")
    return root


def oracle(root, path):
    """Returns whether a path leads out, by the whole path resolved from scratch."""
    if os.path.isabs(path) or ".." in pathlib.PurePath(path).parts:
        return True
    return not (root / path).resolve().is_relative_to(root.resolve())


PATHS = [
    *(
        "images/a.jpg",
        "./images/a.jpg",
        "images//a.jpg",
        "images/none.jpg",
        "none/none.jpg",
        "",
        "a..b/c.jpg",
    ),
    *("within.jpg", "out.jpg", "whole.jpg", "folder/b.jpg", "folder/none.jpg", "again.jpg", "dangling.jpg"),
    *("../shop/images/a.jpg", "images/../../elsewhere/b.jpg", "/etc/passwd", "images/..", "folder"),
]


def test_exactly_the_paths_that_lead_out_are_found(root):
    found = paths_outside(root, PATHS)
    assert {PATHS[position] for position in found} == {path for path in PATHS if oracle(root, path)}
    assert "out.jpg" in {PATHS[position] for position in found}


def test_it_is_said_where_a_link_leads(root, tmp_path):
    target = tmp_path / "elsewhere" / "b.jpg"
    assert paths_outside(root, ["out.jpg", "folder/b.jpg"]) == dict.fromkeys(
        (0, 1), f"leads out of {root}, by a symbolic link to {target}"
    )


def test_the_folder_itself_may_be_a_link_and_a_loop_leads_nowhere(root, tmp_path):
    (tmp_path / "link").symlink_to("shop")
    assert paths_outside(tmp_path / "link", ["images/a.jpg", "within.jpg", "loop.jpg"]) == {}
    assert paths_outside(pathlib.Path("/"), ["etc/passwd"]) == {}


def test_what_is_no_path_at_all_leads_out_or_is_no_file(root):
    assert list(paths_outside(root, ["a\0b", "x" * 5000, "x/" * 3000])) == [0]
    assert not is_file(root / ("x" * 5000))
    assert not is_file(root / "images")
    assert is_file(root / "images" / "a.jpg")


def test_a_path_is_quoted_if_it_cannot_be_shown():
    assert quote_path("a/b.jpg") == "a/b.jpg"
    assert quote_path("a\nb") == r"'a\nb'"
    assert quote_path("a" * 201) == repr("a" * 197 + "...")


def test_the_first_folder_that_may_not_be_entered_is_found(root, monkeypatch):
    paths = ["images/inner/c.jpg", "images/a.jpg", "none/a.jpg", "a.jpg", "x" * 5000, "a\0/b.jpg"]
    assert [closed_folder(root, path) for path in paths] == [None] * 6
    closed = (root / "images", root / "images" / "inner")
    monkeypatch.setattr(os, "access", lambda path, mode: pathlib.Path(path) not in closed)
    assert [closed_folder(root, path) for path in paths] == [root / "images"] * 2 + [None] * 4
