import argparse
import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from benchmarks import card, compare, evaluation, recording, search
from benchmarks.recording import RESULTS, card_model, machine_name, parse_flags, query_card, record


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx_4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA GH200 480GB", "gh200"),
    ],
)
def test_results_of_a_card_are_filed_under_its_model(kind, model, monkeypatch):
    assert card_model(kind) == model
    device = SimpleNamespace(platform="gpu", device_kind=kind)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert machine_name() == model


def test_results_of_a_processor_are_filed_under_cpu():
    assert machine_name() == "cpu"


def test_a_result_that_cannot_be_written_leaves_the_one_before(tmp_path, capsys):
    path = tmp_path / "new" / "result.json"
    record(path, {"figure": 1})
    assert f"written to {path}" in capsys.readouterr().out
    with pytest.raises(TypeError):
        record(path, {"figure": object()})
    assert json.loads(path.read_text())["figure"] == 1
    record(path, {"figure": 2}, quiet=True)
    assert json.loads(path.read_text())["figure"] == 2
    assert capsys.readouterr().out == ""
    assert [each.name for each in path.parent.iterdir()] == ["result.json"]


def test_a_card_is_asked_once_and_its_silence_is_no_error(monkeypatch):
    def answer(command, **_):
        assert command[1] == "--query-gpu=driver_version"
        return SimpleNamespace(stdout="580.159.04\n580.159.04\n")

    monkeypatch.setattr(subprocess, "run", answer)
    assert query_card("driver_version") == "580.159.04"

    def fail(command, **_):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(recording.subprocess, "run", fail)
    assert query_card("driver_version") is None


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in place of this one, in which ``git`` commands can be run."""
    monkeypatch.setattr(recording, "ROOT", tmp_path)
    monkeypatch.setattr(recording, "RESULTS", tmp_path / "results")
    recording.checkout.cache_clear()

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        recording.checkout.cache_clear()
        return done.stdout.strip()

    yield git
    recording.checkout.cache_clear()


def test_a_result_has_the_commit_and_whether_files_differ_from_it(repository, tmp_path):
    assert recording.checkout() == {"commit": None, "changed": None}
    (tmp_path / "results").mkdir()
    for name in ("code.py", "results/a.json"):
        (tmp_path / name).write_text("1")
    repository("init", "-q")
    repository("add", ".")
    repository("commit", "-qm", "first")
    commit = repository("rev-parse", "HEAD")
    assert recording.checkout() == {"commit": commit, "changed": False}
    (tmp_path / "results" / "a.json").write_text("2")
    repository("status")
    assert recording.checkout() == {"commit": commit, "changed": False}
    (tmp_path / "code.py").write_text("2")
    repository("status")
    assert recording.checkout() == {"commit": commit, "changed": True}
    record(tmp_path / "result.json", {})
    written = json.loads((tmp_path / "result.json").read_text())
    assert (written["commit"], written["changed"]) == (commit, True)


def test_a_result_names_no_folder_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_deterministic_ops=true --xla_dump_to={tmp_path}")
    record(tmp_path / "result.json", {})
    written = (tmp_path / "result.json").read_text()
    for private in (str(recording.ROOT), sys.prefix, str(tmp_path)):
        assert private not in written
    assert json.loads(written)["settings"]["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"


@pytest.fixture
def parser():
    made = argparse.ArgumentParser()
    made.add_argument("--out", type=pathlib.Path)
    made.add_argument("--tiny", action="store_true")
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--torch")
    made.add_argument("--set", nargs="*", default=[])
    return made


def test_a_trial_is_written_elsewhere_unless_a_folder_is_given(parser, tmp_path, monkeypatch):
    monkeypatch.setattr(recording.tempfile, "tempdir", str(tmp_path))
    assert parse_flags(parser, []).out == RESULTS
    assert list(tmp_path.iterdir()) == []
    assert parse_flags(parser, ["--tiny"]).out.parent == tmp_path
    assert parse_flags(parser, [], is_trial=lambda options: options.repeats == 3).out.parent == tmp_path
    assert parse_flags(parser, ["--tiny", "--out=here"]).out == pathlib.Path("here")


def test_a_result_has_the_flags_that_are_no_paths(parser, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--tiny", "--torch=python3", f"--out={tmp_path}"])
    options = parse_flags(parser, None)
    record(tmp_path / "result.json", {"figure": 1}, about=options.about)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["tiny"] is True
    assert written["flags"] == {"tiny": True, "repeats": 3, "set": []}
    assert str(tmp_path) not in json.dumps(written)
    about = parse_flags(parser, ["--set", "data.root=/home", "a=1"]).about
    assert about == {"flags": {"out": None, "tiny": False, "repeats": 3, "torch": None}}


@pytest.mark.parametrize(
    ("benchmark", "flags", "is_trial"),
    [
        (card, ["--tiny"], True),
        (card, [], False),
        (search, ["--tiny"], True),
        (search, ["--skip-manipulations"], False),
        (compare, ["--tiny", "--part=a"], True),
        (compare, ["--only", "inference"], True),
        (compare, ["--match=batch"], True),
        (compare, ["--only", "inference", "--part=inference"], False),
        (compare, ["--repeats=9"], False),
        (evaluation, ["--gallery=70"], True),
        (evaluation, ["--repeats=9"], False),
    ],
)
def test_only_whole_measurements_replace_recorded_ones(benchmark, flags, is_trial, monkeypatch, tmp_path):
    def stop(*arguments, **options):
        raise InterruptedError(parse_flags(*arguments, **options).out)

    monkeypatch.setattr(recording.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(benchmark, "parse_flags", stop)
    with pytest.raises(InterruptedError) as stopped:
        benchmark.main(flags)
    assert (stopped.value.args[0] != RESULTS) == is_trial


def test_no_recorded_result_is_a_trial():
    results = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    assert results
    assert not any(result.get("tiny") for result in results)
