import numpy as np
import pytest

from gradrev_jax.errors import DataError
from gradrev_jax.serving.engines import engine
from gradrev_jax.serving.engines.engine import Lengths, check_gallery
from tests.engine_galleries import make_gallery


@pytest.fixture
def gallery():
    return make_gallery()[1]


def test_the_range_of_lengths_is_found_over_all_blocks_of_rows(monkeypatch):
    _, gallery = make_gallery(normalize="none")
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 7)
    gallery = gallery._replace(rest_from=10)
    expected = []
    for part in (gallery.vectors, gallery.vectors[:, :10], gallery.vectors[:, 10:]):
        lengths = [sum(float(number) ** 2 for number in row) ** 0.5 for row in part]
        expected.append((min(lengths), max(lengths)))
    found = check_gallery(gallery)
    np.testing.assert_allclose(found, expected)
    for rest in (1.0, 0.0, 0.5, 3.0):
        weighed = gallery.vectors.astype(np.float64) * np.where(
            np.arange(gallery.vectors.shape[1]) < 10, 1, rest
        )
        squares = np.square(weighed).sum(axis=1)
        assert squares.max() - squares.min() <= found.spread(rest) * (1 + 1e-12)


@pytest.mark.parametrize("normalize", ["global", "attribute"])
def test_normalised_vectors_are_equally_long_and_others_are_not(normalize):
    assert check_gallery(make_gallery(normalize=normalize)[1]).are_equal
    assert not check_gallery(make_gallery(normalize="none")[1]).are_equal
    assert not Lengths((0.0, 1.0), (0.0, 1.0), (0.0, 0.0)).are_equal


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_vector_that_cannot_be_compared_is_named(gallery, bad):
    vectors = gallery.vectors.copy()
    vectors[150, 3] = bad
    with pytest.raises(DataError, match=r"150.jpg \(row 150\) cannot be compared"):
        check_gallery(gallery._replace(vectors=vectors))


def test_a_gallery_that_is_empty_or_does_not_agree_is_refused(gallery):
    with pytest.raises(DataError, match="empty"):
        check_gallery(gallery._replace(vectors=gallery.vectors[:0], names=[], labels=gallery.labels[:0]))
    with pytest.raises(ValueError, match="200 vectors, 199 names and 200 rows of labels disagree"):
        check_gallery(gallery._replace(names=gallery.names[1:]))
    with pytest.raises(ValueError, match="label 5 of row 0"):
        check_gallery(gallery._replace(labels=gallery.labels * 0 + 5))
