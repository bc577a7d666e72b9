import pathlib

import numpy as np

from benchmarks.side_by_side import inputs


def test_labels_hold_every_value_and_some_are_missing():
    labels = inputs.random_labels(2000, (3, 50))
    assert set(labels[:, 0]) == {-1, 0, 1, 2}
    assert set(labels[:, 1]) == set(range(-1, 50))
    assert 0.25 < (labels == -1).mean() < 0.35
    np.testing.assert_array_equal(labels, inputs.random_labels(2000, (3, 50)))


def test_photographs_are_those_of_the_training_part(tmp_path):
    (tmp_path / "attributes.csv").write_text("image,split,color\na.jpg,train,red\nb.jpg,test,red\n")
    assert inputs.photographs(tmp_path) == [tmp_path / "a.jpg"]
    (tmp_path / "attributes.csv").write_text("image,color\na.jpg,red\nb.jpg,red\n")
    assert inputs.photographs(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.jpg"]


def test_what_is_saved_is_loaded(tmp_path):
    arrays = {"features": np.arange(6.0).reshape(2, 3), "sizes": np.array([2, 1])}
    inputs.save_evaluation(pathlib.Path(tmp_path), arrays)
    loaded = inputs.load_evaluation(pathlib.Path(tmp_path))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
