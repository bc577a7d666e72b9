import pytest

from gradrev_jax.data import text_files
from gradrev_jax.data.formats.table import text
from gradrev_jax.data.formats.table.text import read_cells
from gradrev_jax.data.text_files import count_line_ends, read_bytes
from gradrev_jax.errors import DataError


@pytest.fixture
def short_lines(monkeypatch):
    """Lines of at most eight bytes, and reads of as many."""
    monkeypatch.setattr(text_files, "LONGEST_LINE", 8)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [b"", b"a", b"12345678\n12345678", b"\n" * 50, b"1234567\r\n" * 9])
def test_lines_of_a_usual_length_are_read_as_they_are(short_lines, tmp_path, content):
    assert read_bytes(write(tmp_path / "t.csv", content)) == content


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a" * 17, 1),
        (b"a,b\n" + b"c" * 30, 2),
        (b"a\r\nb\rc\n" + b"d" * 99 + b"\n", 4),
        (b"a" * 24 + b"\n", 1),
    ],
)
def test_a_line_that_is_too_long_is_named_and_the_rest_is_not_read(short_lines, tmp_path, content, line):
    with pytest.raises(DataError, match=rf"t.csv, line {line}: the line has more than 8 bytes"):
        read_bytes(write(tmp_path / "t.csv", content))


def test_a_file_without_line_ends_is_given_up_after_two_reads(tmp_path, monkeypatch):
    """The file has holes, so that it takes no room; reading all of it would take its size in memory."""
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(DataError, match="more than 16,777,216 bytes"):
        read_cells(path, say=lambda note: None)


def test_a_header_of_too_many_columns_is_refused_with_its_line(tmp_path):
    header = ",".join(f"c{n}" for n in range(text.MOST_COLUMNS + 1))
    path = write(tmp_path / "t.csv", f"\n{header}\n{header}\n".encode())
    with pytest.raises(DataError, match="t.csv, line 2: the header has 4,097 columns, and at most 4,096 are"):
        read_cells(path, say=lambda note: None)


def test_line_ends_of_all_kinds_are_counted():
    assert count_line_ends("a\nb\r\nc\rd\u2028e\x0bf") == 3
