import shutil

import numpy as np
import pytest

from gradrev_jax.evaluation.comparison.numbers import compare_systems, nearest_k, pair_metrics
from gradrev_jax.evaluation.comparison.systems import read_systems

RETRIEVAL = ("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others")


def compared(*arguments):
    return compare_systems(*read_systems([str(argument) for argument in arguments]))


def by_name(comparison):
    return {system["name"]: system for system in comparison["systems"]}


def slow_samples(values, clusters, samples=2000, seed=0):
    """Mean of each sample's drawn clusters, a sample at a time."""
    names = sorted(set(clusters.tolist()))
    members = {name: values[clusters == name] for name in names}
    draws = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
    return np.array([np.concatenate([members[names[i]] for i in draw]).mean() for draw in draws.tolist()])


def test_every_number_of_a_single_run_is_that_of_its_report(make_run, make_scores):
    comparison = compared(make_run("run", 4, gallery=40))
    system = by_name(comparison)["run"]
    scores = make_scores(4, gallery=40)
    assert comparison["differences"] == []
    assert comparison["queries"] == len(scores.reference)
    assert comparison["references"] == len(set(scores.reference.tolist()))
    assert (comparison["gallery"], comparison["ks"]) == (40, [1, 10, 30])
    assert comparison["attributes"] == {"color": 3, "size": 2}
    for name in RETRIEVAL:
        for column, k in enumerate((1, 10, 30)):
            values = scores.by_metric[name][:, column].astype(float)
            found = system["metrics"][f"{name}@{k}"]
            assert found["value"] == pytest.approx(values.mean())
            low, high = np.quantile(slow_samples(values, scores.reference), [0.025, 0.975])
            assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
            assert found["runs"] == [pytest.approx(values.mean())]
            assert found["no_manipulation"] == 0.125
    right = np.where(scores.correct < 0, np.nan, scores.correct)
    assert system["metrics"]["accuracy_macro"]["value"] == pytest.approx(np.nanmean(right, axis=0).mean())
    assert system["metrics"]["accuracy_micro"]["value"] == pytest.approx(np.nanmean(right))
    assert system["metrics"]["accuracy_macro"]["majority"] == 0.25
    for mean in ("macro", "micro"):
        found = system["metrics"][f"accuracy_{mean}"]
        assert found["low"] < found["value"] < found["high"]
    assert system["cross_accuracy"][1][0] is None


def test_runs_of_one_name_are_averaged_and_kept_apart(make_run):
    runs = make_run("a", 0), make_run("b", 1), make_run("c", 2)
    each = [by_name(compared(run))[run.name]["metrics"] for run in runs]
    (system,) = compared(*(f"ours={run}" for run in runs))["systems"]
    assert system["step"] == [100, 101, 102]
    assert len(set(system["metrics"]["ndcg@10"]["runs"])) == 3
    for name, found in system["metrics"].items():
        values = [metrics[name]["value"] for metrics in each]
        assert found["value"] == pytest.approx(np.mean(values))
        assert found["runs"] == pytest.approx(values, abs=1e-6)
        assert found["low"] <= found["value"] <= found["high"]
        assert found["seed_sd"] == pytest.approx(np.std(values, ddof=1))


def test_what_every_run_was_compared_and_edited_by_is_kept(make_run):
    chosen = {
        "representation": "hybrid",
        "look": 0.3,
        "normalize": "none",
        "edit": "replace",
        "strength": 1.5,
    }
    (system,) = compared(f"ours={make_run('a')}", f"ours={make_run('b', 1, chosen=chosen)}")["systems"]
    assert system["representation"] == ["features", "hybrid"]
    assert system["normalize"] == ["attribute", "none"]
    assert system["look"] == [None, 0.3]
    assert system["edit"] == ["add", "replace"]
    assert system["strength"] == [1.0, 1.5]


def test_a_single_run_has_no_deviation_between_seeds(make_run):
    comparison = compared(make_run("a", fields={"seed": 5}), make_run("b", 1))
    for system, seeds in zip(comparison["systems"], ([5], [0]), strict=True):
        assert system["seeds"] == seeds
        assert not system["intervals_hold_seeds"]
        assert {each["seed_sd"] for each in system["metrics"].values()} == {None}
    for each in comparison["differences"]:
        assert (each["seed_sd"], each["seeds_needed"], each["intervals_hold_seeds"]) == (None, None, False)


