import numpy as np
import pytest

from gradrev_jax.search.changes import make_changes, make_replacement

MEMORY = np.ones((3, 4, 2), np.float32)
ATTRIBUTE_OF = np.array([0, 0, 1])


def test_indicators_must_fit_the_values_and_not_the_rows_of_the_memory(unchecked):
    memory, replacement = make_replacement(MEMORY, "replace", ATTRIBUTE_OF, np.zeros((2, 2), np.float32))
    assert memory.shape == (5, 4, 2)
    with pytest.raises(ValueError, match=r"2 queries need indicators \[2, 3\], got \(2, 5\)"):
        make_changes(np.zeros((2, 5)), 1.0, memory, replacement, 2)
    with pytest.raises(ValueError, match=r"2 queries need indicators \[2, 3\], got \(2, 4\)"):
        make_changes(np.zeros((2, 4)), 1.0, MEMORY, None, 2)


def test_blocks_of_attributes_without_a_value_follow_the_prototypes():
    absent = np.array([[1, 2], [3, 4]], np.float32)
    memory, _ = make_replacement(MEMORY, "replace", ATTRIBUTE_OF, absent)
    expected = np.zeros((2, 4, 2))
    expected[0, 0], expected[1, 1] = absent
    np.testing.assert_array_equal(memory, np.concatenate([MEMORY, expected]))


def test_eq_7_replaces_nothing():
    memory, replacement = make_replacement(MEMORY, "add", ATTRIBUTE_OF, None)
    assert memory is MEMORY
    assert replacement is None
    changes = make_changes(np.array([[-1, 1, 0]]), 0.5, MEMORY, None, 1)
    assert changes.additions.tolist() == [[-0.5, 0.5, 0]]
    assert changes.replaced is None
    assert changes.num_replaceable == 0


@pytest.mark.parametrize("strength", [0.0, -1.0, 2.0])
def test_what_is_replaced_does_not_depend_on_the_strength(strength):
    _, replacement = make_replacement(MEMORY, "replace", ATTRIBUTE_OF, None)
    changes = make_changes(np.array([[-1, 0.5, 0], [0, 0, -0.5]]), strength, MEMORY, replacement, 2)
    assert changes.additions.tolist() == [[0, 0.5 * strength, 0], [0, 0, 0]]
    assert changes.replaced.tolist() == [[True, False], [False, True]]
    assert changes.take(np.array([1])).replaced.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("move", None, None), "edit must be one of add, replace, got 'move'"),
        (("add", None, np.zeros((2, 2))), "absent is for edit='replace'"),
        (("replace", None, None), "edit='replace' needs attribute_of"),
        (("replace", np.array([0, 1]), None), r"attribute_of must be \[3\], one of the 4 blocks"),
        (("replace", np.array([0, 4, 1]), None), r"attribute_of must be \[3\], .* got \[0, 4, 1\]"),
        (("replace", np.array([0, -1, 1]), None), r"attribute_of must be \[3\]"),
        (("replace", ATTRIBUTE_OF, np.zeros((3, 2))), r"absent must be \[2, 2\], got \(3, 2\)"),
        (("replace", ATTRIBUTE_OF, np.array([[0, 0], [0, np.nan]])), "not finite for attribute 1"),
    ],
)
def test_edits_that_are_none(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_replacement(MEMORY, *arguments)
