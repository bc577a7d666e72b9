import contextlib
import json

import numpy as np
import pytest

from benchmarks import evaluation
from gradrev_jax import Neighbors

TINY = "--gallery 70 --references 5 --queries 23 --dim 3 --ks 1 4 --repeats 2 --plain-queries 9".split()


@pytest.mark.long
@pytest.mark.parametrize(
    "normalize", ["global", *(pytest.param(how, marks=pytest.mark.slow) for how in ("attribute", "none"))]
)
def test_a_tiny_evaluation_agrees_and_is_written(tmp_path, capsys, normalize):
    result = evaluation.main([*TINY, "--normalize", normalize, "--out", str(tmp_path)])
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["sizes"] == {"gallery": 70, "references": 5, "queries": 23, "dim": 3, "ks": [1, 4]}
    assert {"jax", "numpy"} <= set(written["versions"])
    assert written["agreement"]["rows_compared"] == 9 * 4
    assert written["agreement"]["rows_that_differ"] == 0
    parts = written["seconds"]
    assert set(parts) == {"build", "search", "metrics", "metrics_baseline", "total"}
    assert all(0 < part["least"] <= part["median"] <= part["most"] for part in parts.values())
    assert result["plain_search"]["queries"] == 9
    assert "search" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize(("error", "is_allowed"), [(1e-4, True), (2e-3, False)])
def test_the_paths_may_differ_by_what_the_search_promises(tmp_path, monkeypatch, error, is_allowed):
    search = evaluation.plain_search

    def search_badly(*args):
        seconds, (indices, distances) = search(*args)
        return seconds, Neighbors(indices, distances * (1 + error))

    monkeypatch.setattr(evaluation, "plain_search", search_badly)
    with contextlib.nullcontext() if is_allowed else pytest.raises(AssertionError, match="of themselves"):
        evaluation.main([*TINY, "--out", str(tmp_path)])


def test_queries_ask_for_another_value_of_the_reference():
    _, labels, queries, schema = evaluation.random_evaluation(50, 4, 30, 2)
    assert len(np.unique(queries.reference)) == 4
    changes = labels[queries.reference] != queries.targets
    assert changes.sum(axis=1).tolist() == [1] * 30
    assert (changes == queries.changed).all()
    assert (queries.targets < np.asarray(schema.sizes)).all()


def test_disagreements_are_seen():
    one = Neighbors(np.array([[0, 1]]), np.array([[1.0, 2.0]]))
    other = Neighbors(np.array([[0, 2]]), np.array([[1.0, 2.5]]))
    assert evaluation.disagreements(one, one) == (0, 0)
    assert evaluation.disagreements(one, other) == (1, pytest.approx(0.2))
