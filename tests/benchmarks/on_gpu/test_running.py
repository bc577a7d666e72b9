import os
import pathlib
import sys
import time

import pytest

from benchmarks.on_gpu.running import run_step

# Starts a process in a session of its own, which stands still, as the workers of compare.py do; then waits.
LEAVES_A_WORKER = """
import pathlib, signal, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
worker.send_signal(signal.SIGSTOP)
pathlib.Path(sys.argv[1]).write_text(str(worker.pid))
print("worker started", flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    def run(code, *arguments, name="step", limit=30.0, environment=None):
        return run_step(
            name,
            [sys.executable, "-c", code, *arguments],
            limit=limit,
            log=tmp_path / "log.txt",
            environment=environment or {},
            folder=tmp_path,
        )

    return run


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whoever has ended, but was not waited for, is a zombie.
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def until_gone(pid):
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_a_step_prints_into_the_log_and_has_its_variables(run, tmp_path):
    outcome = run("import os; print(os.environ['ANSWER'])", environment={"ANSWER": "42"})
    assert (outcome.name, outcome.status, outcome.why, outcome.printed) == ("step", "ok", "", "42")
    assert outcome.seconds > 0
    run("print('after')", name="second")
    log = (tmp_path / "log.txt").read_text()
    assert log.index("===== step:") < log.index("42") < log.index("===== second:") < log.index("after")


def test_a_failed_step_says_why(run):
    outcome = run("print('begun'); raise ValueError('too large')")
    assert (outcome.status, outcome.why) == ("failed", "ValueError: too large")
    assert outcome.printed.startswith("begun")
    assert run("import sys; sys.exit(7)").why == "exit status 7"


def test_a_program_that_is_not_there_is_a_failure_too(tmp_path):
    settings = {"log": tmp_path / "log.txt", "environment": {}, "folder": tmp_path}
    outcome = run_step("step", ["no-such-program"], limit=5, **settings)
    assert outcome.status == "failed"
    assert "no-such-program" in outcome.why


@pytest.mark.long
@pytest.mark.parametrize("ends", ["wait", "end"])
def test_nothing_of_a_step_is_left(run, tmp_path, ends):
    limit = 3.0 if ends == "wait" else 30.0
    outcome = run(LEAVES_A_WORKER, str(tmp_path / "pid"), ends, limit=limit)
    assert outcome.status == ("killed at its limit" if ends == "wait" else "ok")
    assert "worker started" in (tmp_path / "log.txt").read_text()
    until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.long
def test_a_step_that_will_not_end_is_ended(run):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    start = time.monotonic()
    outcome = run(stubborn, limit=1.0)
    assert outcome.status == "killed at its limit"
    assert time.monotonic() - start < 20


def test_without_time_left_nothing_is_begun(run, tmp_path):
    assert run("print('begun')", limit=0.0).status == "not run: no time left"
    assert not (tmp_path / "log.txt").exists()


def test_of_a_progress_bar_the_last_state_is_printed(run):
    outcome = run("print('10%\\r50%\\r100%'); print('done')")
    assert outcome.printed.splitlines() == ["100%", "done"]
