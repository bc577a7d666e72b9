import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.indicators import make_indicator
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.replacement import replace_blocks
from gradrev_jax.errors import ConfigError
from gradrev_jax.search.item_search import ItemGallery
from gradrev_jax.serving.changes import Change, Described, check_changes, last_changes, make_edit
from gradrev_jax.serving.matching import ANYTHING, wanted_labels

SCHEMA = AttributeSchema(("color", "size", "logo"), (("blue", "green", "red"), ("s", "m"), ("yes",)))
ITEM = Described(np.array([1, -1, 0]), np.array([1, 1, 0]), np.array([0.25, 0.5, 0.25, 0.125, 0.375, 0.5]))
ASKED = [
    {"color": "red"},
    {"color": None},
    {"size": "s"},
    {"size": "s", "color": "blue"},
    {"logo": None, "color": "red"},
]


def as_changes(values, strength=1.0):
    return [Change(name, value, strength) for name, value in values.items()]


@pytest.mark.parametrize("values", ASKED)
def test_a_labelled_item_is_edited_as_manipulate_edits_it(rng, values):
    """An unlabelled attribute loses its predicted value, which is tested below."""
    item = ITEM._replace(labels=np.array([1, 1, 0]))
    blocks = rng.normal(size=(3, 4)).astype(np.float32)
    memory = rng.normal(size=(6, 3, 4)).astype(np.float32)
    gallery = ItemGallery.build(blocks[None], memory, np.zeros((3, 4), np.float32))
    edit = make_edit(as_changes(values, 0.5), item, SCHEMA, "add", strength=3.0)
    indicator = 1.5 * make_indicator(SCHEMA, item.labels, values)
    np.testing.assert_allclose(
        gallery.edit(blocks, edit), manipulate(blocks, indicator, memory), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("values", ASKED)
def test_an_item_is_edited_as_replace_blocks_edits_it(rng, values):
    blocks, absent = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    memory = rng.normal(size=(6, 3, 4))
    gallery = ItemGallery.build(*(x.astype(np.float32) for x in (blocks[None], memory, absent)))
    edit = make_edit(as_changes(values, 0.5), ITEM, SCHEMA, "replace", strength=3.0)
    indicator = np.zeros(6)
    for name, value in values.items():
        n = SCHEMA.names.index(name)
        v = SCHEMA.offsets[n] if value is None else SCHEMA.index(name, value)
        indicator[v] = -1 if value is None else 1
    expected = replace_blocks(blocks, indicator, memory, SCHEMA.attribute_of, strength=1.5, absent=absent)
    np.testing.assert_allclose(gallery.edit(blocks.astype(np.float32), edit), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("removes", "expected"),
    [
        ("label", [0, -1, 1, 1, -1, 0]),  # its label; without one, the predicted value
        ("predicted", [0, -1, 1, 1, -1, 0]),
        ("expected", [-0.25, -0.5, 0.75, 0.75, -0.75, 0]),
    ],
)
def test_what_is_removed(removes, expected):
    item = ITEM._replace(predicted=np.array([0 if removes == "label" else 1, 1, 0]))
    edit = make_edit(as_changes({"color": "red", "size": "s"}), item, SCHEMA, "add", removes=removes)
    np.testing.assert_allclose(edit.factors, expected)


def test_the_last_change_of_an_attribute_counts():
    changes = [Change("color", "red", 2.0), Change("size", "m"), Change("color", "blue")]
    once = [Change("color", "blue"), Change("size", "m")]
    for edit in ("add", "replace"):
        several, single = (make_edit(x, ITEM, SCHEMA, edit) for x in (changes, once))
        np.testing.assert_array_equal(several.factors, single.factors)
    assert wanted_labels(ITEM.labels, changes, SCHEMA).tolist() == [0, 1, 0]
    assert wanted_labels(ITEM.labels, [Change("logo", None)], SCHEMA).tolist() == [1, -1, ANYTHING]


def deny(*values):
    return Change("color", None, unwanted=values)


@pytest.mark.parametrize(
    ("changes", "to", "unwanted"),
    [
        ([deny("red"), deny("blue"), deny("red")], None, ("red", "blue")),
        ([deny("red"), Change("color", "blue")], "blue", ()),
        ([Change("color", "blue"), deny("red")], "blue", ()),
        ([Change("color", "red"), deny("red")], None, ("red",)),
        ([deny("red"), Change("color", None)], None, ()),
        ([Change("color", None), deny("red")], None, ("red",)),
    ],
)
def test_unwanted_values_add_up_and_leave_another_value_in_place(changes, to, unwanted):
    assert last_changes(changes) == {"color": Change("color", to, unwanted=unwanted)}


@pytest.mark.parametrize(
    ("removes", "unwanted", "expected"),
    [
        ("label", ["blue"], [0, 0, 0]),  # it is green, and blue is not predicted
        ("label", ["green"], [0, -1, 0]),
        ("label", ["red"], [0, 0, -1]),  # predicted
        ("label", ["red", "green"], [0, -1, 0]),
        ("predicted", ["red", "green"], [0, 0, -1]),
        ("predicted", ["green", "blue"], [0, -1, 0]),
        ("expected", ["blue"], [0, 0, 0]),
        ("expected", ["blue", "red"], [-0.25, 0, -0.5]),
    ],
)
def test_of_unwanted_values_those_that_an_item_has_are_taken_away(removes, unwanted, expected):
    item = Described(np.array([1, -1, 0]), np.array([2, 1, 0]), np.array([0.25, 0.25, 0.5, 0.5, 0.5, 1]))
    edit = make_edit([deny(*unwanted)], item, SCHEMA, "add", removes=removes)
    np.testing.assert_array_equal(edit.factors, [*expected, 0, 0, 0])
    replaced = make_edit([deny(*unwanted)], item, SCHEMA, "replace", removes=removes)
    assert replaced.replaced.tolist() == replaced.emptied.tolist() == [any(expected), False, False]
    assert not replaced.factors.any()


def test_a_value_that_an_item_has_already_is_no_edit():
    for edit in ("add", "replace"):
        made = make_edit([Change("color", "green", 3.0)], ITEM, SCHEMA, edit)
        assert not made.factors.any()
        assert not made.replaced.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("colour", "red"), "no attribute is called 'colour'; did you mean color?"),
        (Change("xyz", "red"), "no attribute is called 'xyz'; there are color, size, logo"),
        (Change("color", "gren"), "color has no value 'gren'; did you mean green?"),
        (deny("gren"), "color has no value 'gren'; did you mean green?"),
        (
            Change("color", "red", unwanted=("blue", "green")),
            "a change of color says both what it is to be, red, and what not, blue, green; give one",
        ),
        (Change("size", "xl"), "size has no value 'xl'; it has s, m"),
        (
            Change("size", "m", float("inf")),
            "the strength of a change of size must be a number between -1,000,000 and 1,000,000, got inf",
        ),
    ],
)
def test_changes_that_cannot_be_made_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        check_changes([change], SCHEMA)
