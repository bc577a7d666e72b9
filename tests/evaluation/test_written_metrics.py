import json

import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.comparison.systems import read_systems
from gradrev_jax.evaluation.written_metrics import misfit, read_metrics

NAMES = ("hit_rate", "ndcg")
MEANS = {"macro": 0.5, "micro": None, "per_attribute": {"color": 0.5}}
BY_K = {"1": 0.25, "5": 1}
WHOLE = {
    "gallery": 24,
    "queries": 8,
    "stage": "encoder",
    "step": 3,
    "strength": 1.5,
    "protocol": {"ks": [1, 5]},
    "attribute_accuracy": MEANS,
    "majority_accuracy": MEANS,
    "cross_accuracy": {"matrix": [[0.5, None]]},
    "hit_rate": BY_K,
    "ndcg": BY_K,
    "intervals": {
        "confidence": 0.95,
        "hit_rate": {"1": [0.1, 0.2], "5": [None, None]},
        "ndcg": {"1": [0.1, 0.2], "5": [0.5, 0.5]},
        "attribute_accuracy": {"macro": [0.1, 0.2], "micro": [None, None]},
    },
    "baselines": {"no_manipulation": {"hit_rate": BY_K, "ndcg": BY_K}, "other": {"hit_rate": BY_K}},
    "leakage": None,
    "weights": {"color": 1.0},
}


def places(content, place=()):
    """The keys that lead to each part of a document."""
    for key, part in content.items():
        yield (*place, key)
        if isinstance(part, dict):
            yield from places(part, (*place, key))


def with_part(place, value):
    changed = json.loads(json.dumps(WHOLE))
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def read(folder, content, **options):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_metrics(folder, NAMES, **options)


def test_metrics_come_as_they_were_written(tmp_path):
    assert read(tmp_path / "report", WHOLE, whole=True) == WHOLE
    less = {name: part for name, part in WHOLE.items() if name not in ("gallery", "intervals", "leakage")}
    assert read(tmp_path / "report", less, ks=(1,)) == less
    with pytest.raises(WorkdirError, match=r"hit_rate\.10 is not what evaluations write"):
        read(tmp_path / "report", less, ks=(1, 10))


def refused(folder, place, value):
    with pytest.raises(WorkdirError, match=rf"metrics.json is damaged .*{place[0]}.*evaluate again"):
        read(folder / "report", with_part(place, value), whole=True)


def test_a_part_of_another_kind_is_named_with_what_to_do(tmp_path):
    anything = [("stage",), ("protocol", "ks"), ("cross_accuracy", "matrix")]
    for place in places(WHOLE):
        if place not in anything:
            for value in ("x", True, [], ["x"]):
                refused(tmp_path, place, value)


def test_what_was_chosen_is_checked_where_it_was_written(tmp_path):
    way = {"representation": "hybrid", "normalize": "none", "edit": "learned", "look": 0.5}
    assert read(tmp_path / "report", WHOLE | way, whole=True) == WHOLE | way
    assert read(tmp_path / "report", WHOLE | {"look": None}, whole=True)["look"] is None
    for name in way:
        for value in (True, [], ["x"], {}, "x" if name == "look" else 1):
            refused(tmp_path, (name,), value)


def test_a_part_that_is_missing_is_named(tmp_path):
    optional = [("leakage",), ("weights",), ("weights", "color"), ("protocol", "ks"), ("baselines", "other")]
    attribute = ("attribute_accuracy", "per_attribute", "color")  # the other accuracy has it
    for place in places(WHOLE):
        if place in optional or place == attribute:
            assert read(tmp_path / "report", with_part(place, None), whole=True)
        elif place[:2] not in [("hit_rate", "1"), ("hit_rate", "5")]:  # which say what cut-offs there are
            refused(tmp_path, place, None)


@pytest.mark.parametrize("content", ["null", "[]", "5", '"x"', "{}", "", '{"a":' * 5000, '{"hit_rate": {}}'])
def test_what_is_no_report_is_refused(tmp_path, content):
    with pytest.raises(WorkdirError, match=r"metrics\.json (is damaged|cannot be read)"):
        read(tmp_path / "report", content, ks=None)


def test_a_comparison_names_the_run_whose_report_is_damaged(make_run):
    path = make_run("good"), make_run("bad", 1)
    metrics = path[1] / "report" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"strength"', '"strong"'))
    with pytest.raises(WorkdirError, match=r"bad/report/metrics\.json is damaged .*: strength is not"):
        read_systems(list(map(str, path)))


def test_a_number_that_json_lacks_is_none(tmp_path):
    for text in ("NaN", "Infinity", "1e999"):
        with pytest.raises(WorkdirError, match="strength"):
            read(tmp_path / "report", json.dumps(WHOLE).replace('"strength": 1.5', f'"strength": {text}'))


def test_misfits_are_found_at_any_depth():
    assert misfit({"a": [[1], [2, "x"]]}, {"a": [[(int,)]]}) == "a.1.1"
    assert misfit({"a": 1, "b": "x"}, {"*": (int,)}) == "b"
