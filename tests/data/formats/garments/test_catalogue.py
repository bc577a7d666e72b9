import numpy as np
import pytest

from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.garments.catalogue import LOWER, SCHEMA, garments_catalogue
from gradrev_jax.errors import ConfigError

SQUARE = Transform(32, 32)


def pictures(catalogue, rows):
    return np.stack([catalogue.images.read(row, SQUARE) for row in rows])


def test_same_seed_same_garments_other_seed_others():
    first, again, other = (garments_catalogue(count=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(pictures(first, range(5)), pictures(again, range(5)))
    assert (first.labels != other.labels).any()
    assert (pictures(first, range(5)) != pictures(other, range(5))).any()


def test_a_larger_catalogue_holds_the_smaller():
    small, large = (garments_catalogue(count=count, seed=1) for count in (20, 50))
    np.testing.assert_array_equal(large.labels[:20], small.labels)
    np.testing.assert_array_equal(pictures(large, range(4)), pictures(small, range(4)))
    for part in ("train", "test"):
        rows = large.parts[part]
        np.testing.assert_array_equal(rows[rows < 20], small.parts[part])
    assert [large.images.digest(row) for row in range(20)] == [small.images.digest(row) for row in range(20)]


def test_a_drawing_does_not_depend_on_earlier_drawings():
    catalogue = garments_catalogue(count=10)
    np.testing.assert_array_equal(pictures(catalogue, [7, 2])[1], pictures(catalogue, [2])[0])


@pytest.mark.parametrize("size", [1, 8, 64])
def test_size_and_dtype(size):
    catalogue = garments_catalogue(count=10)
    picture = catalogue.images.read(0, Transform(size, size + 2))
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_crop_is_the_centre_of_the_larger_drawing():
    images = garments_catalogue(count=10).images
    np.testing.assert_array_equal(images.read(3, Transform(28, 32)), images.read(3, SQUARE)[2:30, 2:30])


def test_attributes_are_uniform_and_independent():
    labels = garments_catalogue(count=6000).labels
    for n, size in enumerate(SCHEMA.sizes):
        shown = labels[labels[:, n] >= 0, n]
        np.testing.assert_allclose(np.bincount(shown, minlength=size) / len(shown), 1 / size, atol=0.03)
    color, pattern = labels[:, SCHEMA.names.index("color")], labels[:, SCHEMA.names.index("pattern")]
    joint = np.histogram2d(color, pattern, bins=(8, 4))[0] / len(labels)
    np.testing.assert_allclose(joint, 1 / 32, atol=0.012)


def test_only_lower_garments_lack_sleeve_and_neckline():
    labels = garments_catalogue(count=300).labels
    is_lower = np.array([SCHEMA.values[0][category] in LOWER for category in labels[:, 0]])
    for n, name in enumerate(SCHEMA.names):
        expected = is_lower if name in ("sleeve", "neckline") else np.zeros(300, bool)
        np.testing.assert_array_equal(labels[:, n] < 0, expected)


def test_every_value_changes_the_picture():
    catalogue = garments_catalogue(count=400)
    upper = next(row for row in range(400) if (catalogue.labels[row] >= 0).all())
    for n, size in enumerate(SCHEMA.sizes):
        seen = set()
        for value in range(size):
            if n == 0 and SCHEMA.values[0][value] in LOWER:
                continue
            catalogue.images.labels[upper, n] = value
            seen.add(catalogue.images.read(upper, SQUARE).tobytes())
        assert len(seen) == (4 if n == 0 else size)


def test_missing_labels_are_hidden_in_train_only():
    whole, sparse = garments_catalogue(count=2000), garments_catalogue(count=2000, missing=0.3)
    train, test = whole.parts["train"], whole.parts["test"]
    np.testing.assert_array_equal(sparse.labels[test], whole.labels[test])
    shown = whole.labels[train] >= 0
    hidden = shown & (sparse.labels[train] < 0)
    assert hidden.sum() / shown.sum() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(sparse.labels[train][~hidden], whole.labels[train][~hidden])
    np.testing.assert_array_equal(pictures(sparse, range(5)), pictures(whole, range(5)))
    assert (garments_catalogue(count=50, missing=1.0).part_labels("train") < 0).all()


def test_correlation_ties_train_to_the_category_and_leaves_test_alone():
    whole, tied = garments_catalogue(count=2000), garments_catalogue(count=2000, correlation=0.8)
    np.testing.assert_array_equal(tied.part_labels("test"), whole.part_labels("test"))
    labels = garments_catalogue(count=2000, correlation=1.0).part_labels("train")
    for category in range(SCHEMA.sizes[0]):
        assert len(np.unique(labels[labels[:, 0] == category], axis=0)) == 1
    color = SCHEMA.names.index("color")
    follows = (tied.part_labels("train")[:, color] == tied.part_labels("train")[:, 0]).mean()
    assert follows == pytest.approx(0.8 + 0.2 / 8, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": 1.5}, "^`missing` must lie in"),
        ({"correlation": float("nan")}, "^`correlation` must lie in"),
        ({"test_fraction": 1.0}, "^`test_fraction` must lie in"),
        ({"count": 3}, "^`count` = 3 leaves train or test without images"),
        ({"count": 0}, "^`count` = 0"),
        ({"count": -5}, "^`count` = -5"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        garments_catalogue(**{"count": 100, **options})
