import pathlib

import pytest

from gradrev_jax.data.formats.table.columns import AttributeRules, attribute_names, label_attributes
from gradrev_jax.data.formats.table.labels import VERBATIM, CellRules
from gradrev_jax.data.formats.table.text import Row
from gradrev_jax.errors import DataError

PATH = pathlib.Path("t.csv")
USUAL = CellRules()


def table(columns):
    cells = zip(*columns.values(), strict=True)
    return [Row(line, dict(zip(columns, row, strict=True))) for line, row in enumerate(cells, 2)]


def names(columns, used=(), attributes=(), ignore=()):
    """Returns the attributes among the columns, and the texts of the notes."""
    notes = []
    rules = AttributeRules(tuple(attributes), tuple(ignore))
    found = attribute_names(list(columns), table(columns), set(used), rules, PATH, notes.append)
    return found, [note.text for note in notes]


def label(columns, cells=USUAL, min_count=1, attributes=()):
    """Returns the schema, the labels, and the texts of the notes."""
    notes = []
    rules = AttributeRules(attributes, min_count=min_count)
    found = label_attributes(table(columns), dict.fromkeys(columns, cells), rules, PATH, notes.append)
    return *found, [note.text for note in notes]


def fails(read, *arguments, **options):
    with pytest.raises(DataError) as error:
        read(*arguments, **options)
    return str(error.value)


def test_all_columns_that_are_left_are_attributes():
    columns = {"image": "ab", "color": "rb", "size": "sm", "id": "xy"}
    assert names(columns, used=["image"], ignore=["id"]) == (("color", "size"), [])
    assert names(columns, attributes=("size", "id")) == (("size", "id"), [])


def test_row_numbers_and_nothing_without_a_name_are_no_attributes():
    columns = {"Unnamed: 0": ["5", "7", "7"], "color": "rgb", "Unnamed: 2": ["", "", ""]}
    assert names(columns) == (
        ("color",),
        [
            "t.csv: column 1 has no name and holds row numbers; it is no attribute",
            "t.csv: column 3 has no name and holds nothing; it is no attribute",
        ],
    )
    assert names(columns, attributes=["Unnamed: 0"]) == (("Unnamed: 0",), [])


def test_another_column_without_a_name_is_refused_with_its_position():
    columns = {"color": "rg", "Unnamed: 1": ["x", "3"]}
    message = fails(names, columns)
    assert "t.csv: column 2 of 2 has no name in the header, and holds '3' and the like; give it a" in message
    assert message.endswith("leave it out: `ignore=('Unnamed: 1',)`")
    assert names(columns, ignore=["Unnamed: 1"]) == (("color",), [])


@pytest.mark.parametrize("cells", [["train", "Test", ""], ["training", "gallery", "query"], ["val"] * 3])
def test_a_column_that_says_parts_is_no_attribute(cells):
    found, notes = names({"split": cells, "color": "rgb"})
    assert found == ("color",)
    assert notes[0].startswith("t.csv: column 'split' says parts (")
    assert notes[0].endswith("`split_column='split'` splits by it, `attributes` names attributes")
    assert names({"split": cells, "color": "rgb"}, attributes=["split"]) == (("split",), [])


def test_names_that_differ_in_case_are_noted():
    note = "t.csv: columns 'Color' and 'color ' are two attributes; `ignore` leaves one out"
    assert names({"Color": "rg", "color ": "ab"}) == (("Color", "color "), [note])


def test_contradictory_options_are_refused():
    columns = {"color": "rg", "size": "sm"}
    assert "('color', 'color') names a column twice" in fails(names, columns, attributes=["color", "color"])
    assert "'size' in both `attributes` and `ignore`" in fails(
        names, columns, attributes=["size"], ignore=["size"]
    )
    assert "did you mean 'color'? Set `ignore`" in fails(names, columns, ignore=["colour"])
    assert "no column is left" in fails(names, columns, ignore=["color", "size"])


def test_identifiers_are_all_refused_before_training_unless_they_are_named():
    ids = [str(number) for number in range(30)]
    columns = {"id": ids, "color": "rg" * 15, "text": [f"about {number}" for number in ids]}
    message = fails(label, columns)
    assert "column 'id' has 30 values in 30 labelled rows, most of them in one row alone: an ident" in message
    assert "column 'text' has" in message
    assert message.endswith("by `ignore=('id', 'text')`, or name the attributes in `attributes`.")
    schema, _, notes = label(columns, attributes=tuple(columns))
    assert schema.sizes == (30, 2, 30)
    assert notes[0] == (
        "t.csv: column 'id': has 30 values in 30 labelled rows; `ignore` leaves it out, `min_count` its "
        "rare values"
    )


def test_min_count_makes_an_attribute_of_an_identifier():
    cells = [*(str(number) for number in range(20)), *(["a"] * 4), *(["b"] * 4)]
    assert "'id' has 22 values in 28 labelled rows" in fails(label, {"id": cells})
    assert label({"id": cells}, min_count=2)[0].values == (("a", "b"),)


def test_many_values_for_the_number_of_rows_are_noted():
    _, _, notes = label({"item": [str(row // 2) for row in range(80)], "color": "rg" * 40})
    assert len(notes) == 1
    assert notes[0].startswith("t.csv: column 'item': has 40 values in 80 labelled rows; `ignore` leaves")


def test_a_word_for_missing_that_is_the_other_value_is_named():
    message = fails(label, {"pocket": ["none", "yes", "None"]})
    assert (
        "column 'pocket' has only the value 'yes': there is nothing to learn or to change ('none'" in message
    )
    assert "`verbatim='pocket'` makes it a value" in message
    assert label({"pocket": ["none", "yes", "none"]}, VERBATIM)[0].values == (("none", "yes"),)
