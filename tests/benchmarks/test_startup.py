import json
import sys

import pytest

from benchmarks import startup
from benchmarks.startup import FIRST, SECOND, TORCH, Place, main

# Stands in for a command: writes a record late, or ends at once.
TRAIN = """
import pathlib, sys, time
run = next(pathlib.Path(each.partition("=")[2]) for each in sys.argv if each.startswith("--workdir"))
run.mkdir()
assert "--config.train.log_every=1" in sys.argv
time.sleep(0.2)
(run / "metrics.jsonl").write_text("{}")
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "ROOT", tmp_path)
    return Place(tmp_path)


def test_a_training_is_timed_until_the_record_of_its_first_step_and_then_ended(place, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    assert 0.2 < place.first_step("a") < 30
    assert 0.2 < place.first_step("a") < 30  # a new run each time


def test_a_training_that_ends_before_is_an_error_with_what_it_said(place, tmp_path):
    (tmp_path / "train.py").write_text("raise SystemExit('no such config')")
    with pytest.raises(RuntimeError, match="no such config"):
        place.first_step("a")
    with pytest.raises(RuntimeError, match="train has failed: no such config"):
        place.train("a")


def test_first_starts_have_no_programs_and_the_others_those_of_the_first(place, tmp_path, monkeypatch):
    programs = tmp_path / "caches" / "gradrev_jax" / "programs"
    seen = []

    def first_step(self, name, fields=()):
        seen.append(programs.exists())
        programs.mkdir(parents=True, exist_ok=True)
        return len(seen)

    monkeypatch.setattr(Place, "first_step", first_step)
    assert startup.measure_training(place, "train", (), 2) == {FIRST: [2, 4], SECOND: [3, 5]}
    assert seen == [False, False, True, False, True]


def test_evaluations_find_what_was_measured_only_where_that_is_timed(place, tmp_path, monkeypatch):
    results = tmp_path / "caches" / "gradrev_jax" / "results"
    seen = []

    def whole(self, command, *arguments):
        if command == "evaluate":
            seen.append(results.exists())
            results.mkdir(parents=True, exist_ok=True)
        return len(seen)

    monkeypatch.setattr(Place, "whole", whole)
    assert startup.measure_evaluation(place, 2) == {
        "evaluate": {FIRST: [1], SECOND: [2, 4]},
        "evaluate_again": {SECOND: [3, 5]},
    }
    assert seen == [False, False, True, False, True]


def test_the_environment_chooses_no_other_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "ROOT", tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    (tmp_path / "show.py").write_text(
        "import os; assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ; print(os.environ['XDG_CACHE_HOME'])"
    )
    Place(tmp_path).whole("show")
    assert (tmp_path / "log").read_text().strip() == str(tmp_path / "caches")


def test_a_python_without_torch_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(startup, "measure_training", lambda *_: pytest.fail("something was measured"))
    with pytest.raises(SystemExit):
        main(["--tiny", f"--torch={sys.executable}", f"--out={tmp_path}"])
    assert f"--torch={sys.executable}: ImportError: no torch here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--tiny", "--torch=no_such_python", f"--out={tmp_path}"])
    assert "--torch=no_such_python: " in capsys.readouterr().err


def test_the_version_and_the_threads_of_the_other_python_are_recorded(tmp_path, monkeypatch):
    seconds = {FIRST: [1.0], SECOND: [1.0]}
    monkeypatch.setattr(startup, "measure_training", lambda *_: dict(seconds))
    monkeypatch.setattr(startup, "measure_evaluation", lambda *_: {"evaluate": dict(seconds)})
    monkeypatch.setattr(startup, "measure_torch", lambda *_: [1.0])
    monkeypatch.setattr(startup, "TORCH_VERSION", "print('a warning'); print('9.8+cpu', 3)")
    main(["--tiny", f"--torch={sys.executable}", f"--out={tmp_path}"])
    text = (tmp_path / "startup_cpu.json").read_text()
    written = json.loads(text)
    assert (written["versions"]["torch"], written["torch_threads"]) == ("9.8+cpu", 3)
    assert written["versions"]["jax"]
    assert sys.executable not in text


@pytest.mark.slow
def test_everything_can_be_measured_and_is_written(tmp_path):
    pytest.importorskip("torch")
    result = main(["--tiny", "--repeats=1", f"--torch={sys.executable}", f"--out={tmp_path}"])
    assert result["seconds"]["train"].keys() == {FIRST, SECOND, TORCH}
    assert result["seconds"]["evaluate"].keys() == {FIRST, SECOND}
    assert result["seconds"]["evaluate_again"].keys() == {SECOND}
    written = json.loads((tmp_path / "startup_cpu.json").read_text())
    assert written["seconds"] == result["seconds"]
    assert written["versions"]["jax"]
