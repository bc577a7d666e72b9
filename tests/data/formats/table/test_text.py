import codecs

import pytest

from gradrev_jax.data.formats.table.text import read_cells, recognise_delimiter
from gradrev_jax.errors import DataError

LINES = ["image,split,color", "a.jpg,train,red", "b.jpg,test,blue"]


def read(tmp_path, content, **options):
    """Returns the header, rows as (line, cells), and the notes without the folder."""
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes = []
    header, rows = read_cells(path, say=notes.append, **{"expected": ("image", "split"), **options})
    found = [(row.line, list(row.cells.values())) for row in rows]
    return header, found, [note.text.replace(f"{tmp_path}/", "") for note in notes]


def fails(tmp_path, content, **options):
    with pytest.raises(DataError) as error:
        read(tmp_path, content, **options)
    return str(error.value).replace(f"{tmp_path}/", "")


def test_a_clean_table_is_read_without_a_note(tmp_path):
    header, rows, notes = read(tmp_path, "\n".join(LINES))
    assert header == ["image", "split", "color"]
    assert rows == [(2, ["a.jpg", "train", "red"]), (3, ["b.jpg", "test", "blue"])]
    assert notes == []


@pytest.mark.parametrize(("character", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_other_delimiters_are_recognised_and_noted(tmp_path, character, name, start):
    text = start + "\n".join(LINES).replace(",", character)
    header, rows, notes = read(tmp_path, text)
    assert header == ["image", "split", "color"]
    assert rows[0] == (2, ["a.jpg", "train", "red"])
    assert notes == [f"t.csv: its columns are separated by {name}; `delimiter` sets another"]
    assert read(tmp_path, text, delimiter=character)[1:] == (rows, [])


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ('image;split;"color, main"\na;train;"red, light"', ";"),
        ("image;split;price, EUR\na;train;1,5\nb;test;2,5", ";"),
        ('image,split,"a;b;c;d;e"\na,train,x', ","),
        ("image,a|b|c|d\nx,1|2|3|4", ","),
        ("picture,a;b;c\nx,1", ","),
        ("picture;a\nx;1,5\ny;2,5", ";"),
        ("image\na", ","),
        ("", ","),
    ],
)
def test_a_delimiter_is_recognised_by_names_and_lengths(text, delimiter):
    assert recognise_delimiter(text, ("image", "split")) == delimiter


def test_a_delimiter_is_recognised_although_a_quote_is_never_closed(tmp_path):
    text = "image;split\na;train\n" + 'b;"test\n' + "c;train\n" * 20000
    assert recognise_delimiter(text, ("image",)) == ";"
    assert "line 3: a quote opens a cell here and is not closed" in fails(tmp_path, text)


def test_excels_line_with_the_separator_is_no_header(tmp_path):
    header, rows, notes = read(tmp_path, "sep=;\r\n" + "\r\n".join(LINES).replace(",", ";"))
    assert header[0] == "image"
    assert [line for line, _ in rows] == [3, 4]
    assert notes == ["t.csv: its columns are separated by semicolons; `delimiter` sets another"]
    assert read(tmp_path, "sep=,\n" + "\n".join(LINES))[2] == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_encodings_are_read_and_noted(tmp_path, encoding):
    text = "\r\n".join(LINES).replace("red", "größe")
    _, rows, notes = read(tmp_path, text.encode(encoding))
    assert rows[0][1][2] == "größe"
    assert notes == [f"t.csv: read as {encoding.upper()}"]
    assert "begins as UTF-16 but is not" in fails(tmp_path, codecs.BOM_UTF16_LE + b"abc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04..", "an Excel workbook or another zip file; save it as CSV"),
        (b"\x1f\x8b\x08", "compressed by gzip; unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (b"image,a\nx,\xe4", "line 2: byte 0xe4 is not UTF-8; save the table as UTF-8"),
        (b"image,a\rx,\xe4", "line 2: byte 0xe4"),
        ("\n".join(LINES).encode("utf-16-le"), "line 1: holds a NUL character; save the table as UTF-8"),
        (b"# from a tool\nimage,a\nx,y", "line 1 begins with '#', but comments are not read"),
    ],
)
def test_other_files_are_told_from_tables(tmp_path, content, message):
    assert message in fails(tmp_path, content)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_ends_where_an_editor_ends_it(tmp_path, character):
    text = f"image,split,color\na,train,re{character}d\nb,dev,x\n"
    assert read(tmp_path, text)[1] == [(2, ["a", "train", f"re{character}d"]), (3, ["b", "dev", "x"])]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_are_counted_through_quoted_cells_and_blank_lines(tmp_path, end):
    text = end.join(['image,split,"two', 'lines"', "", 'a,train,"dark', "", 'red"', "b,test,blue"])
    header, rows, _ = read(tmp_path, text)
    assert header[2] == f"two{end}lines"
    assert rows == [(4, ["a", "train", f"dark{end}{end}red"]), (7, ["b", "test", "blue"])]


