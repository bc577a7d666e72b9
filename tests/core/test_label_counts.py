import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs, label_slots, marginals

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


@pytest.fixture
def labels(rng):
    return np.stack([rng.integers(-1, size, 40) for size in SCHEMA.sizes], axis=1)


def attribute_and_value(slot):
    if slot >= SCHEMA.num_values:
        return slot - SCHEMA.num_values, -1
    n = SCHEMA.attribute_of[slot]
    return n, slot - SCHEMA.offsets[n]


def test_pairs_are_counted_for_all_values_and_for_what_is_missing(labels):
    counts = count_pairs(labels, SCHEMA)
    assert counts.shape == (9, 9)
    for a in range(9):
        for b in range(9):
            (n, v), (m, w) = attribute_and_value(a), attribute_and_value(b)
            assert counts[a, b] == ((labels[:, n] == v) & (labels[:, m] == w)).sum()


@pytest.mark.parametrize("left_out", [0, 1])
def test_conditionals_are_smoothed_by_one_image_of_the_marginal(labels, left_out):
    counts = count_pairs(labels, SCHEMA)
    prior, given = marginals(counts, SCHEMA), conditionals(counts, SCHEMA, left_out=left_out)
    for b in range(6):
        m, w = attribute_and_value(b)
        labelled = labels[:, m] >= 0
        expected = ((labels[:, m] == w).sum() + 1 / SCHEMA.sizes[m]) / (labelled.sum() + 1)
        assert prior[b] == pytest.approx(expected)
        for a in range(9):
            n, v = attribute_and_value(a)
            rows = (labels[:, n] == v) & labelled
            both = max((rows & (labels[:, m] == w)).sum() - left_out, 0)
            assert given[a, b] == pytest.approx((both + prior[b]) / (max(rows.sum() - left_out, 0) + 1))
    if not left_out:
        np.testing.assert_allclose(given @ SCHEMA.membership, 1)


def test_without_images_all_is_uniform():
    counts = count_pairs(np.zeros((0, 3), int), SCHEMA)
    uniform = [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1]
    np.testing.assert_allclose(marginals(counts, SCHEMA), uniform)
    np.testing.assert_allclose(conditionals(counts, SCHEMA), np.tile(uniform, (9, 1)))


def test_slots_put_what_is_missing_behind_all_values():
    assert label_slots(np.array([[2, 1, 0], [-1, -1, -1]]), SCHEMA).tolist() == [[2, 4, 5], [6, 7, 8]]
    with pytest.raises(ValueError, match="label 3 of row 0 is outside .-1, 3. of attribute 'color'"):
        label_slots(np.array([[3, 0, 0]]), SCHEMA)
