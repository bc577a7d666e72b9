import jax
import numpy as np
import pytest

from gradrev_jax.attributes import AttributeSchema, check_labels

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


def test_layout_of_the_values():
    assert SCHEMA.num_attributes == 3
    assert SCHEMA.num_values == 6
    assert SCHEMA.sizes == (3, 2, 1)
    assert SCHEMA.offsets == (0, 3, 5)
    assert SCHEMA.attribute_of.tolist() == [0, 0, 0, 1, 1, 2]
    assert SCHEMA.membership.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 2]
    assert SCHEMA.membership.sum() == 6
    assert SCHEMA.slice_index.tolist() == [[0, 1, 2], [3, 4, 4], [5, 5, 5]]


def test_one_hot_against_a_loop_and_back():
    labels = np.array([[0, 1, 0], [2, -1, 0], [-1, -1, -1]])
    expected = np.zeros((3, 6))
    for row, per_attribute in enumerate(labels):
        for n, label in enumerate(per_attribute):
            if label >= 0:
                expected[row, SCHEMA.offsets[n] + label] = 1
    one_hot = SCHEMA.one_hot(labels)
    np.testing.assert_array_equal(one_hot, expected)
    np.testing.assert_array_equal(SCHEMA.labels(one_hot), labels)


def test_one_hot_of_no_rows():
    assert SCHEMA.one_hot(np.zeros((0, 3), int)).shape == (0, 6)
    assert SCHEMA.labels(np.zeros((0, 6), np.float32)).shape == (0, 3)


def test_words():
    assert SCHEMA.index("color", "red") == 2
    assert SCHEMA.index("size", "m") == 4
    assert SCHEMA.value_name(4) == "m"
    assert SCHEMA.describe(np.array([2, -1, 0])) == "color: red, size: not labelled, only: x"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="no attribute is called 'colour'; did you mean 'color'"):
        SCHEMA.index("colour", "red")
    with pytest.raises(
        ValueError, match="no value of attribute 'color' is called 'gren'; did you mean 'green'"
    ):
        SCHEMA.index("color", "gren")
    with pytest.raises(ValueError, match="known: s, m"):
        SCHEMA.index("size", "enormous")


def test_is_a_static_argument():
    assert hash(SCHEMA) == hash(AttributeSchema(SCHEMA.names, SCHEMA.values))
    width = jax.jit(lambda labels, schema: schema.one_hot(labels), static_argnums=1)
    assert width(np.array([[0, 1, 0]]), SCHEMA).shape == (1, 6)


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ((), (), "at least one attribute"),
        (("a",), (("x",), ("y",)), "1 attribute names but 2 lists"),
        (("a", "a"), (("x",), ("y",)), "'a' stand"),
        (("a",), ((),), "'a' has no values"),
        (("a",), (("x", "y", "x"),), "'a' must be unique; 'x' stand"),
    ],
)
def test_bad_schemas(names, values, message):
    with pytest.raises(ValueError, match=message):
        AttributeSchema(names, values)


def test_check_labels_names_the_first_bad_cell():
    check_labels(np.array([[2, -1, 0]]), SCHEMA)
    with pytest.raises(ValueError, match=r"label 2 of row 1 is outside \[-1, 2\) of attribute 'size'"):
        check_labels(np.array([[0, 0, 0], [0, 2, 0]]), SCHEMA)
    with pytest.raises(ValueError, match="-2 of row 0"):
        check_labels(np.array([[-2, 0, 0]]), SCHEMA)
    with pytest.raises(ValueError, match="need 3 columns"):
        check_labels(np.array([[0, 0]]), SCHEMA)
