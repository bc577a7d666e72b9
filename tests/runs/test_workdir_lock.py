import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from gradrev_jax import distributed
from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs import workdir_lock
from gradrev_jax.runs.workdir_lock import hold_workdir

HOLDER = """
import pathlib, subprocess, sys, time
from gradrev_jax.runs.workdir_lock import hold_workdir
with hold_workdir(pathlib.Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"])  # outlives its parent, and must not keep the lock
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_until_the_first_is_killed(tmp_path):
    started = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    child = int(started.stdout.readline())
    try:
        with (
            pytest.raises(WorkdirError) as refused,
            hold_workdir(tmp_path / "run"),
        ):
            pass
        assert str(refused.value) == (
            f"{tmp_path / 'run'} is being trained in by process {started.pid} on {socket.gethostname()}; "
            "wait for it, end it, or give another --workdir"
        )
        started.send_signal(signal.SIGKILL)
        started.wait()
        with hold_workdir(tmp_path / "run"):
            held = json.loads((tmp_path / "run" / "train.lock").read_text())
            assert held == {"pid": os.getpid(), "host": socket.gethostname()}
        assert not list((tmp_path / "run").iterdir())
    finally:
        os.kill(child, signal.SIGKILL)
        started.kill()
        started.communicate()


def test_a_folder_in_which_nothing_was_written_is_gone(tmp_path):
    run = tmp_path / "a" / "b"
    with hold_workdir(run):
        assert [path.name for path in run.iterdir()] == ["train.lock"]
    assert not list(tmp_path.iterdir())
    with hold_workdir(run):
        (run / "config.json").touch()
    assert [path.name for path in run.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path, content):
    with hold_workdir(tmp_path):
        (tmp_path / "train.lock").write_text(content)
        with pytest.raises(WorkdirError, match="is being trained in by another process; wait"):
            hold_workdir(tmp_path).__enter__()


def test_where_it_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(WorkdirError, match="^/proc/none cannot be written to: "):
        hold_workdir(pathlib.Path("/proc/none")).__enter__()

    def read_only(self, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "open", read_only)
    with pytest.raises(WorkdirError, match=f"^{tmp_path} cannot be written to: Read-only file system$"):
        hold_workdir(tmp_path).__enter__()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def refuse(file, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(workdir_lock.fcntl, "flock", refuse)
    with hold_workdir(tmp_path):
        pass
    assert capsys.readouterr().err.startswith(f"note: {tmp_path} has no locks: nothing keeps two trainings")
    assert not list(tmp_path.iterdir())


def test_of_several_processes_the_first_holds_it_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    with hold_workdir(tmp_path):
        assert not list(tmp_path.iterdir())
