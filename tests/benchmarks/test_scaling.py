import json

import pytest

from benchmarks import scaling

PARALLEL = ["1 device", "4 devices, pmap", "4 devices, jit", "2 processes, pmap"]


@pytest.mark.slow
def test_all_in_miniature(tmp_path, capsys):
    result = scaling.main(["--tiny", "--repeats=2", f"--out={tmp_path}"])
    (case,) = result["parallel"]["cases"]
    assert list(case["results"]) == PARALLEL
    losses = [variant["loss"] for variant in case["results"].values()]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-3)
    assert case["results"]["1 device"]["times_one_device"] == 1
    fields = [case["fields"] for case in result["input"]["cases"]]
    assert {(each["data.placement"], each["train.steps_per_call"]) for each in fields} == {
        ("host", 1),
        ("host", 4),
        ("device", 1),
        ("device", 4),
    }
    assert [case["fields"]["train.steps_per_call"] for case in result["steps"]["cases"]] == [1, 4, 16]
    printed = capsys.readouterr().out
    assert "| 64 px, batch 8: 2 processes, pmap |" in printed
    assert "| placement device, steps_per_call 4 |" in printed


class Scripted:
    """Processes whose turns take the seconds that a script says."""

    def __init__(self, kind, arguments):
        assert kind == "data_parallel"
        self.name = f"{len(arguments)}x{arguments[0]['devices']}"
        self.seconds = iter({"1x1": [9, 2, 2], "1x4": [9, 3, 5], "2x1": [9, 1, 1]}[self.name])

    def start(self):
        return {"import": 1.0, "prepare": 2.0, "first": 3.0}

    def turn(self):
        self.log.append(self.name)
        return {"seconds": next(self.seconds), "peak_bytes": 2**30, "units": 8, "loss": 1.0}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_variants_are_warmed_up_and_then_take_turns(monkeypatch):
    monkeypatch.setattr(scaling, "Together", Scripted)
    monkeypatch.setattr(Scripted, "log", [], raising=False)
    measured = scaling.measure_parallel({"image": 64, "batch": 8}, repeats=2)
    assert Scripted.log == ["1x1", "1x4", "1x4", "2x1"] * 3
    ratios = {name: result["times_one_device"] for name, result in measured["results"].items()}
    assert ratios == dict(zip(PARALLEL, [1, 2, 2, 0.5], strict=True))


def test_what_is_left_out_stays(tmp_path, monkeypatch):
    (tmp_path / "scaling_cpu.json").write_text(json.dumps({"input": {"cases": []}, "cores": 99}))
    monkeypatch.setattr(scaling, "measure_steps", lambda fields, epoch: {"cases": [], "epoch": epoch})
    result = scaling.main(["--tiny", "--only", "steps", f"--out={tmp_path}"])
    written = json.loads((tmp_path / "scaling_cpu.json").read_text())
    assert written["input"] == {"cases": []}
    assert written["steps"]["epoch"] == 16
    assert set(result) == {"input", "steps"}
    assert written["cores"] != 99


def test_photographs_of_the_first_rows(tmp_path):
    rows = [f"{n}.jpg,{'test' if n % 2 else 'train'},red" for n in range(10)]
    (tmp_path / "attributes.csv").write_text("\n".join(["image,split,color", *rows]) + "\n")
    config = scaling.photographs(tmp_path, 2, tmp_path / "few.csv")
    written = (tmp_path / "few.csv").read_text().splitlines()
    assert written[1:] == [rows[0], rows[2], *rows[1::2]]
    assert config.data.table == str(tmp_path / "few.csv")


def test_a_folder_without_a_table(tmp_path, capsys):
    with pytest.raises(SystemExit):
        scaling.main([f"--photographs={tmp_path}"])
    assert f"--photographs={tmp_path}: it has no attributes.csv" in capsys.readouterr().err