def seeded(make_run, name, first, seeds, **scores):
    """The arguments of a system: one run per seed, each with other scores."""
    return [
        f"{name}={make_run(f'{name}{at}', first + at, fields={'seed': seed}, gallery=40, **scores)}"
        for at, seed in enumerate(seeds)
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_systems_with_the_same_seeds_are_paired_in_any_order(make_run, order):
    comparison = compared(*seeded(make_run, "a", 0, (0, 1, 2)), *seeded(make_run, "b", 4, order))
    assert [system["seeds"] for system in comparison["systems"]] == [[0, 1, 2], list(order)]
    a, b = (system["metrics"] for system in comparison["systems"])
    for each in comparison["differences"]:
        assert each["paired_by_seed"]
        assert each["intervals_hold_seeds"]
        of_b = dict(zip(order, b[each["metric"]]["runs"], strict=True))
        deviations = np.array(a[each["metric"]]["runs"]) - [of_b[seed] for seed in (0, 1, 2)]
        assert each["difference"] == pytest.approx(deviations.mean(), abs=1e-6)
        assert each["seed_sd"] == pytest.approx(deviations.std(ddof=1), abs=1e-6)
        # Three seeds alone would give at least 4.303 / sqrt(3) standard deviations.
        assert each["high"] - each["low"] > 1.9 * 4.3 / 3**0.5 * each["seed_sd"]


def test_systems_with_other_seeds_are_drawn_independently(make_run):
    comparison = compared(*seeded(make_run, "a", 0, (0, 1, 2)), *seeded(make_run, "b", 4, (0, 1)))
    a, b = (system["metrics"] for system in comparison["systems"])
    for each in comparison["differences"]:
        assert not each["paired_by_seed"]
        assert each["intervals_hold_seeds"]
        variances = [np.var(system[each["metric"]]["runs"], ddof=1) for system in (a, b)]
        assert each["seed_sd"] == pytest.approx(sum(variances) ** 0.5, abs=1e-6)


def test_seeds_that_agree_are_few_enough_and_others_too_many(make_run):
    a = seeded(make_run, "a", 0, (0, 1), accuracy=1.0)
    found = compared(*a, *seeded(make_run, "b", 4, (0, 1), accuracy=0.0))["differences"][-1]
    assert (found["seed_sd"], found["seeds_needed"], found["p"]) == (0.0, 2, 1 / 2001)
    assert found["holm"]
    found = compared(*a, *seeded(make_run, "c", 4, (0, 1), accuracy=1.0))["differences"][-1]
    assert (found["difference"], found["seeds_needed"], found["p"]) == (0.0, None, 1.0)
    assert not found["significant"]


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [
        ({0: 0, 1: 1, 2: 2}, {2: 2, 0: 0, 1: 1}),
        ({0: 0, 1: 1, 2: 2}, {3: 2, 4: 0, 5: 1}),
        ({0: 0, 1: 0}, dict.fromkeys(range(6), 0)),
    ],
    ids=["paired", "other seeds", "more seeds"],
)
def test_equal_systems_show_no_difference(make_run, of_a, of_b):
    """Whatever the order and the number of their runs, which round their means differently."""
    given = [
        f"{name}={make_run(f'{name}{seed}', scores, fields={'seed': seed}, gallery=40)}"
        for name, runs in (("a", of_a), ("b", of_b))
        for seed, scores in runs.items()
    ]
    for each in compared(*given)["differences"]:
        assert each["intervals_hold_seeds"]
        assert (each["difference"], each["seeds_needed"], each["significant"]) == (0.0, None, False)
        if each["seed_sd"] < 1e-12:
            assert (each["low"], each["high"], each["p"]) == (0.0, 0.0, 1.0)
        else:
            assert not each["paired_by_seed"]
            assert each["low"] < 0 < each["high"]


def test_the_correction_takes_all_differences_together(make_run):
    differences = compared(
        make_run("a", 0, accuracy=0.9), make_run("b", 1, accuracy=0.3), make_run("c", 2, accuracy=0.6)
    )["differences"]
    ordered = sorted(differences, key=lambda each: each["p"])
    rejected = True
    for place, each in enumerate(ordered):
        rejected = rejected and each["p"] <= 0.05 / (len(ordered) - place)
        assert each["holm"] == rejected
        assert each["significant"] or not each["holm"]
    assert sum(each["holm"] for each in differences) < sum(each["significant"] for each in differences)


def test_differences_are_paired_and_of_every_two_systems(make_run, make_scores):
    comparison = compared(make_run("a", 0, accuracy=0.95), make_run("b", 1, accuracy=0.3), make_run("c", 2))
    found = {(each["first"], each["second"], each["metric"]): each for each in comparison["differences"]}
    metrics = ["hit_rate@10", "hit_rate@30", "ndcg@30", "ndcg_target@30", "accuracy_macro"]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    assert list(found) == [(*pair, metric) for pair in pairs for metric in metrics]
    a, b = make_scores(0, accuracy=0.95), make_scores(1, accuracy=0.3)
    values = (a.by_metric["ndcg_target"][:, 2] - b.by_metric["ndcg_target"][:, 2]).astype(float)
    difference = found["a", "b", "ndcg_target@30"]
    assert difference["difference"] == pytest.approx(values.mean(), abs=1e-6)
    bounds = np.quantile(slow_samples(values, a.reference), [0.025, 0.975])
    assert [difference["low"], difference["high"]] == pytest.approx(bounds, abs=1e-6)
    for each in found.values():
        assert each["significant"] == (each["low"] > 0 or each["high"] < 0)
    assert found["a", "b", "accuracy_macro"]["significant"]
    systems = by_name(comparison)
    accuracy = [systems[name]["metrics"]["accuracy_macro"]["value"] for name in "ab"]
    assert found["a", "b", "accuracy_macro"]["difference"] == pytest.approx(accuracy[0] - accuracy[1])


