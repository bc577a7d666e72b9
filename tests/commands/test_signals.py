import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pytest

from gradrev_commands import signals
from gradrev_jax.training.run import train

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def heard():
    """SIGINT, which a shell makes its background commands ignore, has Python's handler."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


class Left(BaseException):
    """The process would have ended here."""


@pytest.fixture
def ends(monkeypatch):
    """Collects the statuses that this process would have ended with."""
    statuses = []

    def leave(status):
        statuses.append(status)
        if threading.current_thread() is threading.main_thread():
            raise Left

    monkeypatch.setattr(signals.os, "_exit", leave)
    return statuses


def get(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # a handler is called before the next instruction of this thread


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_block_at_once(ends, capsys, number, status):
    before = [signal.getsignal(each) for each in signals.HANDLED]
    done = []

    def work():
        with signals.handled():
            try:
                get(number)
                done.append("went on")
            except Exception:
                done.append("took it for an error")
            finally:
                done.append("cleaned")

    with pytest.raises(Left):
        work()
    assert (ends, done) == ([status], ["cleaned"])
    assert capsys.readouterr().err == "interrupted; give the same command again to go on\n"
    assert [signal.getsignal(each) for each in signals.HANDLED] == before
    assert not signals.requested()


def test_work_that_would_be_lost_ends_by_itself(ends, capfd):
    def work():
        with signals.handled(), signals.deferred():
            seen.append(signals.requested())
            get(signal.SIGTERM)
            seen.append(signals.requested())
            sys.exit(signals.status())

    seen = []
    with pytest.raises(SystemExit, match="^143$"):
        work()
    assert seen == [False, True]
    assert capfd.readouterr().err == "\nSIGTERM: saving, then ending; once more ends at once\n"
    assert not ends


def test_a_signal_that_came_too_late_takes_effect_when_all_is_kept(ends):
    def work():
        with signals.handled():
            with signals.deferred():
                get(signal.SIGINT)
                done.append("kept")
            done.append("went on")

    done = []
    with pytest.raises(Left):
        work()
    assert (ends, done) == ([130], ["kept"])


def test_a_second_signal_ends_at_once_but_not_a_repeated_first_one(ends, monkeypatch):
    def work():
        with signals.handled(), signals.deferred():
            get(signal.SIGTERM)
            get(signal.SIGTERM)
            time.sleep(0.05)
            assert not ends
            time.sleep(0.2)
            get(signal.SIGINT)
            wait_for(lambda: ends)
            sys.exit(0)

    monkeypatch.setattr(signals, "REPEATED", 0.2)
    with pytest.raises(SystemExit):
        work()
    assert ends == [130]


def test_a_block_that_swallows_the_signal_is_ended(ends, monkeypatch):
    monkeypatch.setattr(signals, "GRACE", 0.05)
    with signals.handled():
        with pytest.raises(signals.Terminated):
            get(signal.SIGTERM)
        wait_for(lambda: ends)
    assert ends == [143]


def test_handlers_of_a_server_and_what_a_shell_ignores_stay(ends):
    got = []
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.handled():
            get(signal.SIGINT)
            ours = signal.signal(signal.SIGTERM, lambda *_: got.append(True))
            get(signal.SIGTERM)
            signal.signal(signal.SIGTERM, ours)
    finally:
        signal.signal(signal.SIGINT, former)
    assert got == [True]
    assert not ends


def test_a_thread_gets_no_signals():
    def work():
        with signals.handled(), signals.deferred():
            done.append(signals.requested())

    done = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]


def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_a_process_that_is_busy_outside_of_python_is_ended():
    script = """
        import hashlib
        from gradrev_commands import signals
        signals.GRACE = 0.1
        with signals.handled():
            print("ready", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, without a look at signals
    """
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "ready\n"
    started.terminate()
    started.communicate(timeout=60)
    assert started.returncode == 143


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    speeds = ("images_per_second", "input_wait")
    return [{k: v for k, v in json.loads(line).items() if k not in speeds} for line in lines]


@pytest.mark.long
def test_sigterm_saves_and_the_same_command_goes_on_to_the_same_bits(tiny_config, tmp_path):
    """The one test of a whole process; it goes on in this one."""
    changed = {"train.epochs": 1000, "train.log_every": 3, "train.steps_per_call": 2}
    tiny_config.update_from_flattened_dict(changed)
    given = {
        "data.cache_dir": tiny_config.data.cache_dir,
        "data.count": 60,
        "data.test_fraction": 0.4,
        "model.width": 1 / 32,
        "model.feature_dim": 4,
        "train.batch_size": 8,
        "protocol.ks": (1, 5),
        "protocol.batch_size": 10,
        "protocol.normalize": "global",
        "protocol.baselines": "()",
        "protocol.leakage": False,
        **changed,
    }
    flags = [f"--config.{name}={value}" for name, value in given.items()]
    workdir = tmp_path / "run"
    started = subprocess.Popen(
        [sys.executable, "train.py", "--config=configs/garments.py", f"--workdir={workdir}", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").stat().st_size)
    told = time.monotonic()
    started.terminate()
    printed = started.communicate(timeout=60)[1]
    assert time.monotonic() - told < 10
    assert started.returncode == 143, printed
    assert "SIGTERM: saving, then ending" in printed
    assert f"to go on: python train.py --config=configs/garments.py --workdir={workdir}" in printed
    reached = int(re.search(r"stopped after step (\d+) of stage encoder, which is saved", printed)[1])
    assert (workdir / "checkpoints" / "encoder" / f"step_{reached}").is_dir()
    tiny_config.train.max_steps = reached + 5
    resumed = train(tiny_config, workdir, progress=False)
    whole = train(tiny_config, tmp_path / "whole", progress=False)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert records(workdir) == records(tmp_path / "whole")
