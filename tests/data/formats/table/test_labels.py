import numpy as np
import pytest

from gradrev_jax.data.formats.table.labels import (
    VERBATIM,
    CellRules,
    find_several_values,
    is_identifier,
    label_values,
    read_column,
    spelling_key,
    usual_spellings,
)

USUAL = CellRules()


def read(cells, rules=USUAL):
    column, notes = read_column(cells, rules)
    return column.values, [note.text for note in notes]


def test_clean_cells_are_their_values_without_a_note():
    cells = ["red", "", "light blue", "red", "V-neck", "unknown", "other", "7", "-1"]
    assert read(cells) == (cells, [])


@pytest.mark.parametrize(
    "word", ["NA", "N/A", "nan", "NaN", "None", "NONE", "null", "-", "?", "#N/A", "<NA>"]
)
def test_usual_words_for_missing_are_not_labelled(word):
    values, notes = read([word, "red", word, "blue"])
    assert values == ["", "red", "", "blue"]
    assert notes == [f"2 cells are not labelled: {word!r} (2); `missing_words` has such words"]
    assert read([word, "red"], CellRules(())) == ([word, "red"], [])
    assert read([word, "red"], VERBATIM) == ([word, "red"], [])


def test_a_cell_of_invisible_characters_is_empty():
    assert read(["\u200b", "red"])[0] == ["", "red"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("red", "RED"),
        ("light blue", "light  blue"),
        ("light blue", "Light\u00a0Blue"),
        ("light blue", "light\nblue"),
        ("gr\u00fcn", "gru\u0308n"),
        ("red", "red\u200b"),
        ("red", "\uff52\uff45\uff44"),
        ("wei\u00df", "WEISS"),
        ("7", "7.0"),
    ],
)
def test_spellings_of_a_value_are_one_value(first, second):
    assert spelling_key(first) == spelling_key(second)
    values, notes = read([first, second, first, "x"])
    assert values == [first, first, first, "x"]
    assert notes == [
        f"1 cell has another spelling: {second!r} (1) as {first!r}; "
        "`merge_spellings=False` keeps spellings apart"
    ]
    assert read([second, first, second])[0] == [second] * 3, "that of most rows"
    assert read([first, second], CellRules(merge_spellings=False)) == ([first, second], [])


@pytest.mark.parametrize(("first", "second"), [("7", "07"), ("7.0", "7.5"), ("S", "M"), ("a b", "ab")])
def test_other_differences_stay_apart(first, second):
    assert read([first, second]) == ([first, second], [])


def test_of_equally_frequent_spellings_the_shortest_and_first_is_taken():
    assert set(usual_spellings({"a  b": 1, "a b": 1}).values()) == {"a b"}
    assert set(usual_spellings({"red": 1, "Red": 1}).values()) == {"Red"}


def test_spellings_that_were_known_before_are_the_usual_ones():
    assert usual_spellings({"Red": 9, "RED": 1, "Blue": 2}, ["red", "grey"]) == {
        "Red": "red",
        "RED": "red",
        "Blue": "Blue",
    }
    cells = ["36.0", "38.0", "", "40"]
    assert read_column(cells, CellRules(), ("36", "38"))[0].values == ["36", "38", "", "40"]
    assert read_column(cells, VERBATIM, ("36", "38"))[0].values == cells
    both = CellRules(value_separator="|")
    assert read_column(["Red|blue"], both, ("blue|red",))[0].values == ["blue|red"]


def test_a_note_quotes_the_most_frequent_cells_and_counts_the_others():
    words = ["aA", "bB", "cC", "dD", "eE", "fF", "gG"]
    cells = [word for count, word in enumerate(words, 1) for _ in range(count)]
    note = read([*cells, *(cell.lower() for cell in cells for _ in range(2))])[1][0]
    assert note.startswith("28 cells have another spelling: 'gG' (7) as 'gg', 'fF' (6) as 'ff', ")
    assert "'cC' (3) as 'cc' and 2 others; `merge" in note


@pytest.mark.parametrize("separator", ["|", ";", ",", "/", ", ", " | "])
def test_several_values_in_a_cell_are_noted_and_put_in_order_on_request(separator):
    one, other = f"red{separator}blue", f"blue{separator}red"
    character = separator.strip()
    values, notes = read([one, other, one, "green"])
    assert values == [one, other, one, "green"]
    assert notes == [
        f"3 cells seem to hold several values: {one!r} (2), {other!r} (1); each combination and order is its "
        f"own value; `value_separator={character!r}` makes all orders one value"
    ]
    joined = f"blue{character}red"
    values, notes = read([one, other, one, "green"], CellRules(value_separator=character))
    assert values == [joined, joined, joined, "green"]
    assert notes == [f"2 cells are read with their values in order: {one!r} (2) as {joined!r}"]


def test_parts_of_a_cell_may_be_missing_repeated_or_spelled_otherwise():
    values, _ = read(["red|NA", "Red|red", "na|?", "red|blue", "red"], CellRules(value_separator="|"))
    assert values == ["red", "red", "", "blue|red", "red"]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["red|pink", "red"], ["red|pink"]),
        (["black/white", "x/y", "green"], []),
        (["1,5", "1", "5"], []),
        (["S/", "S"], []),
        (["38/40", "38", "40"], ["38/40"]),
    ],
)
def test_several_values_are_recognised_by_parts_that_are_values(values, found):
    assert list(find_several_values(dict.fromkeys(values, 1))[1]) == found


def test_labels_are_positions_among_the_values_that_enough_rows_have():
    values, labels = label_values(["b", "a", "", "c", "a", "b"], 2)
    assert values == ("a", "b")
    assert labels.tolist() == [1, 0, -1, -1, 0, 1]
    assert labels.dtype == np.int32


@pytest.mark.parametrize(
    ("own", "pairs", "identifier"), [(20, 0, True), (19, 0, False), (20, 10, False), (20, 9, True)]
)
def test_a_column_is_an_identifier_where_most_rows_have_a_value_of_their_own(own, pairs, identifier):
    labels = np.array([*range(own), *np.repeat(np.arange(pairs) + own, 2), *[-1] * 50], np.int32)
    assert is_identifier(labels) == identifier


def test_no_label_is_no_identifier():
    assert not is_identifier(np.full(30, -1, np.int32))
