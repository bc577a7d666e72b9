import dataclasses

import numpy as np
import pytest

from gradrev_jax.data.queries import LARGEST_QUERIES
from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation import scores as module
from gradrev_jax.evaluation.scores import (
    Scores,
    accuracies,
    intervals,
    read_scores,
    resampled_accuracies,
    write_scores,
)
from gradrev_jax.runs import array_files


def fields(scores):
    """All arrays by their names."""
    arrays = {field.name: getattr(scores, field.name) for field in dataclasses.fields(Scores)}
    return arrays | arrays.pop("by_metric")


def rows(scores, chosen):
    """The same of some queries, in any order and number."""
    arrays = {
        name: value[chosen]
        for name, value in vars(scores).items()
        if name not in ("ks", "labels", "correct", "by_metric")
    }
    by_metric = {name: values[chosen] for name, values in scores.by_metric.items()}
    return dataclasses.replace(scores, **arrays, by_metric=by_metric)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "run" / "report"
    folder.mkdir(parents=True)
    return folder / "queries.npz"


def test_scores_are_read_as_they_were_written(make_scores, path):
    scores = make_scores()
    write_scores(path, scores)
    found = read_scores(path)
    assert list(found.by_metric) == list(scores.by_metric)
    written, read = fields(scores), fields(found)
    assert all(written[name].dtype == read[name].dtype for name in written)
    np.testing.assert_equal(read, written)


def test_the_file_has_an_array_per_field_and_per_metric(make_scores, path):
    """As the versions before wrote it."""
    write_scores(path, make_scores())
    with np.load(path) as arrays:
        assert list(arrays) == [
            *("reference", "changed", "indicators", "targets", "neighbors", "ks"),
            *("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others", "labels", "correct"),
        ]


def test_a_metric_more_or_less_is_read_as_it_is(make_scores, path):
    scores = make_scores()
    two = {"hit_rate": scores.by_metric["hit_rate"], "median_rank": scores.by_metric["ndcg"] + 1}
    write_scores(path, dataclasses.replace(scores, by_metric=two))
    np.testing.assert_equal(dict(read_scores(path).by_metric), two)
    assert list(intervals(read_scores(path)))[2:] == ["hit_rate", "median_rank", "attribute_accuracy"]


def test_columns_stand_metric_after_metric(make_scores):
    scores = make_scores(ks=(1, 5, 10))
    columns = scores.columns()
    assert columns.shape == (len(scores.reference), 15)
    for i, values in enumerate(scores.by_metric.values()):
        np.testing.assert_array_equal(columns[:, 3 * i : 3 * i + 3], values)
        np.testing.assert_array_equal(scores.columns((10, 1))[:, 2 * i], values[:, 2])
    np.testing.assert_array_equal(scores.columns((10, 1))[:, 1], scores.by_metric["hit_rate"][:, 0])
    chosen = scores.columns((5,), ["ndcg", "precision"])
    expected = [scores.by_metric["ndcg"][:, 1], scores.by_metric["precision"][:, 1]]
    np.testing.assert_array_equal(chosen, np.stack(expected, axis=1))


def slow_accuracies(correct, drawn):
    """Macro and micro over the drawn images, a cell at a time."""
    right, known = [0] * correct.shape[1], [0] * correct.shape[1]
    for image in drawn:
        for n, answer in enumerate(correct[image].tolist()):
            right[n] += answer == 1
            known[n] += answer >= 0
    means = [r / k for r, k in zip(right, known, strict=True) if k]
    return [sum(means) / len(means), sum(right) / sum(known)]


def test_accuracies_and_their_samples_equal_the_loops(make_scores):
    scores = make_scores()
    right = scores.right_answers()
    assert (np.isnan(right) == (scores.labels == -1)).all()
    np.testing.assert_allclose(accuracies(right), slow_accuracies(scores.correct, range(24)))
    draws = np.random.default_rng(4).integers(24, size=(30, 24))
    expected = [slow_accuracies(scores.correct, draw) for draw in draws.tolist()]
    np.testing.assert_allclose(resampled_accuracies(right, samples=30, seed=4), expected)


