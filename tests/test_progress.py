import io
import sys

import pytest

from gradrev_jax.progress import ProgressBar, tell


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


class Cell(io.StringIO):
    """The output of a notebook's cell, which says that it is no terminal, and draws bars all the same."""


Cell.__module__ = "ipykernel.iostream"


def draw(monkeypatch, stream, **options):
    """Draws two bars over three things each, and prints a line, where a stream is stderr."""
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(ProgressBar("abc", "letters", mininterval=0, **options)) == ["a", "b", "c"]
    with ProgressBar(total=3, desc="counted", mininterval=0, **options) as bar:
        bar.set_description("again")
        bar.set_postfix(loss="0.5")
        bar.update(3)
    tell("done")


@pytest.mark.parametrize("stream", [Screen(), Cell()])
def test_a_bar_is_drawn_where_it_can_be_drawn_again(monkeypatch, stream):
    draw(monkeypatch, stream)
    drawn = stream.getvalue()
    assert drawn.count("\r") > 3
    assert "letters: 100%" in drawn
    assert "loss=0.5" in drawn


def test_a_file_gets_lines_and_no_bar(monkeypatch, tmp_path):
    text = io.StringIO()
    draw(monkeypatch, text)
    assert text.getvalue() == "done\n"
    with (tmp_path / "log").open("w") as log:
        draw(monkeypatch, log)
    assert (tmp_path / "log").read_bytes() == b"done\n"


@pytest.mark.parametrize("options", [{"progress": False}, {"disable": True}])
def test_a_bar_that_nobody_wants_is_not_drawn(monkeypatch, options):
    screen = Screen()
    draw(monkeypatch, screen, **options)
    assert screen.getvalue() == "done\n"


def test_without_any_stderr_nothing_fails(monkeypatch):
    draw(monkeypatch, None)
