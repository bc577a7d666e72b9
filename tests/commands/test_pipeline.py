"""Training, evaluating, comparing and exporting one run, by the commands that a person types."""

import json
import shutil

import pytest

from gradrev_jax.weights.reader import read_state_dict

TINY = (
    "--config=configs/garments.py --config.data.count=120 --config.data.test_fraction=0.4 "
    "--config.model.width=0.03125 --config.model.feature_dim=4 --config.train.batch_size=8 "
    "--config.train.epochs=1 --config.protocol.ks=(1,5) --config.protocol.batch_size=10 "
    "--config.stages=('encoder','memory') --config.memory.triplets=16 --config.memory.batch_size=4 "
    "--config.memory.epochs=1 --config.memory.learning_rate=1e-3"
).split()


def read_json(path):
    return json.loads(path.read_text())


@pytest.mark.long
def test_a_run_is_trained_evaluated_compared_and_exported(call, tmp_path, cache_dir):
    run, strong, out = tmp_path / "run", tmp_path / "strong", tmp_path / "out"
    trained = call("train", *TINY, f"--workdir={run}", f"--config.data.cache_dir={cache_dir}")
    assert trained.status == 0, trained.err
    assert trained.out == f"\nNext: python evaluate.py --workdir={run}\n"
    assert all(f"{stage}: step" in trained.err for stage in ("encoder", "memory"))
    assert "\r" not in trained.err, "a file gets lines, and no progress bar"

    prototypes = call("evaluate", f"--workdir={run}", "--stage=encoder")
    assert (prototypes.status, "\r" in prototypes.err) == (0, False)
    shutil.copytree(run, strong)
    shutil.rmtree(strong / "report_encoder")
    assert call("evaluate", f"--workdir={run}", "--step=latest").status == 0
    evaluated = call("evaluate", f"--workdir={strong}", "--protocol.strength=3", "--protocol.ks=(1,5,20)")
    assert evaluated.status == 0, evaluated.err
    assert list(read_json(strong / "report" / "metrics.json")["hit_rate"]) == ["1", "5", "20"]
    assert "hit_rate" in evaluated.out
    assert "@20" in evaluated.out
    assert evaluated.out.endswith(f"\nReport: {strong / 'report' / 'report.md'}\n")

    compared = call("compare", f"once={run}", strong, f"--out={out}")
    assert compared.status == 0, compared.err
    assert "once - strong" in compared.out
    assert compared.out.endswith(f"Report: {out / 'comparison.md'}\n")
    names = {path.name for path in out.iterdir()}
    queries = {f"query_{number}.png" for number in range(1, 7)}
    assert names == queries | {"comparison.md", "comparison.json", "hit_rate.png", "cross_accuracy.png"}
    check_comparison(
        read_json(out / "comparison.json"),
        {"once": run / "report", "once, prototypes alone": run / "report_encoder"},
    )

    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"count": 120', '"count": 100'))
    assert call("compare", run, f"--out={out}").status == 0
    assert "Left out: the catalogue of" in (out / "comparison.md").read_text()

    exported = call("export_torch", f"--workdir={strong}", f"--out={tmp_path / 'weights'}")
    assert exported.out.split() == [f"{tmp_path}/weights/{name}.pth" for name in ("extractor", "memory")]
    assert read_state_dict(tmp_path / "weights" / "memory.pth").keys() == {"Memory.weight"}


def check_comparison(comparison, reports):
    """Checks that a comparison has the numbers of two reports, and of a third at another strength."""
    assert comparison["ks"] == [1, 5]
    systems = {system["name"]: system for system in comparison["systems"]}
    assert list(systems) == [*reports, "strong"]
    assert [each["strength"] for each in comparison["systems"]] == [[1.0], [1.0], [3.0]]
    for name, report in reports.items():
        metrics = read_json(report / "metrics.json")
        for field in ("representation", "normalize", "look", "edit", "strength"):
            assert systems[name][field] == [metrics[field]]
        for metric in ("hit_rate", "ndcg_target"):
            found = systems[name]["metrics"][f"{metric}@5"]
            assert found["value"] == pytest.approx(metrics[metric]["5"], abs=1e-6)
            assert [found["low"], found["high"]] == pytest.approx(metrics["intervals"][metric]["5"], abs=1e-6)
        for mean in ("macro", "micro"):
            found = systems[name]["metrics"][f"accuracy_{mean}"]
            assert found["value"] == pytest.approx(metrics["attribute_accuracy"][mean])
            interval = metrics["intervals"]["attribute_accuracy"][mean]
            assert [found["low"], found["high"]] == pytest.approx(interval)
