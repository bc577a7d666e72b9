import errno
import importlib
import pathlib
import re
import threading
import tomllib

import jax
import pytest

from gradrev_commands import cli, endings
from gradrev_commands.endings import ending_of, printable
from gradrev_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = sorted(entry.split(":")[0].rsplit(".", 1)[1] for entry in PROJECT["scripts"].values())


def subclasses(kind):
    """All classes below one that the package defines, itself the first."""
    import gradrev_jax.errors

    found = [kind, *kind.__subclasses__()]
    return [each for each in found if each.__module__ == gradrev_jax.errors.__name__]


KINDS = subclasses(UserError)


class Failing:
    """A command of its own, whose work is to raise an error."""

    def __init__(self, call, monkeypatch):
        self._call, self._monkeypatch = call, monkeypatch

    def __call__(self, error, *arguments):
        def work():
            raise error

        module = importlib.import_module("gradrev_commands.image_cache")
        self._monkeypatch.setattr(module, "main", lambda: cli.run(work))
        return self._call("image_cache", *arguments)


@pytest.fixture
def fail(call, monkeypatch):
    return Failing(call, monkeypatch)


def test_every_kind_of_error_has_a_status_of_its_own_that_stands_in_the_documents():
    codes = [kind.exit_code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 130, 143} & set(codes)
    table = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert re.search(rf"^\| {kind.exit_code} \| `{kind.__name__}` \|", table, re.MULTILINE), kind
        assert kind.__doc__.strip(), kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_ends_a_command_with_its_status_and_its_message_alone(fail, kind):
    ended = fail(kind("no image is left"))
    assert ended == (kind.exit_code, "", "error: no image is left\n")


OUT_OF_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\n at 0x1")
UNEXPECTED = {
    "bug": (TypeError("no number\nsecond line"), 1, "error: TypeError: no number\nThis is a bug"),
    "no text": (KeyError(), 1, "error: KeyError\nThis is a bug"),
    "deep": (RecursionError("maximum recursion depth exceeded"), 1, "error: RecursionError: maximum"),
    "memory": (MemoryError(), 1, "error: the memory is used up\nAsk for less"),
    "array": (MemoryError("Unable to allocate 9 TiB"), 1, "the memory is used up: Unable to allocate 9 TiB"),
    "device": (OUT_OF_MEMORY, 1, "the memory of the device is used up: RESOURCE_EXHAUSTED: Out of memory"),
    "file": (OSError(errno.EIO, "Input/output error", "a/b.npy"), 1, "error: a/b.npy: Input/output error\n"),
    "full": (OSError(errno.ENOSPC, "No space left", b"a"), 1, "error: a: No space left\nMake room and give"),
    "panic": (BaseException("index out of bounds"), 1, "error: BaseException: index out of bounds\n"),
    "no file": (ConnectionError("refused"), 1, "error: refused\n--debug shows where"),
}


@pytest.mark.parametrize("name", UNEXPECTED)
def test_what_nothing_has_foreseen_is_one_paragraph_that_tells_how_to_see_more(fail, name):
    error, status, message = UNEXPECTED[name]
    ended = fail(error)
    assert ended.status == status
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") <= 2
    assert "--debug" in ended.err
    assert ("please report" in ended.err) == ("This is a bug" in ended.err)


def test_an_interrupt_is_no_fault_and_has_the_status_that_shells_report():
    assert ending_of(KeyboardInterrupt()) == (130, "interrupted; give the same command again to go on")


@pytest.mark.parametrize("error", [UserError("wrong"), TypeError("wrong"), OSError("wrong")])
def test_with_debug_the_traceback_stands_above_the_message(fail, error):
    ended = fail(error, "--debug")
    assert ended.status == ending_of(error).status
    assert "Traceback" in ended.err
    assert "raise error" in ended.err
    assert ended.err.index("Traceback") < ended.err.index("\nerror: ")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arguments", [("--debug", "--no_such_flag"), ("--no_such_flag",)])
def test_every_command_refuses_an_unknown_flag_in_words_and_knows_debug(call, command, arguments):
    ended = call(command, *arguments)
    assert ended.status == 2
    assert "\nerror: " in f"\n{ended.err}"
    assert "Pass --help to see the flags." in ended.err
    assert ("Traceback" in ended.err) == ("--debug" in arguments)


def test_a_config_that_ends_python_ends_the_command(call, tmp_path):
    (tmp_path / "own.py").write_text("import sys\nsys.exit(3)\n")
    assert call("train", f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}").status == 3


def test_a_thread_that_fails_says_so_without_a_traceback(fail, capsys, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    assert fail(UserError("wrong")).status == 8
    monkeypatch.setattr("sys.argv", ["train.py"])
    thread = threading.Thread(target=lambda: [][0])
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert said.startswith("error: a thread has ended: IndexError: list index out of range\n")
    assert "Traceback" not in said


def test_one_of_several_processes_ends_at_once(fail, monkeypatch):
    class Ended(BaseException):
        pass

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(endings.distributed, "is_multi_process", lambda: True)
    monkeypatch.setattr(endings.os, "_exit", end)
    with pytest.raises(Ended, match="3"):
        fail(endings.UserError.__subclasses__()[1]("wrong"))
    with pytest.raises(Ended, match="8"):
        fail(jax.errors.JaxRuntimeError("Gloo: connection closed"))


def test_what_could_steer_a_terminal_is_shown_as_an_escape():
    assert printable("a\tb\nü\x1b]0;x\x07\u202e\x9b") == "a\tb\nü\\x1b]0;x\\x07\\u202e\\x9b"
