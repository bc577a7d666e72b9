import io
import os
import sys

import pytest

from gradrev_commands.terminal import safe_output


def test_a_character_that_the_terminal_lacks_is_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    with safe_output():
        print("runs/ü")
    assert written.getvalue() == b"runs/\\xfc\n"


@pytest.mark.parametrize("length", [10, 100_000], ids=["within the buffer", "beyond it"])
def test_a_reader_that_has_gone_ends_the_command_quietly(monkeypatch, length):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended, safe_output():
            print("x" * length)
    assert ended.value.code == 1


def test_another_broken_pipe_is_an_error_as_before():
    with pytest.raises(BrokenPipeError), safe_output():
        raise BrokenPipeError


def test_output_may_be_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with safe_output():
        print("to nowhere")
