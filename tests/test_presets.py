"""The words of configs/variants.py that the study recommends, from training to the report with all it has."""

import json

import pytest

from configs import garments
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.core.replacement import EDITS
from gradrev_jax.evaluation.choices import STRENGTHS
from gradrev_jax.evaluation.look import LOOKS
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs import builders
from gradrev_jax.runs.fields.protocol import BASELINES
from gradrev_jax.training.run import train

LARGEST = 8  # values of an attribute of garments


@pytest.fixture
def preset(cache_dir, small_backbone, tmp_path):
    """Trains a small run of a word, evaluates it, and returns its folder and the metrics."""

    def run(word, feature_dim):
        config = garments.get_config(word)
        config.data.update({"cache_dir": str(cache_dir), "count": 240, "test_fraction": 0.4})
        config.data.missing_fraction = 0.2
        # As wide as posteriors are, so that probes of both are compiled once.
        config.model.update({"backbone": small_backbone, "feature_dim": feature_dim})
        config.train.update({"batch_size": 16, "epochs": 2, "validation_fraction": 0.5})
        config.protocol.update({"ks": (1, 10), "batch_size": 48})
        assert max(builders.open_catalogue(config).schema.sizes) == LARGEST
        train(config, tmp_path / word, progress=False)
        metrics = evaluate(tmp_path / word, progress=False)
        assert json.loads((tmp_path / word / "report" / "metrics.json").read_text()) == metrics
        return tmp_path / word, metrics

    return run


def assert_complete(folder, metrics):
    """The report has the baselines and the leakage, in numbers, in words and as a picture.

    The values of other attributes outnumber the dimensions, so that erasure leaves nothing to search.
    """
    found = [name for name in BASELINES if name != "erased"]
    assert list(metrics["baselines"]) == ["no_manipulation", *found]
    for by_metric in metrics["baselines"].values():
        assert set(by_metric["hit_rate"]) == {"1", "10"}
    assert metrics["baselines"]["oracle"]["hit_rate"] == {"1": 1.0, "10": 1.0}
    assert metrics["baselines"]["oracle"]["ndcg"]["1"] == 1.0
    assert metrics["baselines"]["random"]["hit_rate"]["1"] < 0.3
    leakage = metrics["leakage"]
    assert len(leakage["matrix"]) == len(leakage["attributes"]) == 6
    for measured in (leakage, leakage["mlp"], leakage["knn"], *leakage["controls"].values()):
        assert 0 < measured["own_accuracy"] < 1
        assert -1 < measured["mean"] < 1
    assert abs(leakage["control"]["mean"]) < 0.3
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "![Leakage](leakage.png)" in text
    for name in found:
        assert f"&nbsp;&nbsp;{name.replace('_', ' ')} |" in text
    assert (folder / "report" / "leakage.png").stat().st_size > 1000


@pytest.mark.slow
def test_search_is_trained_and_evaluated(preset):
    folder, metrics = preset("search", LARGEST + 1)  # with a class for missing labels
    assert_complete(folder, metrics)
    assert (metrics["representation"], metrics["normalize"], metrics["edit"]) == ("hybrid", "none", "replace")
    assert (metrics["look"], metrics["looks_on_validation"]) == (0.5, {})
    assert (metrics["weights"], metrics["ways_on_validation"]) == (None, {})
    assert (metrics["strength"], metrics["strengths_on_validation"]) == (1.5, {})
    # The baseline is searched at its own best strength.
    plain = {"baselines": (), "leakage": False, "representation": "posterior", "strength": "validation"}
    posterior = evaluate(folder, report="posterior", protocol=plain, progress=False)
    of_baseline = metrics["baselines"]["posterior"]
    assert of_baseline == {name: posterior[name] for name in of_baseline}
    blind = {**plain, "representation": "hybrid", "look": "0"}
    no_look = evaluate(folder, report="blind", protocol=blind, progress=False)
    assert no_look["hit_rate"] == posterior["hit_rate"]
    chosen = evaluate(folder, report="chosen", protocol={**blind, "look": "validation"}, progress=False)
    assert str(chosen["look"]).removesuffix(".0") in chosen["looks_on_validation"]
    assert len(chosen["looks_on_validation"]) == len(LOOKS)


@pytest.mark.slow
def test_removed_is_trained_and_evaluated(preset):
    folder, metrics = preset("removed", LARGEST)
    assert_complete(folder, metrics)
    assert (metrics["representation"], metrics["look"]) == ("discriminant", None)
    ways = {f"{normalize}, {edit}" for normalize in NORMALIZATIONS for edit in EDITS}
    assert set(metrics["ways_on_validation"]) == ways
    best = max(metrics["ways_on_validation"].values())
    assert metrics["ways_on_validation"][f"{metrics['normalize']}, {metrics['edit']}"] == best
    assert metrics["weights_on_validation"]["equal"] == best
    assert len(metrics["strengths_on_validation"]) == len(STRENGTHS)
    again = evaluate(folder, report="again", protocol={"baselines": (), "leakage": False}, progress=False)
    assert again["hit_rate"] == metrics["hit_rate"]
    assert (again["leakage"], list(again["baselines"])) == (None, ["no_manipulation"])
