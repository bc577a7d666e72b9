import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.errors import DataError

SCHEMA = AttributeSchema(("color", "size", "fit"), (("blue", "green", "red"), ("s", "m"), ("x",)))


def labels_of(rng, count):
    return np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1).astype(np.int32)


def test_every_triplet_is_one_change_a_match_and_a_mismatch(rng):
    labels = labels_of(rng, 60)
    triplets = generate_triplets(labels, SCHEMA, count=500)
    assert len(triplets) == 500
    for r, p, n, indicator in zip(
        triplets.reference, triplets.positive, triplets.negative, triplets.indicators, strict=True
    ):
        asked = labels[r].copy()
        assert (indicator == 1).sum() == 1
        for v in np.flatnonzero(indicator):
            attribute = SCHEMA.attribute_of[v]
            value = v - SCHEMA.offsets[attribute]
            if indicator[v] == 1:
                asked[attribute] = value
            else:
                assert labels[r, attribute] == value
        assert (labels[r] != asked).sum() == 1
        assert (labels[p] == asked).all()
        assert (labels[n] != asked).any()
    assert (triplets.indicators.sum(axis=1) == 1).any(), "add-only changes are among them"


def test_every_possible_reference_positive_and_negative_is_drawn():
    labels = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 1, 0]])
    triplets = generate_triplets(labels, SCHEMA, count=300)
    assert set(triplets.reference) == {0, 1, 2}
    assert set(triplets.positive[triplets.reference == 0]) == {1, 2}
    assert set(triplets.negative[triplets.reference == 0]) == {0, 3}
    assert set(triplets.positive[triplets.reference == 1]) == {0}
    assert set(triplets.negative[triplets.reference == 1]) == {1, 2, 3}
    assert np.bincount(triplets.reference, minlength=3)[:3].min() > 70


def test_the_seed_decides_everything(rng):
    labels = labels_of(rng, 40)
    first, again, other = (generate_triplets(labels, SCHEMA, count=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.reference, again.reference)
    np.testing.assert_array_equal(first.negative, again.negative)
    assert (first.reference != other.reference).any()


def test_labels_that_no_change_leads_to_are_refused():
    with pytest.raises(DataError, match="no triplet can be made"):
        generate_triplets(np.array([[0, 0, 0], [1, 1, 0]]), SCHEMA, count=5)
