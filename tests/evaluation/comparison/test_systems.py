import json
import shutil

import numpy as np
import pytest

from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.evaluation.comparison.systems import (
    _shown,
    common_ks,
    common_metrics,
    pair_runs,
    read_run,
    read_systems,
)


def names(*arguments):
    systems, _ = read_systems([str(argument) for argument in arguments])
    return [(system.name, len(system.runs)) for system in systems]


def test_a_run_is_read_with_its_fields_metrics_and_scores(make_run, make_scores, schema):
    directory = make_run("a", 3, protocol={"strength": "2"}, fields={"model.heads": "pairwise"})
    (system,), read = read_systems([str(directory)])
    (run,) = system.runs
    assert read == schema
    assert run.metrics["step"] == 103
    assert (run.config["model.heads"], run.config["protocol.strength"]) == ("pairwise", "2")
    np.testing.assert_array_equal(run.scores.neighbors, make_scores(3).neighbors)


def test_folders_of_one_name_are_one_system(make_run, make_scores):
    a, b, c = make_run("a", 0), make_run("b", 1), make_run("c", 2)
    assert names(f"ours={a}", c, f"ours={b}") == [("ours", 2), ("c", 1)]
    (ours, _), _ = read_systems([f"ours={a}", str(c), f"ours={b}"])
    each = [make_scores(seed) for seed in (0, 1)]
    np.testing.assert_array_equal(ours.scores((1, 30)), [scores.columns((1, 30)) for scores in each])
    np.testing.assert_array_equal(ours.right_answers(), [scores.right_answers() for scores in each])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 1, 2), (2, 0, 1), [1, 2, 0]),
        ((0,), (0,), [0]),
        ((0, 1), (0, 1, 2), None),
        ((0, 1), (0, 2), None),
        ((0, 0), (0, 0), None),
        ((0, 1), (0, 0), None),
    ],
)
def test_runs_are_paired_by_their_seeds(make_run, a, b, expected):
    given = [
        f"{name}={make_run(f'{name}{number}', number, fields={'seed': seed})}"
        for name, seeds in (("a", a), ("b", b))
        for number, seed in enumerate(seeds)
    ]
    (first, second), _ = read_systems(given)
    assert (first.seeds, second.seeds) == (a, b)
    assert pair_runs(first, second) == expected


def test_runs_are_paired_with_their_own_prototypes_whatever_their_seeds(make_run):
    stages = ("encoder", "memory")
    for number, name in enumerate("xy"):
        make_run(name, number, stages=stages)
        make_run(name, number, stages=stages, stage="encoder")
    folders = [make_run(name, number, stages=stages) for number, name in enumerate("xy")]
    (tuned, alone), _ = read_systems([f"ours={folder}" for folder in folders])
    assert tuned.seeds == (0, 0)
    assert pair_runs(tuned, alone) == [0, 1]


def test_folders_without_a_name_are_never_taken_for_one_system(make_run, monkeypatch, tmp_path):
    a, b, odd = make_run("x/run"), make_run("y/run", 1), make_run("lr=0.1", 2)
    assert names(a, b) == [(str(a), 1), (str(b), 1)]
    assert names(f"run={a}", b) == [("run", 1), (str(b), 1)]
    assert names(odd, f"lr={a}") == [("lr=0.1", 1), ("lr", 1)]
    monkeypatch.chdir(a)
    assert names(".") == [("run", 1)]


def test_prototypes_alone_follow_where_every_run_has_them(make_run):
    stages = ("encoder", "memory")
    tuned = make_run("tuned", 0, stages=stages)
    assert names(tuned) == [("tuned", 1)]
    make_run("tuned", 5, stages=stages, stage="encoder")
    other = make_run("other", 1, stages=stages)
    assert names(tuned, other) == [("tuned", 1), ("tuned, prototypes alone", 1), ("other", 1)]
    assert names(f"both={tuned}", f"both={other}") == [("both", 2)]
    (_, alone), _ = read_systems([str(tuned)])
    assert alone.prototypes_of == "tuned"
    assert alone.runs[0].metrics["step"] == 105
    # A folder of that name in a run without a memory is not its.
    plain = make_run("plain")
    (plain / "report_encoder").mkdir()
    assert names(plain) == [("plain", 1)]


def refused(message, *arguments):
    with pytest.raises(WorkdirError, match=message):
        read_systems([str(argument) for argument in arguments])


