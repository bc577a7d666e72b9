import jax
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema, check_labels, sanitize_labels

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "green", "red"), ("s", "m"), ("x",)))


def test_layout_of_the_values():
    assert SCHEMA.num_attributes == 3
    assert SCHEMA.num_values == 6
    assert SCHEMA.sizes == (3, 2, 1)
    assert SCHEMA.offsets == (0, 3, 5)
    assert SCHEMA.attribute_of.tolist() == [0, 0, 0, 1, 1, 2]
    assert SCHEMA.membership.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 2]
    assert SCHEMA.membership.sum() == 6
    assert SCHEMA.position_of.tolist() == [0, 1, 2, 0, 1, 0]
    assert SCHEMA.slice_index.tolist() == [[0, 1, 2], [3, 4, 4], [5, 5, 5]]
    assert SCHEMA.slice_mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]


@pytest.mark.parametrize("as_array", [np.asarray, jax.numpy.asarray])
def test_likeliest_values_against_a_loop(as_array):
    scores = np.random.default_rng(0).integers(0, 3, (2, 50, 6)).astype(np.float32)  # with ties
    expected = np.zeros((2, 50, 3), int)
    for index in np.ndindex(2, 50):
        for n, (offset, size) in enumerate(zip(SCHEMA.offsets, SCHEMA.sizes, strict=True)):
            values = scores[index][offset : offset + size].tolist()
            expected[(*index, n)] = values.index(max(values))
    np.testing.assert_array_equal(SCHEMA.likeliest(as_array(scores)), expected)


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
    assert SCHEMA.words(np.array([2, -1, 0])) == ("red", "not labelled", "x")


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
        (("a", "a"), (("x",), ("y",)), "unique; repeated: 'a'"),
        (("a",), ((),), "'a' has no values"),
        (("a",), (("x", "y", "x"),), "'a' must be unique; repeated: 'x'"),
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


def test_a_schema_of_lists_is_one_of_tuples(unchecked):
    schema = AttributeSchema(["color", "size", "only"], [["blue", "green", "red"], ("s", "m"), ["x"]])
    assert schema == SCHEMA
    assert hash(schema) == hash(SCHEMA)


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ("ab", (("x",), ("y",)), "names must be a sequence, got the string 'ab'"),
        (("a",), "xy", "values must be a sequence, got the string 'xy'"),
        (("a", "b"), ("x", "yz"), "values of attribute 'a' must be a sequence of names, got the string 'x'"),
        ([], [], "at least one attribute"),
        (["a"], [["x", "x"]], "repeated: 'x'"),
    ],
)
def test_what_is_no_sequence_of_names(unchecked, names, values, message):
    with pytest.raises(ValueError, match=message):
        AttributeSchema(names, values)


@pytest.mark.parametrize("bad", [-100, -2, 3, 255])
def test_only_minus_one_is_not_labelled(bad):
    labels = np.array([[0, 1, 0], [bad, 1, -1]])
    with pytest.raises(ValueError, match=rf"labels: label {bad} of row 1 is outside .* 'color'"):
        SCHEMA.one_hot(labels)
    expected = SCHEMA.one_hot(np.array([[0, 1, 0], [-1, 1, -1]]))
    np.testing.assert_array_equal(jax.jit(SCHEMA.one_hot)(labels), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
def test_traced_labels_outside_of_their_attribute_are_not_labelled(unchecked, dtype):
    labels = np.array([[2, 1, 0], [100, 2, 1]], dtype)
    found = jax.jit(lambda labels: sanitize_labels(labels, SCHEMA))(labels)
    assert found.tolist() == [[2, 1, 0], [-1, -1, -1]]
    if np.issubdtype(dtype, np.unsignedinteger):
        largest = np.full((1, 3), np.iinfo(dtype).max, dtype)
        assert jax.jit(lambda labels: sanitize_labels(labels, SCHEMA))(largest).tolist() == [[-1] * 3]


def test_labels_that_are_no_whole_numbers(unchecked):
    for labels in (np.zeros((2, 3)), np.zeros((2, 3), bool)):
        with pytest.raises(ValueError, match=f"labels must be of an integer dtype, got {labels.dtype}"):
            SCHEMA.one_hot(labels)
        with pytest.raises(ValueError, match="labels must be of an integer dtype"):
            jax.jit(SCHEMA.one_hot)(labels)
    with pytest.raises(ValueError, match=r"labels need 3 columns \(attributes\), got \(2, 2\)"):
        jax.jit(SCHEMA.one_hot)(np.zeros((2, 2), int))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 0, 2, 0, 0, 0], "must hold 0 and 1 only, got 2.0 in row 1"),
        ([0, 0, np.nan, 0, 0, 0], "must hold 0 and 1 only, got nan in row 1"),
        ([1, 0, 1, 0, 0, 0], "several values of attribute 'color' in row 1; at most one is allowed"),
        ([0, 0, 1, 0, 0], r"needs 6 columns \(values\), got \(2, 5\)"),
    ],
)
def test_rows_that_are_not_one_hot(row, message):
    with pytest.raises(ValueError, match=message):
        SCHEMA.labels(np.array([np.zeros(len(row)), row], np.float32))


def test_words_of_what_is_no_value():
    for index in (-1, 6):
        with pytest.raises(ValueError, match=rf"index must lie in \[0, 6\), got {index}"):
            SCHEMA.value_name(index)
    with pytest.raises(ValueError, match="label -2 of row 0"):
        SCHEMA.words(np.array([-2, 0, 0]))
