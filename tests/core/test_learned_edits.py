import numpy as np
import pytest

from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.manipulation import manipulate

J, P, D = 4, 2, 3


@pytest.fixture
def given(rng):
    indicators = rng.integers(-1, 2, (6, J)).astype(np.int32)
    indicators[2] = 0
    return (
        rng.normal(size=(6, P, D)).astype(np.float32),
        indicators,
        rng.normal(size=(J, P, D)).astype(np.float32),
    )


def test_a_strength_does_to_eq_7_what_it_always_did(given):
    features, indicators, memory = given
    edit = LearnedEdit(lambda memory, f, i: manipulate(f, i, memory), memory)
    for strength in (0.5, 1.0, 2.0):
        expected = manipulate(features, strength * indicators.astype(np.float32), memory)
        np.testing.assert_allclose(edit(features, indicators, strength=strength), expected, atol=1e-6)


def test_at_strength_1_it_is_the_edit_to_the_bit_and_nothing_is_done_where_nothing_is_asked(given):
    features, indicators, factor = given[0], given[1], np.float32(1 / 3)
    edit = LearnedEdit(lambda factor, f, i: f * factor, factor)
    found = np.asarray(edit(features, indicators))
    np.testing.assert_array_equal(found[2], features[2])
    others = np.arange(6) != 2
    np.testing.assert_array_equal(found[others], features[others] * factor)


def test_it_has_a_name():
    assert str(LearnedEdit(lambda params, f, i: f, None)) == "learned"