def test_what_is_no_evaluated_run_is_named_with_what_to_do(make_run, tmp_path):
    run = make_run("run")
    refused("no run to compare; give their folders")
    refused("none is not a run of train.py: it has no config.json", run, tmp_path / "none")
    refused(f"{run} stands twice", run, f"again={run}")
    refused("stands twice", run, run / ".." / "run")
    with pytest.raises(ConfigError, match="run a=~nobodyhere/x: there is no user"):
        read_systems(["a=~nobodyhere/x"])
    refused("ours= is neither a folder nor NAME=FOLDER", run, "ours=")
    (run / "report" / "queries.npz").rename(run / "report" / "kept")
    refused(f"older version: it has no queries.npz; evaluate again: .*--workdir={run}$", run)
    (run / "report" / "metrics.json").unlink()
    refused(f"run has no report; evaluate it first: python evaluate.py --workdir={run}$", run)


def test_a_report_of_an_earlier_stage_is_out_of_date(make_run):
    run = make_run("run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "stages": ["encoder", "memory"]}))
    refused("is of the stage encoder, but the run has gone on to memory; evaluate it again", run)
    with pytest.raises(WorkdirError, match=r"evaluate it first: .* --stage=encoder$"):
        read_run(run, prototypes_alone=True)


def test_other_tests_are_refused_with_the_fields_that_differ(make_run, schema):
    run = make_run("run")
    message = r"run and .*{} cannot be compared, {}"
    refused(
        message.format(
            "images",
            r".*have other labels \(24 and 30 images\): seed is 0 there.*set data.seed",
        ),
        run,
        make_run("images", labels=np.random.default_rng(1).integers(0, 2, (30, 2)), fields={"seed": 1}),
    )
    few = make_run("few", protocol={"num_references": 3})
    scores = dict(np.load(few / "report" / "queries.npz"))
    by_query = [name for name in scores if len(scores[name]) == len(scores["reference"])]
    np.savez(few / "report" / "queries.npz", **{**scores, **{name: scores[name][:4] for name in by_query}})
    refused(
        message.format("few", r"other queries were asked \(\d+ and 4\): protocol.num_references is 0 there "),
        run,
        few,
    )
    refused(
        message.format("without", "only one of them counts the query image .* is False there and True here$"),
        run,
        make_run("without", protocol={"exclude_query": True}),
    )
    assert (_shown(""), _shown(None), _shown("split")) == ("''", "None", "split"), "no column, by its name"
    same = make_run("same", labels=np.random.default_rng(1).integers(0, 2, (24, 2)))
    refused(message.format("same", ".*though the configs agree: the catalogue has changed"), run, same)
    other = make_run("other")
    written = json.loads((other / "schema.json").read_text())
    written["values"][0][0] = "navy"
    (other / "schema.json").write_text(json.dumps(written))
    refused(message.format("other", "their catalogues have other attributes or values"), run, other)


def test_what_belongs_to_a_system_may_differ(make_run):
    a = make_run("a", protocol={"strength": "2", "normalize": "attribute"}, fields={"model.width": 0.5})
    assert names(make_run("b"), a) == [("b", 1), ("a", 1)]


def test_cut_offs_are_those_of_all_runs(make_run):
    a, b, c = make_run("a", ks=(1, 5, 20)), make_run("b", ks=(20, 5, 2)), make_run("c", ks=(3,))
    systems, _ = read_systems([str(a), str(b)])
    assert common_ks(systems) == (5, 20)
    with pytest.raises(
        WorkdirError,
        match=r"no cut-off in common; they were evaluated at \(1, 5, 20\); \(3,\); evaluate again",
    ):
        common_ks(read_systems([str(a), str(c)])[0])


def test_metrics_are_those_of_all_runs_in_the_order_of_the_first(make_run):
    a, b = make_run("a"), make_run("b", 1)
    path = b / "report" / "queries.npz"
    scores = dict(np.load(path))
    np.savez(path, **{name: scores[name] for name in scores if name != "ndcg"}, new=scores["ndcg"])
    metrics = path.with_name("metrics.json")
    metrics.write_text(metrics.read_text().replace('"ndcg"', '"new"'))
    systems, _ = read_systems([str(a), str(b)])
    assert common_metrics(systems) == ("hit_rate", "precision", "ndcg_target", "ndcg_others")
    assert common_metrics(systems[1:]) == (*common_metrics(systems), "new")


def test_a_report_beside_that_of_a_run_is_named(make_run):
    run = make_run("run")
    shutil.copytree(run / "report", run / "report_b")
    metrics = json.loads((run / "report_b" / "metrics.json").read_text())
    metrics["protocol"]["exclude_query"] = True
    (run / "report_b" / "metrics.json").write_text(json.dumps(metrics))
    refused(rf"{run} and {run}/report_b cannot be compared", run, run / "report_b")
