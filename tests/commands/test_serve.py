import importlib.util
import socket

import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.serving.retriever import Retriever


def test_it_needs_a_run(call, tmp_path):
    ended = call("serve", f"--workdir={tmp_path / 'run'}", "--port=0")
    assert ended.status == 4
    assert "is not a run of train.py" in ended.err


def test_a_port_that_is_taken_is_said_before_the_run_is_opened(call, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = call("serve", f"--workdir={tmp_path / 'run'}", f"--port={port}")
    assert ended.status == 2
    assert f"cannot listen on port {port} of 127.0.0.1" in ended.err
    assert "(flag: --host, --port)" in ended.err


@pytest.mark.parametrize("port", ["-1", "65536", "web"])
def test_a_port_is_a_number_that_there_is(call, tmp_path, port):
    ended = call("serve", f"--workdir={tmp_path / 'run'}", f"--port={port}")
    assert ended.status == 2
    assert "port" in ended.err


def test_what_is_not_installed_is_said_with_how_to_install_it(call, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "starlette" else find(name, *rest)
    )
    ended = call("serve", f"--workdir={tmp_path / 'run'}")
    assert ended.status == 2
    assert "the page needs starlette, not installed here: pip install 'gradrev_jax[demo]'" in ended.err


@pytest.mark.parametrize("flags", [("serve", "--port=0"), ("search", "--item=0")])
def test_a_run_is_opened_as_the_flags_say(call, tmp_path, monkeypatch, flags):
    """A run whose edit is learned is served by another representation, which its refusal asks for."""
    given = {}

    def opened(where, **opening):
        given.update(opening)
        raise WorkdirError("seen")

    monkeypatch.setattr(Retriever, "open", opened)
    command, flag = flags
    chosen = "--step=latest", "--protocol.representation=posterior", "--data.workers=3", "--parts=train,test"
    ended = call(command, flag, f"--workdir={tmp_path}", *chosen)
    assert "seen" in ended.err
    assert given == {
        "parts": ["train", "test"],
        "step": "latest",
        "protocol": {"representation": "posterior"},
        "data": {"workers": 3},
        "engine": None,
    }
