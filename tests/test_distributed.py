import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from gradrev_jax import distributed
from gradrev_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(("total", "count"), [(10, 3), (2, 4), (0, 2), (9, 3), (1, 1)])
def test_every_row_is_local_to_one_process(monkeypatch, total, count):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    parts = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(np.arange(total)[distributed.local_rows(total)])
    assert np.concatenate(parts).tolist() == list(range(total))


def test_alone_nothing_is_gathered_or_waited_for():
    rows = np.arange(6).reshape(3, 2)
    assert distributed.gather(rows, 3) is rows
    assert distributed.sum_over_processes({"sum": rows})["sum"] is rows
    assert distributed.addressable({"x": rows})["x"] is rows
    assert distributed.is_first()
    assert not distributed.is_multi_process()
    assert not distributed.is_peer_failure(jax.errors.JaxRuntimeError("gone"))
    distributed.barrier("nobody")
    distributed.initialize(None, None, None)
    assert not distributed.is_multi_process()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("127.0.0.1:1", None, 0), "give --coordinator, --num_processes and --process_id together, or --cl"),
        (("127.0.0.1:1", 2, 2), "--process_id=2 of --num_processes=2: give 0 to 1"),
    ],
)
def test_processes_that_are_described_in_part(given, message):
    with pytest.raises(ConfigError, match=message):
        distributed.initialize(*given)


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch):
    assert distributed.missing_device() is None

    def none():
        raise AssertionError

    def unknown():
        raise RuntimeError("Unable to initialize backend 'x': no x. (set JAX_PLATFORMS='' to choose)")

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    message = distributed.missing_device()
    assert message.startswith(
        "JAX_PLATFORMS=cuda is set, but JAX finds no such device here. Unset it to use what"
    )
    assert message.endswith("pip install -c constraints.txt -e '.[cuda12]'")
    monkeypatch.setattr(jax, "devices", unknown)
    assert (
        "no such device here (Unable to initialize backend 'x': no x.). Unset it"
        in distributed.missing_device()
    )
    monkeypatch.delenv("JAX_PLATFORMS")
    assert distributed.missing_device().startswith("JAX finds no device (Unable")


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(count, command, *flags):
    """Starts a command in a number of processes on this machine."""
    joining = [] if count == 1 else [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={count}"]
    return [
        subprocess.Popen(
            [sys.executable, command, *flags, *joining, *([f"--process_id={index}"] if joining else [])],
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]


def outputs(started, timeout=150):
    """Returns the output of processes, which must all succeed."""
    printed = [process.communicate(timeout=timeout)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), printed
    return printed


def training(workdir, cache_dir, **fields):
    """Returns the command and flags of a tiny training."""
    given = {
        "data.cache_dir": cache_dir,
        "data.count": 60,
        "data.test_fraction": 0.4,
        "model.width": 1 / 32,
        "model.feature_dim": 4,
        "train.batch_size": 7,
        "train.epochs": 2,
        "train.log_every": 1,
        "protocol.ks": (1, 5),
        "protocol.batch_size": 10,
        **fields,
    }
    flags = [f"--config.{name}={value}" for name, value in given.items()]
    return ["train.py", "--config=configs/garments.py", f"--workdir={workdir}", *flags]


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    return [record["loss"] for record in records(workdir) if "loss" in record]


@pytest.mark.long
def test_two_processes_train_what_one_does(tmp_path, cache_dir):
    first, second = outputs(start(2, *training(tmp_path / "two", cache_dir)))
    assert "Next: python evaluate.py" in first
    assert "Next" not in second
    assert "epoch 1" in first
    assert "epoch 1" not in second, "one process tells of the progress"
    assert "checkpoint_manager" not in first, "the libraries are quiet"
    outputs(start(1, *training(tmp_path / "one", cache_dir)))
    assert len(losses(tmp_path / "two")) == len(records(tmp_path / "one")) - 2 >= 8
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-3)
    assert [r["validation_accuracy"] for r in records(tmp_path / "two") if "validation_accuracy" in r] == [
        r["validation_accuracy"] for r in records(tmp_path / "one") if "validation_accuracy" in r
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_two_processes_evaluate_every_query(tmp_path, cache_dir, mode):
    stages = {
        "data.count": 300,
        "train.epochs": 1,
        "parallel": mode,
        "stages": "('encoder','memory')",
        "data.placement": "device",
    }
    memory = {"memory.triplets": 12, "memory.batch_size": 3, "memory.epochs": 1}
    outputs(start(2, *training(tmp_path, cache_dir, **stages, **memory)))
    reports = {}
    for stage, folder in (("encoder", "report_encoder"), ("memory", "report")):
        for count in (2, 1):
            outputs(start(count, "evaluate.py", f"--workdir={tmp_path}", f"--stage={stage}"))
            reports[count] = json.loads((tmp_path / folder / "metrics.json").read_text())
        assert reports[1]["queries"] > 10
        assert reports[1] == reports[2]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_dies_the_other_says_so_and_training_goes_on_later(tmp_path, cache_dir, victim):
    long = {"train.epochs": 1000, "train.checkpoint_every": 2}
    started = start(2, *training(tmp_path, cache_dir, **long))
    wait_for(lambda: written(tmp_path))
    started[victim].send_signal(signal.SIGKILL)
    printed, _ = started[1 - victim].communicate(timeout=60)
    started[victim].communicate(timeout=60)
    assert started[1 - victim].returncode != 0
    if victim:
        assert "error: another process of this run has ended" in printed
        assert "Start all processes again with the same --workdir" in printed
    reached = max(written(tmp_path))
    last = {"train.epochs": 1000, "train.max_steps": reached + 3}
    outputs(start(2, *training(tmp_path, cache_dir, **last)))
    steps = [record["step"] for record in records(tmp_path) if "loss" in record]
    assert steps == list(range(1, reached + 4)), "every step once"


@pytest.mark.slow
@pytest.mark.parametrize("told", [(0,), (1,), (0, 1)])
def test_two_processes_stop_after_the_same_step_whichever_is_told(tmp_path, cache_dir, told):
    long = {"train.epochs": 1000}
    started = start(2, *training(tmp_path, cache_dir, **long))
    wait_for(lambda: written(tmp_path))
    for index in told:
        started[index].terminate()
    printed = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [143, 143], printed
    (reached,) = map(int, re.findall(r"stopped after step (\d+) of stage encoder", printed[0]))
    assert max(written(tmp_path)) == reached
    outputs(start(2, *training(tmp_path, cache_dir, **long, **{"train.max_steps": reached + 3})))
    steps = [record["step"] for record in records(tmp_path) if "loss" in record]
    assert steps == list(range(1, reached + 4)), "every step once"


def written(workdir):
    """Returns the steps of the complete checkpoints."""
    names = [path.name.removeprefix("step_") for path in workdir.glob("checkpoints/encoder/step_*")]
    return [int(name) for name in names if name.isdigit()]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def test_a_note_is_a_line_on_stderr_that_one_process_prints(monkeypatch, capsys):
    distributed.say("two spellings")
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    distributed.say("said by another process")
    assert capsys.readouterr() == ("", "note: two spellings\n")


def test_memory_that_runs_out_here_is_no_failure_of_another_process(monkeypatch):
    monkeypatch.setattr(distributed, "is_multi_process", lambda: True)
    assert distributed.is_peer_failure(jax.errors.JaxRuntimeError("gone"))
    assert not distributed.is_peer_failure(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert distributed.is_peer_failure(ValueError("Gloo connection closed"))


def test_an_error_that_is_its_own_cause_ends_the_search_for_a_cause(monkeypatch):
    """Errors of gRPC are."""
    monkeypatch.setattr(distributed, "is_multi_process", lambda: True)
    error, cause = ValueError("outer"), ValueError("inner")
    error.__cause__, cause.__cause__ = cause, cause
    assert not distributed.is_peer_failure(error)
