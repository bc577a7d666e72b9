import json
import shutil

import numpy as np
import pytest

from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.comparison.numbers import compare_systems
from gradrev_jax.evaluation.comparison.systems import read_systems
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.evaluation.scores import read_scores
from gradrev_jax.runs import builders, workdir
from gradrev_jax.training.run import train
from tests.short_report import write_short_report

KS = (1, 10, 30)


@pytest.fixture(scope="module")
def config_of(make_tiny_config, small_backbone):
    def make(*left_out):
        config = make_tiny_config()
        config.data.count, config.data.leave_out = 100, left_out
        config.model.backbone = small_backbone
        config.train.max_steps = 1
        config.protocol.ks = KS
        return config

    return make


@pytest.fixture(scope="module", autouse=True)
def no_report():
    """Reports without pictures and text, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "write_report", write_short_report)
        yield


@pytest.fixture(scope="module")
def trained(config_of, tmp_path_factory):
    """A run that was never told the color and the sleeve, and its metrics."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(config_of("color", "sleeve"), directory, progress=False)
    return directory, evaluate(directory, progress=False)


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """A run that was told everything, and evaluated."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    train(config_of(), directory, progress=False)
    evaluate(directory, progress=False)
    return directory


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def test_parts_do_not_depend_on_what_is_left_out(config_of):
    whole, rest = (builders.open_catalogue(config_of(*names)) for names in ((), ("color", "sleeve")))
    assert whole.unlabelled is None
    for part, rows in whole.parts.items():
        np.testing.assert_array_equal(rest.parts[part], rows)


@pytest.mark.long
def test_the_run_knows_nothing_of_what_is_left_out(trained):
    directory, metrics = trained
    names = ("category", "length", "neckline", "pattern")
    assert workdir.read_schema(directory).names == names
    assert tuple(metrics["attribute_accuracy"]["per_attribute"]) == names


def test_metrics_are_the_means_over_queries_of_what_the_nearest_keep(trained, config_of):
    """Counted from the labels and the ten nearest that the report has, without any of the code measured."""
    directory, metrics = trained
    scores = read_scores(directory / "report" / "queries.npz")
    catalogue = builders.open_catalogue(config_of())
    for name in ("color", "sleeve"):
        labels = catalogue.part_labels("test")[:, catalogue.schema.names.index(name)].tolist()
        kept, among = [], []
        for query, own in enumerate(scores.reference.tolist()):
            others = [row for row in scores.neighbors[query].tolist() if row != own]
            right = [row for row in others if (scores.labels[row] == scores.targets[query]).all()]
            if labels[own] >= 0:
                kept.append(np.mean([labels[row] == labels[own] for row in others]))
                if right:
                    among.append(np.mean([labels[row] == labels[own] for row in right]))
        found = metrics["unlabelled"][name]
        assert found["kept@10"] == pytest.approx(np.mean(kept))
        assert found["kept_among_matches@10"] == pytest.approx(np.mean(among))
        assert 0 < found["chance"] < 1
        assert 0 < found["chance_among_matches"] < 1
        assert {"kept@30", "ndcg@30"} <= set(found)
        assert set(found["no_manipulation"]) == {key for key in found if "@" in key}
        low, high = found["intervals"]["kept@10"]
        assert low <= found["kept@10"] <= high


def test_scores_of_every_query_are_stored(trained):
    directory, metrics = trained
    scores = read_scores(directory / "report" / "queries.npz")
    for name, found in metrics["unlabelled"].items():
        for metric, stored in (("kept", "kept"), ("kept_among_matches",) * 2, ("ndcg", "ndcg_kept")):
            columns = np.nanmean(scores.by_metric[f"{stored}.{name}"][:, 1:], axis=0)
            np.testing.assert_allclose(columns, [found[f"{metric}@{k}"] for k in KS[1:]], rtol=1e-5)


def test_metrics_say_how_near_the_results_are_in_what_no_label_names(trained, config_of):
    directory, metrics = trained
    scores, catalogue = (
        read_scores(directory / "report" / "queries.npz"),
        builders.open_catalogue(config_of()),
    )
    assert list(metrics["nuisances"]) == list(catalogue.nuisances.names)
    width = catalogue.nuisances.values[catalogue.parts["test"], catalogue.nuisances.names.index("width")]
    apart = [abs(a - b) for n, a in enumerate(width) for b in width[:n]]
    near = []
    for query, own in enumerate(scores.reference.tolist()):
        others = [row for row in scores.neighbors[query].tolist() if row != own]
        near.append(np.mean([1 - abs(width[row] - width[own]) / np.mean(apart) for row in others]))
    found = metrics["nuisances"]["width"]
    assert found["near@10"] == pytest.approx(np.mean(near))
    assert set(found) == {"near@10", "near@30", "intervals", "no_manipulation"}
    np.testing.assert_allclose(scores.by_metric["near.width"][:, 1], near, rtol=1e-4, atol=1e-5)


def test_a_cut_off_below_ten_is_shown_where_there_is_no_other(run):
    found = evaluate(run, protocol={"ks": (1, 3)}, progress=False)["unlabelled"]["color"]
    assert {key for key in found if "@" in key} == {"kept@3", "kept_among_matches@3", "ndcg@3"}


def test_no_reference_with_a_label_gives_no_number(run, monkeypatch):
    opened = builders.open_catalogue

    def nothing_known(*given):
        catalogue = opened(*given)
        catalogue.unlabelled.labels[:] = -1
        return catalogue

    monkeypatch.setattr(builders, "open_catalogue", nothing_known)
    found = evaluate(run, progress=False)["unlabelled"]["color"]
    assert found["kept@10"] is found["chance"] is found["no_manipulation"]["ndcg@30"] is None
    assert found["intervals"]["kept@10"] == [None, None]
    assert json.loads((run / "report" / "metrics.json").read_text())["unlabelled"]["color"] == found


@pytest.mark.long
def test_runs_that_left_something_out_compare_and_no_others(run, trained, whole):
    systems, schema = read_systems([str(trained[0]), f"other={run}"])
    compared = compare_systems(systems, schema)
    assert not any("kept" in name for name in compared["systems"][0]["metrics"])
    with pytest.raises(WorkdirError, match=r"other attributes or values: data.leave_out is \['color'"):
        read_systems([str(run), str(whole)])


def test_a_run_goes_on_without_the_attributes_and_with_no_others(run, config_of):
    config = config_of("color", "sleeve")
    config.train.max_steps = 2
    assert train(config, run, progress=False).step == 2
    with pytest.raises(WorkdirError, match=r'data.leave_out: \["color", "sleeve"\] there, \["color"\] now'):
        train(config_of("color"), run, progress=False)


def test_a_run_from_before_left_nothing_out(whole, tmp_path):
    before = tmp_path / "run"
    shutil.copytree(whole, before)
    config = workdir.read_json(before / "config.json")
    del config["data"]["leave_out"]
    workdir.write_json(before / "config.json", config)
    assert workdir.read_config(before)["data"]["leave_out"] == ()
    assert "unlabelled" not in evaluate(before, progress=False)


def test_an_unknown_name_is_told_with_its_field(config_of, tmp_path):
    with pytest.raises(ConfigError, match=r"'colour'.*did you mean color\? \(config: data.leave_out\)"):
        train(config_of("colour"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