def test_prototypes_alone_are_paired_with_their_own_memory_only(make_run):
    stages = ("encoder", "memory")
    for name, seed in (("t", 0), ("u", 2)):
        make_run(name, seed, stages=stages)
        directory = make_run(name, seed + 1, stages=stages, stage="encoder")
    comparison = compared(directory.parent / "t", directory.parent / "u")
    assert list(by_name(comparison)) == ["t", "t, prototypes alone", "u", "u, prototypes alone"]
    pairs = {(each["first"], each["second"]) for each in comparison["differences"]}
    assert pairs == {("t", "t, prototypes alone"), ("t", "u"), ("u", "u, prototypes alone")}
    what = [system["what"] for system in comparison["systems"][:2]]
    assert what == [
        "N classifiers, balanced reversal, memory fine-tuned",
        "N classifiers, balanced reversal",
    ]


def test_fields_that_differ_are_listed_and_no_others(make_run):
    comparison = compared(
        make_run("a", fields={"train.batch_size": 64, "data.root": "here"}),
        f"ours={make_run('b', 1, fields={'seed': 0})}",
        f"ours={make_run('c', 2, fields={'model.width': 0.5}, protocol={'batch_size': 7})}",
    )
    assert comparison["fields_that_differ"] == {
        "model.width": {"a": [1.0], "ours": [1.0, 0.5]},
        "train.batch_size": {"a": [64], "ours": [128, 128]},
    }


def test_fields_of_the_memory_are_compared_where_there_is_one(make_run):
    two = {"stages": ("encoder", "memory")}
    plain, tuned = make_run("a"), make_run("b", 1, **two, fields={"memory.epochs": 9})
    assert list(compared(plain, tuned)["fields_that_differ"]) == ["stages"]
    found = compared(plain, tuned, make_run("c", 2, **two))["fields_that_differ"]
    assert found["memory.epochs"] == {"a": [None], "b": [9], "c": [2]}


def test_prototypes_alone_evaluated_in_another_way_differ(make_run):
    two = {"stages": ("encoder", "memory"), "fields": {"memory.epochs": 9}}
    tuned = make_run("tuned", **two, protocol={"strength": "1"})
    make_run("tuned", 1, **two, stage="encoder", protocol={"strength": "2", "batch_size": 7})
    plain = make_run("plain", 2, protocol={"strength": "1"}, stages=("encoder",))
    found = compared(tuned, plain)["fields_that_differ"]
    assert list(found) == ["protocol.strength", "stages"]
    assert found["protocol.strength"] == {"tuned": ["1"], "tuned, prototypes alone": ["2"], "plain": ["1"]}
    found = compared(tuned, plain, make_run("more", 3, stages=("encoder", "memory")))["fields_that_differ"]
    assert found["memory.epochs"] == {
        "tuned": [9],
        "tuned, prototypes alone": [None],
        "plain": [None],
        "more": [2],
    }


def test_fields_of_a_system_are_compared_where_it_is_run(make_run):
    ours = make_run("ours", fields={"amnet.feature_dim": 7})
    amnet = make_run("amnet", 1, fields={"model.system": "amnet"})
    assert list(compared(ours, amnet)["fields_that_differ"]) == ["model.system"]
    wide = make_run("wide", 2, fields={"model.system": "amnet", "amnet.feature_dim": 9})
    found = compared(ours, amnet, wide)["fields_that_differ"]
    assert found["amnet.feature_dim"] == {"ours": [None], "amnet": [1024], "wide": [9]}


def test_one_reference_image_leaves_intervals_open(make_run):
    labels = np.array([[0, 0], [1, -1]])
    labels[1] = [1, 0]
    run = make_run("run", labels=labels, depth=2, ks=(1, 2))
    scores = dict(np.load(run / "report" / "queries.npz"))
    one = scores["reference"] == 0
    by_query = [
        name for name in scores if len(scores[name]) == len(one) and name not in ("labels", "correct")
    ]
    np.savez(
        run / "report" / "queries.npz",
        **{**scores, **{name: scores[name][one] for name in by_query if name != "ks"}},
    )
    comparison = compared(run, f"again={shutil.copytree(run, run.parent / 'again')}")
    assert comparison["systems"][0]["metrics"]["hit_rate@1"]["low"] is None
    for each in comparison["differences"][:-1]:
        assert (each["low"], each["p"], each["significant"], each["holm"]) == (None, None, False, False)


@pytest.mark.parametrize(
    ("ks", "expected"),
    [
        ((1, 10, 30, 50), ["hit_rate@10", "hit_rate@30", "ndcg@30", "ndcg_target@30"]),
        ((1, 5), ["hit_rate@5", "ndcg@5", "ndcg_target@5"]),
        ((20,), ["hit_rate@20", "ndcg@20", "ndcg_target@20"]),
    ],
)
def test_pairs_are_tested_at_the_cut_offs_there_are(ks, expected):
    assert pair_metrics(ks) == expected
    assert nearest_k(15, (10, 20)) == 10
