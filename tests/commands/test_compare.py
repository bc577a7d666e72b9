import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.training.run import train

ROOT = pathlib.Path(__file__).parents[2]


def compare(*arguments):
    command = [sys.executable, "-m", "gradrev_commands.compare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def runs(tiny_config, tmp_path):
    """A trained run with its memory, evaluated with and without it, and the same at another strength."""
    tiny_config.data.count = 120
    tiny_config.train.epochs = 1
    tiny_config.stages = ("encoder", "memory")
    tiny_config.memory.update({"triplets": 16, "batch_size": 4, "epochs": 1, "learning_rate": 1e-3})
    tuned, strong = tmp_path / "tuned", tmp_path / "strong"
    train(tiny_config, tuned, progress=False)
    for stage in tiny_config.stages:
        evaluate(tuned, stage=stage, progress=False)
    shutil.copytree(tuned, strong)
    shutil.rmtree(strong / "report_encoder")
    evaluate(strong, protocol={"strength": "3", "ks": (1, 5, 20)}, progress=False)
    return tuned, strong


def test_runs_are_compared_as_typed(runs, tmp_path):
    tuned, strong = runs
    out = tmp_path / "out"
    result = compare(f"once={tuned}", strong, f"--out={out}")
    assert result.returncode == 0, result.stderr
    names = {path.name for path in out.iterdir()}
    queries = {f"query_{number}.png" for number in range(1, 7)}
    assert names == queries | {"comparison.md", "comparison.json", "hit_rate.png", "cross_accuracy.png"}
    comparison = json.loads((out / "comparison.json").read_text())
    assert comparison["ks"] == [1, 5]
    systems = {system["name"]: system for system in comparison["systems"]}
    assert list(systems) == ["once", "once, prototypes alone", "strong"]
    for name, report in (("once", tuned / "report"), ("once, prototypes alone", tuned / "report_encoder")):
        metrics = json.loads((report / "metrics.json").read_text())
        for metric in ("hit_rate", "ndcg_target"):
            found = systems[name]["metrics"][f"{metric}@5"]
            assert found["value"] == pytest.approx(metrics[metric]["5"], abs=1e-6)
            assert [found["low"], found["high"]] == pytest.approx(metrics["intervals"][metric]["5"], abs=1e-6)
        for mean in ("macro", "micro"):
            found = systems[name]["metrics"][f"accuracy_{mean}"]
            assert found["value"] == pytest.approx(metrics["attribute_accuracy"][mean])
            assert [found["low"], found["high"]] == pytest.approx(
                metrics["intervals"]["attribute_accuracy"][mean]
            )
    assert [each["strength"] for each in comparison["systems"]] == [[1.0], [1.0], [3.0]]
    assert "once - strong" in result.stdout
    assert f"Report: {out / 'comparison.md'}" in result.stdout

    (tuned / "config.json").write_text(
        (tuned / "config.json").read_text().replace('"count": 120', '"count": 100')
    )
    again = compare(tuned, f"--out={out}")
    assert again.returncode == 0, again.stderr
    assert "Left out: the catalogue of" in (out / "comparison.md").read_text()


def test_what_cannot_be_compared_says_why_in_one_message_and_writes_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"stages": ["encoder"]}')
    for arguments, message in (
        ([], "no run to compare; give their folders"),
        ([tmp_path / "run"], f"evaluate it first: python evaluate.py --workdir={tmp_path / 'run'}"),
    ):
        result = compare(*arguments, f"--out={tmp_path / 'out'}")
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
    result = compare(tmp_path / "none", f"--out={tmp_path}")
    assert "holds other files" in result.stderr
