import pathlib
import time

import pytest

from benchmarks.program_cache import PROGRAM_CACHE
from benchmarks.side_by_side import turns
from benchmarks.side_by_side.cases import VARIANTS, Case, tiny
from benchmarks.side_by_side.turns import Worker, WorkerError, measure, measure_together, reason

CASE = Case("inference", {"image": 64}, ("gradrev_jax", "torch", "torch compile"), 3, warm_up=1)


class Scripted:
    """A worker whose turns take the seconds that a script says, and that fails where it says an error."""

    log: list[str]
    script: dict

    def __init__(self, side, kind, arguments, device):
        self.name = next(name for name, what in VARIANTS.items() if what == (side, dict(arguments) - IMAGE))
        self.turns = iter(self.script[self.name])

    def start(self):
        self.log.append(f"start {self.name}")
        return {"import": 1.0, "prepare": 2.0, "first": 3.0}

    def turn(self):
        self.log.append(self.name)
        seconds = next(self.turns)
        if isinstance(seconds, str):
            raise WorkerError(seconds)
        return {"seconds": seconds, "peak_bytes": 2**30 * seconds, "units": 10, "parts": {"a": seconds / 2}}

    def kill(self):
        self.log.append(f"kill {self.name}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append(f"end {self.name}")


class Without(dict):
    def __rsub__(self, other):
        return {name: value for name, value in other.items() if name not in self}


IMAGE = Without(image=64)


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(turns, "Worker", Scripted)
    monkeypatch.setattr(Scripted, "log", [], raising=False)
    return lambda script: monkeypatch.setattr(Scripted, "script", script, raising=False)


def test_all_are_warmed_up_and_then_take_turns(scripted):
    scripted({"gradrev_jax": [9, 1, 4, 2], "torch": [9, 2, 2, 2], "torch compile": [9, 5, 5, 6]})
    measured = measure(CASE, "cpu", arguments={"image": 64}, skip={})
    assert Scripted.log == [
        *("start gradrev_jax", "gradrev_jax", "start torch", "torch", "start torch compile", "torch compile"),
        *(["gradrev_jax", "torch", "torch compile"] * 3),
        *("end torch compile", "end torch", "end gradrev_jax"),
    ]
    ours = measured["results"]["gradrev_jax"]
    assert ours["median_seconds"] == 2
    assert (ours["least_seconds"], ours["most_seconds"], ours["turns"]) == (1, 4, 3)
    assert ours["units_per_second"] == 5
    assert (ours["first_seconds"], ours["seconds_to_first"]) == (3, 6)
    assert ours["peak_memory_gib"] == 4
    assert ours["median_seconds_of_parts"] == {"a": 1}
    assert measured["skipped"] == {}


def test_what_fails_or_is_not_there_is_skipped_and_the_others_go_on(scripted):
    scripted({"gradrev_jax": [9, 1, 1, 1], "torch": ["out of memory"], "torch compile": ["out of memory"]})
    measured = measure(CASE, "cpu", arguments={"image": 64}, skip={})
    assert list(measured["results"]) == ["gradrev_jax"]
    assert measured["skipped"] == {"torch": "out of memory", "torch compile": "out of memory"}
    measured = measure(
        CASE, "cpu", arguments={"image": 64}, skip={"torch": "not installed", "jax": "neither"}
    )
    assert measured["results"] == {}
    assert measured["skipped"] == dict.fromkeys(CASE.variants, "not installed") | {"gradrev_jax": "neither"}


def test_a_variant_that_fails_when_it_is_measured_has_no_result(scripted):
    scripted({"gradrev_jax": [9, 1, 1, 1], "torch": [9, 1, "killed"], "torch compile": [9, 1, 1, 1]})
    measured = measure(CASE, "cpu", arguments={"image": 64}, skip={})
    assert list(measured["results"]) == ["gradrev_jax", "torch compile"]
    assert measured["skipped"] == {"torch": "killed"}


def test_together_all_start_before_any_is_measured(scripted):
    scripted({"gradrev_jax": [9, 1, 4, 2], "torch": [9, 2, 2, 2], "torch compile": [9, 5, 5, 6]})
    planned = [(CASE, {"image": 64})] * 2
    cases = list(measure_together(planned, "cuda", skip={}))
    first_turn = Scripted.log.index("gradrev_jax", Scripted.log.index("torch compile") + 1)
    turns_each = CASE.repeats * len(CASE.variants)
    assert Scripted.log[:4] == ["start gradrev_jax", "gradrev_jax", "start torch", "torch"]
    started = {line for line in Scripted.log[-2 * turns_each :] if line.startswith("start")}
    assert not started
    assert first_turn > Scripted.log.index("start torch compile")
    kills = [at for at, line in enumerate(Scripted.log) if line.startswith("kill")]
    assert len(kills) == 2 * len(CASE.variants)
    for case in cases:
        assert {name: found["median_seconds"] for name, found in case["results"].items()} == {
            "gradrev_jax": 2,
            "torch": 2,
            "torch compile": 5,
        }
    timed = [
        {name for name, found in case["results"].items() if "seconds_to_first" in found} for case in cases
    ]
    assert timed == [{"gradrev_jax", "torch"}, set()]  # whose starts nothing disturbed


def test_together_a_variant_that_does_not_fit_leaves_the_others(scripted):
    scripted({"gradrev_jax": [9, 1, 1, 1], "torch": ["out of memory"], "torch compile": ["out of memory"]})
    (case,) = measure_together([(CASE, {"image": 64})], "cuda", skip={})
    assert list(case["results"]) == ["gradrev_jax"]
    assert case["skipped"] == {"torch": "out of memory", "torch compile": "out of memory"}
    (case,) = measure_together([(CASE, {"image": 64})], "cuda", skip={"torch": "not installed"})
    assert case["skipped"] == {"torch": "not installed", "torch compile": "not installed"}


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (["Traceback (most recent call last):", "  raise", "ValueError: no", "", "note"], "ValueError: no"),
        (["torch.OutOfMemoryError: CUDA out of memory.\n", "--------------------\n"],
         "torch.OutOfMemoryError: CUDA out of memory."),
        (["Killed"], "Killed"),
        ([], ""),
    ],
)  # fmt: skip
def test_of_what_a_worker_printed_the_error_counts(printed, why):
    assert reason(printed) == why


def test_a_worker_that_ends_says_why():
    with (
        Worker("jax", "no_such_kind", {}, "cpu") as worker,
        pytest.raises(WorkerError, match="AttributeError: .* has no attribute 'no_such_kind'"),
    ):
        worker.start()


def test_no_worker_finds_programs_of_an_earlier_run(monkeypatch):
    for name in PROGRAM_CACHE:
        monkeypatch.setenv(name, "1")
    environments = []
    monkeypatch.setattr(turns.subprocess, "Popen", lambda *_, env, **__: environments.append(env))
    Worker("jax", "inference", {}, "cpu")._errors.close()
    assert not set(environments[0]).intersection(PROGRAM_CACHE)
    assert environments[0]["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] == "1"


def state(worker):
    """The letter that Linux has for what a process does: T, it is stopped."""
    return pathlib.Path(f"/proc/{worker._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@pytest.mark.slow
def test_a_worker_stands_still_between_its_turns():
    case = next(case for case in tiny(False) if case.kind == "inference")
    with Worker("jax", case.kind, case.sizes, "cpu") as worker:
        worker.start()
        time.sleep(0.1)
        assert state(worker) == "T"
        assert worker.turn()["units"] == 4
        time.sleep(0.1)
        assert state(worker) == "T"
    assert worker._process.returncode == 0
