import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from benchmarks import unlabelled
from benchmarks.unlabelled_results import (
    MEASURES,
    Answers,
    Evaluated,
    results_figure,
    results_table,
    summarize,
)
from gradrev_jax.errors import ConfigError
from tests.benchmarks.studies import study_options


def options_of(folder, cache_dir, backbone):
    return study_options(folder, **{"data.cache_dir": cache_dir, "model.backbone": backbone})


def test_a_system_may_have_several_words(tmp_path):
    options = unlabelled._parser().parse_args([*options_of(tmp_path, "", "alexnet"), "--leave-out=color"])
    config = unlabelled.config_of(options, "no_reversal+sane", 3)
    assert (config.reversal.weighting, config.protocol.exclude_query, config.seed) == ("off", True, 3)


def test_what_is_not_shown_is_not_computed():
    config = ConfigDict({"protocol": {"leakage": True, "baselines": ("oracle",), "strength": "1"}})
    fields = unlabelled.shown_fields(config, unlabelled.parse_way("strong:strength=2"))
    assert fields == {"leakage": False, "baselines": (), "strength": "2"}
    asked = unlabelled.shown_fields(config, unlabelled.parse_way("all:leakage=true,baselines=oracle+random"))
    assert asked == {"leakage": True, "baselines": ("oracle", "random")}


@pytest.mark.long
@pytest.mark.parametrize(
    ("left_out", "seeds"),
    [(("color",), 1), pytest.param(("color", "nothing"), 2, marks=pytest.mark.slow)],
)
def test_all_in_miniature(tmp_path, cache_dir, small_backbone, no_report, monkeypatch, left_out, seeds):
    trained = []

    def train(config, directory, really=unlabelled.trained_seconds):
        trained.append((directory.name, config.data.leave_out, config.seed))
        return really(config, directory)

    monkeypatch.setattr(unlabelled, "trained_seconds", train)
    arguments = options_of(tmp_path, cache_dir, small_backbone)
    arguments += [f"--leave-out={','.join(left_out)}", f"--seeds={seeds}"]
    result = unlabelled.main([*arguments, "--ways", "plain:", "still:strength=0,normalize=none"])
    names = [("color", ("color",)), ("nothing", ())][: len(left_out)]
    assert trained == [
        (f"no_reversal_without_{name}_{seed}", gone, seed) for seed in range(seeds) for name, gone in names
    ]
    written = json.loads((tmp_path / "results" / "unlabelled_tiny.json").read_text())
    assert written["rows"] == result["rows"]
    assert str(cache_dir) not in json.dumps(written)
    assert result["same_queries_for_all_seeds"] is (seeds == 1)  # each seed draws garments of its own
    rows = {(row["left_out"], row["way"]): row for row in result["rows"]}
    for (name, way), row in rows.items():
        runs = [run for run in written["runs"] if (run["left_out"], run["way"]) == (name, way)]
        assert [run["seed"] for run in runs] == (list(range(seeds)) if name != "mean" else [])
        for measure in MEASURES if name != "mean" else ():
            assert row["measures"][measure]["runs"] == [run[measure] for run in runs]
    assert rows["mean", "plain"]["measures"] == rows["color", "plain"]["measures"]
    if "nothing" in left_out:
        log = tmp_path / "runs" / "tiny" / "no_reversal_without_color_0" / "metrics.jsonl"
        before = log.read_text()
        again = unlabelled.main([*arguments, "--ways", "plain:", "still:strength=0,normalize=none"])
        assert again["rows"] == result["rows"]
        assert log.read_text() == before  # finished runs are not trained again
        assert rows["nothing", "plain"]["measures"]["kept@10"]["value"] is None
        assert rows["nothing", "plain"]["measures"]["near@10"]["value"] is not None
    still = rows["color", "still"]  # nothing is manipulated, so the reference's own neighbours are found
    for measure in ("hit_rate@10", "kept@10"):
        assert still["measures"][measure]["value"] == pytest.approx(still["no_manipulation"][measure])
    assert "| color | chance |" in (tmp_path / "runs" / "tiny" / "unlabelled.md").read_text()
    assert (tmp_path / "runs" / "tiny" / "unlabelled.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--leave-out=colour"], "'colour', which is no attribute"),
        (["--leave-out=color,color"], "--leave-out has a name twice"),
        (["--leave-out=color", "--ways", "a:", "a:strength=1"], "--ways has a name twice"),
        (["--leave-out=color", "--ways", "strength=1"], "a way of evaluating is NAME"),
        (["--leave-out=color", "--ways", "a:strenth=1"], "protocol has no field 'strenth'"),
        (["--leave-out=color", "--ways", "a:strength=x"], "protocol.strength = 'x': a number"),
        (["--leave-out=color", "--ways", "a:num_changes=x"], "--ways a: invalid literal"),
        (["--leave-out=color", "--ways", "a:strength"], "a way of evaluating is NAME:FIELD=VALUE"),
        (["--leave-out=color", "--systems=sharedd"], "unknown word 'sharedd'"),
        (["--leave-out=color", "--ways", "a:weights=color=2"], "protocol.weights has a weight for 'color'"),
    ],
)
def test_nothing_is_trained_if_an_option_is_wrong(tmp_path, cache_dir, small_backbone, arguments, message):
    with pytest.raises(ConfigError, match=message):
        unlabelled.main([*options_of(tmp_path, cache_dir, small_backbone), *arguments])
    assert not any(tmp_path.iterdir())


