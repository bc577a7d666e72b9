import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import compare
from benchmarks.side_by_side.cases import Case


@pytest.fixture
def photographs(tmp_path, rng):
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for number in range(9):
        pixels = rng.integers(0, 256, (80, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "attributes.csv").write_text("image\n" + "".join(f"{number}.jpg\n" for number in range(9)))
    return folder


@pytest.mark.slow
def test_one_side_alone_is_measured_and_the_other_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "missing", lambda: {"torch": "torch is not installed; install it with ..."})
    result = compare.main(["--tiny", "--device=cpu", "--only", "inference", f"--out={tmp_path}"])
    (case,) = result["cases"]
    assert list(case["results"]) == ["gradrev_jax"]
    assert result["skipped"] == [
        "torch is not installed; install it with ...",
        "loading: it needs real files; give --photographs=FOLDER",
        "inference, torch: torch is not installed; install it with ...",
    ]
    written = json.loads((tmp_path / "compare_cpu.json").read_text())
    assert written["cases"] == result["cases"]
    assert written["versions"]["jax"]
    printed = capsys.readouterr().out
    assert "| inference, 64 px, batch 4 (images) |" in printed
    assert "skipped: loading: it needs real files" in printed


@pytest.mark.slow
def test_both_sides_in_miniature(tmp_path, photographs):
    pytest.importorskip("torch")
    pytest.importorskip("faiss")
    result = compare.main(["--tiny", "--device=cpu", f"--photographs={photographs}", f"--out={tmp_path}"])
    assert result["skipped"] == []
    for case in result["cases"]:
        assert list(case["results"]) == ["gradrev_jax", "torch"]
        for measured in case["results"].values():
            assert measured["units_per_second"] > 0
    (evaluation,) = [case for case in result["cases"] if case["kind"] == "evaluation"]
    assert evaluation["largest_difference_of_metrics"] < 1e-5


def test_metrics_of_both_sides_are_compared():
    results = {
        "gradrev_jax": {"metrics": {"hit_rate": {"1": 0.5}, "ndcg": {"1": 0.25}}},
        "torch": {"metrics": {"hit_rate": {"1": 0.5}, "ndcg": {"1": 0.125}}},
    }
    assert compare.disagreement(results) == 0.125
    assert compare.disagreement({"gradrev_jax": results["gradrev_jax"]}) is None


def test_a_case_is_described_with_its_warm_up_and_its_steps_per_turn():
    measured = {"results": {}, "skipped": {}}
    plain = Case("embedding_step", {"batch": 4}, (), 1, warm_up=3, options={"steps": 10})
    entry = compare.describe(plain, measured)
    assert (entry["warm_up"], entry["steps_per_turn"]) == (3, 10)
    one = Case("efficientnet_lite0", {"batch": 4}, (), 1)
    assert compare.describe(one, measured)["steps_per_turn"] == 1
    assert "steps_per_turn" not in compare.describe(Case("evaluation", {}, (), 1), measured)


def test_a_folder_without_a_table(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main([f"--photographs={tmp_path}"])
    assert f"--photographs={tmp_path}: it has no attributes.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "theirs", "picked", "said"),
    [
        ("gpu", "True", "cuda", ""),
        ("gpu", "False", "cpu", "torch found no GPU, so both sides run on the CPU\n"),
        ("gpu", None, "cuda", ""),
        ("cpu", "True", "cpu", "JAX found no GPU, so both sides run on the CPU\n"),
        ("cpu", "False", "cpu", ""),
        ("cpu", None, "cpu", ""),
    ],
)
def test_the_device_is_one_that_both_sides_have(monkeypatch, capsys, ours, theirs, picked, said):
    monkeypatch.setattr(compare, "probe", lambda code: ours if "jax" in code else theirs)
    assert compare.pick_device("auto") == picked
    assert capsys.readouterr().out == said
    assert compare.pick_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ("cpu", "True", "JAX found no GPU"),
        ("gpu", "False", "torch found no GPU"),
        ("cpu", "False", "JAX and torch found no GPU"),
        (None, None, "JAX found no GPU"),
    ],
)
def test_a_gpu_that_a_side_lacks_is_refused(monkeypatch, tmp_path, capsys, ours, theirs, why):
    monkeypatch.setattr(compare, "run", lambda *_, **__: iter(()))
    monkeypatch.setattr(compare, "probe", lambda code: ours if "jax" in code else theirs)
    with pytest.raises(SystemExit):
        compare.main(["--tiny", "--device=cuda", f"--out={tmp_path}"])
    assert f"--device=cuda: {why}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("theirs", ["True", None])
def test_a_gpu_that_all_sides_have_is_taken(monkeypatch, theirs):
    monkeypatch.setattr(compare, "probe", lambda code: "gpu" if "jax" in code else theirs)
    assert compare.pick_device("cuda") == "cuda"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(compare, "probe", lambda code: None if "faiss" in code else "")
    assert list(compare.missing()) == ["faiss"]
    assert "pip install" in compare.missing()["faiss"]
