from collections import Counter

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
tfds_features = pytest.importorskip("gradrev_jax.data.formats.tfds.features")
F = tfds.features


def slow_labels(names, cells, min_count):
    """Values and labels, one cell at a time."""
    counts = Counter(cell for cell in cells if cell is not None)
    kept = [name for name in names if min_count == 1 or counts[name] >= min_count]
    return tuple(kept), [kept.index(cell) if cell in kept else -1 for cell in cells]


@pytest.mark.parametrize("min_count", [1, 2, 3, 9])
def test_classes_against_the_slow_way(rng, min_count):
    names = ["d", "a", "c", "b", "never"]
    cells = rng.integers(-1, 4, 12).tolist()
    values, labels = tfds_features.feature_labels(F.ClassLabel(names=names), cells, min_count)
    words = [None if cell < 0 else names[cell] for cell in cells]
    expected, positions = slow_labels(names, words, min_count)
    assert values == expected
    assert labels.tolist() == positions
    assert labels.dtype == np.int32


@pytest.mark.parametrize("min_count", [1, 2, 4])
def test_texts_and_numbers_against_the_slow_way(rng, min_count):
    words = [["", "b", "Ä", "a"][number] for number in rng.integers(0, 4, 15)]
    values, labels = tfds_features.feature_labels(
        F.Text(), [f" {word}\n".encode() for word in words], min_count
    )
    expected, positions = slow_labels(sorted({*words} - {""}), [word or None for word in words], min_count)
    assert (values, labels.tolist()) == (expected, positions)

    numbers = (rng.integers(-2, 12, 15) * 7).tolist()
    values, labels = tfds_features.feature_labels(F.Scalar(np.int64), numbers, min_count)
    expected, positions = slow_labels(sorted({*numbers}), numbers, min_count)
    assert (values, labels.tolist()) == (tuple(map(str, expected)), positions)


def test_nothing_is_labelled():
    assert tfds_features.feature_labels(F.Text(), [b"", b" "])[0] == ()
    values, labels = tfds_features.feature_labels(F.ClassLabel(names=["a", "b"]), [-1, -1], min_count=2)
    assert (values, labels.tolist()) == ((), [-1, -1])


def test_truth_values():
    values, labels = tfds_features.feature_labels(F.Scalar(np.bool_), [True, False, True])
    assert (values, labels.tolist()) == (("no", "yes"), [1, 0, 1])


@pytest.mark.parametrize(
    ("feature", "kind"),
    [
        (F.ClassLabel(names=["a"]), "class"),
        (F.ClassLabel(), "int"),  # without names or their number
        (F.Scalar(np.uint8), "int"),
        (F.Scalar(np.bool_), "bool"),
        (F.Scalar(np.float32), None),
        (F.Text(), "text"),
        (F.Tensor(shape=(1,), dtype=np.int64), None),
        (F.Sequence({"a": np.int64}), None),
        (F.Image(), None),
        (F.BBoxFeature(), None),
    ],
)
def test_kinds_of_features(feature, kind):
    assert tfds_features.feature_kind(feature) == kind


def test_selected_features_alone_are_kept():
    features = F.FeaturesDict({"a": {"b": np.int64, "bc": np.int64, "d": {"e": np.int64}}, "ab": F.Text()})
    assert set(tfds_features.leaves(features)) == {"a/b", "a/bc", "a/d/e", "ab"}
    kept = tfds_features.select_features(features, ["a/bc", "a/d/e"])
    assert set(tfds_features.leaves(kept)) == {"a/bc", "a/d/e"}
    example = {"a": {"b": 1, "bc": 2, "d": {"e": 3}}, "ab": "x"}
    assert kept.deserialize_example_np(features.serialize_example(example)) == {"a": {"bc": 2, "d": {"e": 3}}}
    assert [tfds_features.value_at(example, path) for path in ("a/b", "a/d/e")] == [1, 3]


@pytest.mark.parametrize(
    ("feature", "cells"),
    [
        (F.ClassLabel(num_classes=2), [0, 2]),
        (F.ClassLabel(num_classes=2), [0, -2]),
        (F.ClassLabel(num_classes=2), [0, 2**40]),
        (F.ClassLabel(num_classes=2), [0, None]),
        (F.Scalar(np.int64), [1, None]),
        (F.Text(), [b"a", None]),
    ],
)
def test_a_value_that_is_not_of_its_feature_is_refused(feature, cells):
    """Found by fuzzing: class -2 was taken for the last but one, and a missing number raised on the way."""
    with pytest.raises((ValueError, TypeError)):
        tfds_features.feature_labels(feature, cells)