def make(rng, *, better=0.0, seeds=(0, 1, 2), shared=True, attributes=("color", "size")):
    """Two systems, of which the second has scores that are higher by a constant; some scores are missing."""
    found = []
    for seed in seeds:
        for name in attributes:
            draws = np.random.default_rng((0 if shared else seed, len(name)))
            reference = draws.integers(0, 12, 40)
            columns = rng.random((40, len(MEASURES)))
            columns[rng.random(columns.shape) < 0.3] = np.nan
            for system, more in (("a", 0.0), ("b", better)):
                answers = Answers(reference, columns + more)
                numbers = {"chance": {"kept@10": 0.25}, "no_manipulation": {"kept@10": None}}
                found.append(Evaluated(name, system, "plain", seed, answers, numbers))
    return found


@pytest.mark.parametrize("shared", [True, False])
def test_means_are_over_queries_then_seeds_and_attributes(rng, shared):
    evaluated = make(rng, shared=shared)
    result = summarize(evaluated)
    assert result["same_queries_for_all_seeds"] is shared
    for position, measure in enumerate(MEASURES):
        by_attribute = []
        for name in ("color", "size"):
            runs = [
                float(np.nanmean(each.answers.columns[:, position]))
                for each in evaluated
                if (each.left_out, each.system) == (name, "a")
            ]
            row = next(row for row in result["rows"] if (row["left_out"], row["system"]) == (name, "a"))
            assert row["measures"][measure]["runs"] == pytest.approx(runs)
            assert row["measures"][measure]["value"] == pytest.approx(np.mean(runs))
            assert row["measures"][measure]["low"] < np.mean(runs) < row["measures"][measure]["high"]
            by_attribute.append(np.mean(runs))
        mean = next(row for row in result["rows"] if (row["left_out"], row["system"]) == ("mean", "a"))
        assert mean["measures"][measure]["value"] == pytest.approx(np.mean(by_attribute))
        assert mean["chance"]["kept@10"] == 0.25


@pytest.mark.parametrize("shared", [True, False])
def test_a_constant_difference_is_certain_because_all_is_paired(rng, shared):
    result = summarize(make(rng, better=0.01, shared=shared))
    assert {each["left_out"] for each in result["differences"]} == {"color", "size", "mean"}
    for each in result["differences"]:
        assert (each["system"], each["minus"]["system"]) == ("b", "a")
        bounds = [each["low"], each["difference"], each["high"]]
        assert bounds == pytest.approx([0.01] * 3)
        assert each["significant"]
        assert each["holm"] is (each["left_out"] == "mean")


def test_the_interval_of_one_attribute_is_that_of_its_own_queries(rng):
    """Queries without another attribute, which are drawn along, change nothing but the draws."""
    both = summarize(make(rng, seeds=(0,)))
    alone = summarize([each for each in make(rng, seeds=(0,)) if each.left_out == "color"])
    for result in (both, alone):
        row = result["rows"][0]["measures"]["kept@10"]
        assert row["seed_sd"] is None
        assert 0.1 < row["high"] - row["low"] < 0.5
    assert alone["rows"][-1]["measures"] == alone["rows"][0]["measures"]


def test_table_and_figure_leave_out_what_nothing_has(rng):
    evaluated = make(rng)
    for each in evaluated:
        each.answers.columns[:, list(MEASURES).index("near@10")] = np.nan
    result = summarize(evaluated)
    text = results_table(result)
    assert "near@10" not in text
    assert text.count("| **a, plain** |") == 3
    assert "Mean differences to a, plain" in text
    labels = [axes.get_ylabel() for axes in results_figure(result).axes]
    assert [label.splitlines()[1] for label in labels] == [name for name in MEASURES if name != "near@10"]


def test_seeds_with_the_same_queries_are_resampled_together(rng):
    """Three seeds with the same scores have the interval of one, which draws of their own would narrow."""
    one = make(rng, seeds=(0,))
    three = summarize([each._replace(seed=seed) for each in one for seed in range(3)])
    for row, single in zip(three["rows"], summarize(one)["rows"], strict=True):
        for measure, number in row["measures"].items():
            expected = single["measures"][measure]
            assert [number["low"], number["high"]] == pytest.approx([expected["low"], expected["high"]])
