import numpy as np
import pytest

from gradrev_jax.data.formats.adde.number_files import Numbers, check_same_length, parse_rows, read_lines
from gradrev_jax.errors import DataError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(path, width=2):
    return parse_rows(read_lines(path), width, Numbers("digit", -1, 9))


@pytest.mark.parametrize("text", ["1 2\n-1 9\n", "1 2\r\n-1 9\r\n", "1\t2 \n -1  9", "\ufeff1 2\n-1 9\n\n\n"])
def test_rows_with_any_line_ends_and_spaces(tmp_path, text):
    read = rows(write(tmp_path / "a.txt", text))
    np.testing.assert_array_equal(read, [[1, 2], [-1, 9]])
    assert read.dtype == np.int32


def test_one_column_and_one_row(tmp_path):
    assert rows(write(tmp_path / "a.txt", "3\n4\n"), 1).tolist() == [[3], [4]]
    assert rows(write(tmp_path / "b.txt", "3\n"), 1).tolist() == [[3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3\n4 5", "line 2: 1 numbers instead of 2"),
        ("1\n2\n", "line 1: 1 numbers instead of 2"),
        ("1 2 3\n3 4 5", "line 1: 3 numbers instead of 2"),
        ("1 2\n3 x", "line 2: 'x' is no whole number"),
        ("1 2\n3 1.5", "line 2: '1.5' is no whole number"),
        ("1 nan", "line 1: 'nan' is no whole number"),
        ("1 10", "line 1: 10 is no digit; -1 to 9"),
        ("1 2\n-2 1", "line 2: -2 is no digit"),
        ("1 99999999999", "line 1: 99999999999 is no digit"),
        ("1 99999999999999999999999", "line 1: 99999999999999999999999 is no digit"),
        ("1 2\n\n3 4", "line 2 is blank"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        (b"1 \xff", "is no UTF-8 text"),
        ("# 1 2\n3 4", "line 1: 3 numbers instead of 2"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, text, message):
    path = write(tmp_path / "a.txt", text)
    with pytest.raises(DataError, match=message) as error:
        rows(path)
    assert str(path) in str(error.value)


def test_ten_faults_are_listed_and_the_rest_counted(tmp_path):
    with pytest.raises(DataError, match="line 10: .*\n  and 5 more"):
        rows(write(tmp_path / "a.txt", "1 x\n" * 15))


def test_files_of_different_lengths_are_both_named(tmp_path):
    files = {"a": "1 2", "b": "1 2\n3 4"}
    with pytest.raises(DataError, match=r"a.txt has 1 rows but b.txt has 2; they must"):
        check_same_length(
            *(read_lines(write(tmp_path / f"{name}.txt", text)) for name, text in files.items())
        )


def test_a_missing_file_is_named_with_those_that_are_there(tmp_path):
    write(tmp_path / "b.txt", "1")
    with pytest.raises(DataError, match=r"a.txt does not exist \(b.txt there\)"):
        read_lines(tmp_path / "a.txt")
