import dataclasses

import numpy as np
import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.scores import (
    RETRIEVAL,
    Scores,
    accuracies,
    intervals,
    read_scores,
    resampled_accuracies,
    write_scores,
)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "run" / "report"
    folder.mkdir(parents=True)
    return folder / "queries.npz"


def test_scores_are_read_as_they_were_written(make_scores, path):
    scores = make_scores()
    write_scores(path, scores)
    found = read_scores(path)
    for field in dataclasses.fields(Scores):
        written, read = getattr(scores, field.name), getattr(found, field.name)
        assert written.dtype == read.dtype
        np.testing.assert_array_equal(written, read)


def test_columns_stand_metric_after_metric(make_scores):
    scores = make_scores(ks=(1, 5, 10))
    columns = scores.columns()
    assert columns.shape == (len(scores.reference), 15)
    for i, name in enumerate(RETRIEVAL):
        np.testing.assert_array_equal(columns[:, 3 * i : 3 * i + 3], getattr(scores, name))
        np.testing.assert_array_equal(scores.columns((10, 1))[:, 2 * i], getattr(scores, name)[:, 2])
    np.testing.assert_array_equal(scores.columns((10, 1))[:, 1], scores.hit_rate[:, 0])


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
    for name in RETRIEVAL:
        for column, k in enumerate(scores.ks.tolist()):
            low, high = found[name][str(k)]
            assert low <= getattr(scores, name)[:, column].mean() <= high, (name, k)
    for mean, value in zip(("macro", "micro"), accuracies(scores.right_answers()), strict=True):
        low, high = found["attribute_accuracy"][mean]
        assert low < value < high
    # Each query asked twice more, of the same reference: nothing new is known.
    thrice = {
        field.name: np.repeat(getattr(scores, field.name), 3, axis=0)
        for field in dataclasses.fields(Scores)
        if field.name not in ("ks", "labels", "correct")
    }
    again = intervals(dataclasses.replace(scores, **thrice))
    assert again["ndcg"]["10"] == pytest.approx(found["ndcg"]["10"])


def test_one_image_gives_no_interval(make_scores):
    scores = make_scores()
    one = scores.reference == scores.reference[0]
    few = {
        field.name: getattr(scores, field.name)[one]
        for field in dataclasses.fields(Scores)
        if field.name not in ("ks", "labels", "correct")
    }
    single = dataclasses.replace(scores, **few, labels=scores.labels[:1], correct=scores.correct[:1])
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
    with pytest.raises(WorkdirError, match="written by another version .*evaluate again"):
        read_scores(path)