def test_an_attribute_without_labels_has_no_part_in_the_accuracy():
    right = np.array([[1.0, np.nan], [0.0, np.nan]])
    assert accuracies(right).tolist() == [0.5, 0.5]
    assert np.isfinite(resampled_accuracies(right, samples=5)).all()


def test_intervals_hold_the_metrics_and_draw_reference_images(make_scores):
    scores = make_scores(accuracy=0.7, gallery=40)
    found = intervals(scores)
    assert (found["confidence"], found["samples"]) == (0.95, 2000)
    for name, values in scores.by_metric.items():
        for column, k in enumerate(scores.ks.tolist()):
            low, high = found[name][str(k)]
            assert low <= values[:, column].mean() <= high, (name, k)
    for mean, value in zip(("macro", "micro"), accuracies(scores.right_answers()), strict=True):
        low, high = found["attribute_accuracy"][mean]
        assert low < value < high
    # Each query asked twice more, of the same reference: nothing new is known.
    again = intervals(rows(scores, np.repeat(np.arange(len(scores.reference)), 3)))
    assert again["ndcg"]["10"] == pytest.approx(found["ndcg"]["10"])


def test_one_image_gives_no_interval(make_scores):
    scores = make_scores()
    one = scores.reference == scores.reference[0]
    single = dataclasses.replace(rows(scores, one), labels=scores.labels[:1], correct=scores.correct[:1])
    found = intervals(single)
    assert found["hit_rate"]["1"] == [None, None]
    assert found["attribute_accuracy"] == {"macro": [None, None], "micro": [None, None]}


def test_what_cannot_be_read_says_how_to_get_it_anew(make_scores, path):
    with pytest.raises(WorkdirError, match=r"older version: it has no queries.npz; .*--workdir=.*run$"):
        read_scores(path)
    write_scores(path, make_scores())
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no archive"):
        path.write_bytes(damaged)
        with pytest.raises(WorkdirError, match=r"queries.npz cannot be read: .*; evaluate again"):
            read_scores(path)
    np.savez(path, reference=np.arange(3))
    with pytest.raises(WorkdirError, match="written by another version: it has no changed; evaluate again"):
        read_scores(path)
    rest = {name: array for name, array in vars(make_scores()).items() if name != "by_metric"}
    for of_one in ({}, {"kept.color": np.zeros((3, 2))}):
        np.savez(path, **rest, **of_one)
        with pytest.raises(WorkdirError, match="another version: it has no retrieval metric; evaluate again"):
            read_scores(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"ks": np.array(3)},
        {"ks": np.array([1.5, 2, 3])},
        {"reference": np.full(3, 10**6)},
        {"neighbors": np.zeros(3, np.int32)},
        {"labels": np.zeros((2, 9), np.int32)},
        {"correct": np.zeros((1, 2), np.int8)},
        {"hit_rate": np.zeros((1, 1), np.float32)},
        {"other": np.zeros((1, 1), bool)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_damage(make_scores, path, changed):
    write_scores(path, make_scores())
    with np.load(path) as arrays:
        good = dict(arrays)
    np.savez(path, **good)
    read_scores(path)
    np.savez(path, **{**good, **changed})
    with pytest.raises(WorkdirError, match=r"queries.npz cannot be read: .*; evaluate again"):
        read_scores(path)


def test_a_small_file_cannot_ask_for_gigabytes(path, monkeypatch):
    np.savez_compressed(path, reference=np.zeros(10**6))
    monkeypatch.setattr(module, "LARGEST_SCORES", 10**6)
    with pytest.raises(
        WorkdirError, match="it has 8,000,... bytes of arrays, at most 1,000,000 are"
    ) as error:
        read_scores(path)
    assert "evaluate again" not in str(error.value), "which would write the same file"


def test_as_many_scores_are_read_as_are_written(make_scores, path, monkeypatch):
    """Of more than 1 GiB, those of a few million queries were written and not read."""
    monkeypatch.setattr(array_files, "LARGEST_ARRAYS", 100)
    write_scores(path, make_scores())
    read_scores(path)
    assert module.LARGEST_SCORES > LARGEST_QUERIES
