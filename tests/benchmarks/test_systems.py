import json

import numpy as np
import pytest

from benchmarks import study_figures, systems
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.metrics_log import read_records
from tests.benchmarks.studies import study_options

NUMBERS = {"hit_rate@10": 0.6, "conditional_leakage": 0.4, "mlp_conditional_leakage": 0.5}


def options_of(folder, *arguments, **fields):
    return study_options(folder, *arguments, **{"protocol.leakage": False, **fields})


def config_of(folder, system, seed, **fields):
    return systems.make_config(systems._parser().parse_args(options_of(folder, **fields)), system, seed)


def test_a_system_is_words_of_the_config(tmp_path):
    config = config_of(tmp_path, "tuned+no_reversal", 3, **{"data.correlation": 0.5, "stages": "encoder"})
    assert (config.reversal.weighting, config.seed, config.data.correlation) == ("off", 3, 0.5)
    assert (config.protocol.strength, config.stages) == ("validation", ("encoder",))


def test_an_unknown_system_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no_reversl"):
        config_of(tmp_path, "no_reversl", 0)


def test_folders_of_this_machine_are_not_recorded(tmp_path):
    arguments = options_of(tmp_path, **{"data.cache_dir": "somewhere", "data.splits": "somewhere"})
    fields = systems.recorded_fields(systems._parser().parse_args(arguments))
    assert "data.count=150" in fields
    assert not [field for field in fields if "somewhere" in field]


@pytest.mark.long
def test_every_way_of_every_run_is_recorded(tmp_path, cache_dir, small_backbone, no_report, capsys):
    fields = {"data.cache_dir": cache_dir, "model.backbone": small_backbone}
    ways = ["--ways", "plain:baselines=posterior,strength=1", "still:strength=0,normalize=none,baselines="]
    arguments = options_of(tmp_path, "--systems=shared", "--seeds=1", *ways, **fields)
    systems.main(arguments)
    line = capsys.readouterr().out.strip().splitlines()[-1]
    written = json.loads((tmp_path / "results" / "systems_tiny.json").read_text())
    assert [(run["system"], run["seed"]) for run in written["runs"]] == [("shared", 0)]
    for run in written["runs"]:
        folder = tmp_path / "runs" / "tiny" / f"{run['system']}_0"
        for way in ("plain", "still"):
            metrics = json.loads((folder / f"report_{way}" / "metrics.json").read_text())
            assert run[way]["hit_rate@10"] == metrics["hit_rate"]["10"]
            assert f"report_{way}" in line
        assert "posterior_hit_rate@10" in run["plain"]
        # Nothing is edited, so it is what no manipulation finds.
        assert run["still"]["hit_rate@10"] == pytest.approx(run["still"]["no_manipulation_hit_rate@10"])

    log = tmp_path / "runs" / "tiny" / "shared_0" / "metrics.jsonl"
    before = log.read_text()
    systems.main(arguments)
    assert log.read_text() == before  # a finished run is not trained again
    again = json.loads((tmp_path / "results" / "systems_tiny.json").read_text())
    assert [run["plain"] for run in again["runs"]] == [run["plain"] for run in written["runs"]]
    assert written["runs"][0]["training_seconds"] > 0
    assert again["runs"][0]["training_seconds"] is None  # which are not those of its training

    panels = study_figures.reversal_figure(read_records(log)).axes
    norms = [record["feature_norms"] for record in read_records(log) if "w_rev" in record]
    assert [axes.get_ylabel() for axes in panels][-1] == "mean norm of a feature"
    np.testing.assert_allclose(panels[-1].lines[0].get_ydata(), [next(iter(each.values())) for each in norms])


def test_leakage_points_are_means_over_seeds(tmp_path):
    runs = [
        {"system": "tuned+shared", "seed": seed, "features": {**NUMBERS, "hit_rate@10": rate}}
        for seed, rate in enumerate((0.5, 0.7))
    ]
    runs.append(
        {"system": "search", "seed": 0, "own": {"hit_rate@10": 0.8}}
    )  # whose leakage was not measured
    (tmp_path / "record.json").write_text(json.dumps({"runs": runs}))
    assert study_figures.leakage_points(tmp_path / "record.json") == [
        {"name": "shared, features", **NUMBERS, "hit_rate@10": pytest.approx(0.6)}
    ]
