import json
import subprocess
from types import SimpleNamespace

import jax
import pytest

from benchmarks import recording
from benchmarks.recording import card_model, machine_name, query_card, record


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