def test_a_quote_that_is_not_closed_is_named_by_the_line_that_opens_it(tmp_path):
    rows = [f"{row}.jpg,train,red" for row in range(70)]
    rows[3] = '3.jpg,train,"red'
    message = fails(tmp_path, "\n".join([LINES[0], *rows]))
    assert message.startswith(
        "t.csv, line 5: a quote opens a cell here and is not closed: '3.jpg,train,\"red'\n"
    )
    rows[3] = '3.jpg,"tra\nin","red'
    assert fails(tmp_path, "\n".join([LINES[0], *rows])).startswith("t.csv, line 6: a quote opens")
    rows[3], rows[40] = '3.jpg,train,"red', '40.jpg,train,"red, blue"'
    message = fails(tmp_path, "\n".join([LINES[0], *rows]))
    assert "line 42: a cell goes on after its closing quote; the row begins in line 5, where" in message
    assert "40.jpg,train" in message


def test_rows_within_quotes_are_noted(tmp_path):
    rows = ["0.jpg,train,red", '1.jpg,train,"red', "2.jpg,train,red", '3.jpg,train,12"', "4.jpg,test,red"]
    assert read(tmp_path, "\n".join([LINES[0], *rows]))[2] == [
        "t.csv: lines 3 to 5 are one row each, because a quote closes lines later, though some of them look "
        "like rows themselves"
    ]


def test_quotes_behind_blanks_and_in_the_middle(tmp_path):
    assert read(tmp_path, 'image, split, color\na, train, "red, light"\nb,test,12" tv')[1] == [
        (2, ["a", "train", "red, light"]),
        (3, ["b", "test", '12" tv']),
    ]
    message = fails(tmp_path, 'image,split,color\na,train,"12" tv"')
    assert 'line 2: a cell goes on after its closing quote: \'a,train,"12" tv"\'' in message


def test_a_cell_beyond_the_limit_is_named(tmp_path):
    message = fails(tmp_path, f"image,split\na,train\nb,{'x' * 131073}")
    assert "line 3: a cell has more than 131,072 characters" in message


def test_malformed_rows_are_shown_ten_and_a_count(tmp_path):
    bad = [f"{row}.jpg,train,red,{'x' * 200}" for row in range(22)]
    first, *problems, advice = fails(tmp_path, "\n".join([*LINES, *bad])).splitlines()
    assert first == "t.csv: the header has 3 fields, but"
    assert problems[0] == f"  line 4: 4 fields: '0.jpg,train,red,{'x' * 61}...'"
    assert len(problems) == 11
    assert problems[-1] == "  and 12 more"
    assert advice == "Mend these rows; put cells that hold commas in quotes."
    numbered_rows = [f"{number},{line}" for number, line in enumerate(LINES[1:])]
    message = fails(tmp_path, "\n".join([LINES[0], *numbered_rows]))
    assert message.endswith("All rows have one field more: a column has no name in the header.")


def test_blank_cells_behind_the_last_column_and_blank_rows_are_noted(tmp_path):
    text = "\n".join([LINES[0], f"{LINES[1]},, ", "", "  ", ",,", LINES[2], ",,"])
    _, rows, notes = read(tmp_path, text)
    assert rows == [(2, ["a.jpg", "train", "red"]), (6, ["b.jpg", "test", "blue"])]
    assert notes == [
        "t.csv: rows without a filled cell are left out: lines 5, 7",
        "t.csv: blank cells behind the last column are left out: line 2",
    ]


def test_columns_without_a_name_are_called_as_pandas_calls_them(tmp_path):
    assert read(tmp_path, ",image,\n0,a,\n1,b,")[0] == ["Unnamed: 0", "image", "Unnamed: 2"]
    assert read(tmp_path, ",Unnamed: 0,image\n0,0,a")[0] == ["Unnamed: 0.1", "Unnamed: 0", "image"]
