"""Reads the text of a table: its encoding, its delimiter, its header and its rows."""

import codecs
import contextlib
import csv
import io
import itertools
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradrev_jax.data.formats.table.notes import Note, list_lines, quote_text
from gradrev_jax.data.text_files import count_line_ends, read_bytes
from gradrev_jax.errors import DataError, join_lines
from gradrev_jax.files import HEAD, is_lfs_pointer, naming_unreadable

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MOST_SHARED = 100_000  # the number of different cells that are looked for among those of later rows
MOST_COLUMNS = 4096
SAMPLE = 100  # the number of rows by which a delimiter is recognised

# Longer marks come first: the mark of UTF-32 begins with that of UTF-16.
_WIDE_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_OTHER_FILES = {
    b"PK\x03\x04": "is an Excel workbook or another zip file; save it as CSV",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save it as CSV",
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"PAR1": "is a Parquet file; save it as CSV",
}


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      line: its first line in the file, as an editor counts.
      cells: its cells by the names of their columns.
    """

    line: int
    cells: dict[str, str]


def read_cells(
    path: pathlib.Path,
    *,
    delimiter: str = "",
    expected: Sequence[str] = (),
    say: Callable[[Note], None],
) -> tuple[list[str], list[Row]]:
    """Reads a table with a header row; every row has a cell for each column.

    White space around cells is removed. Rows without a filled cell are left out. A column without a name in
    the header is called ``Unnamed: n``, where n counts from 0, as pandas calls it (``Unnamed: n.1`` if the
    header has such a name already).

    Args:
      path: the file.
      delimiter: the character between cells; empty: recognised among ``DELIMITERS``.
      expected: names that the header should have, by which a delimiter is recognised.
      say: receives notes on what was recognised.

    Returns:
      The names of the columns, and the rows.

    Raises:
      DataError: the file is not such a table; the message names the lines.
    """
    text = _read_text(path, say)
    declared = re.match(r'"?sep=([^\r\n])[^\r\n]*(?:\r\n|\n|\r)', text)  # Excel's, before the header
    if not delimiter:
        delimiter = declared[1] if declared else recognise_delimiter(text, expected)
        if delimiter != ",":
            found = f"{path}: its columns are separated by {_delimiter_name(delimiter)}"
            say(Note(f"{found}; `delimiter` sets another", ("delimiter",)))
    records = _parse_records(text, delimiter, path)[1 if declared else 0 :]
    filled = [(line, cells) for line, cells in records if any(map(str.strip, cells))]
    if not filled:
        raise DataError(f"{path} is empty; it needs a header row and one row per image")
    header = [name.strip() for name in filled[0][1]]
    if len(header) > MOST_COLUMNS:
        raise DataError(
            f"{path}, line {filled[0][0]}: the header has {len(header):,} columns, and at most "
            f"{MOST_COLUMNS:,} are read; leave out those that are no attributes"
        )
    if len(header) == 1 and header[0].startswith("#"):
        raise DataError(
            f"{path}, line {filled[0][0]} begins with '#', but comments are not read; delete these lines, so "
            "that the header comes first"
        )
    if repeated := [name for name, count in Counter(header).items() if name and count > 1]:
        raise DataError(f"{path}: the header has {', '.join(map(repr, repeated))} more than once")
    if len(filled) == 1:
        raise DataError(f"{path} has a header but no rows")
    if empty := [line for line, cells in records if len(cells) > 1 and not any(map(str.strip, cells))]:
        say(Note(f"{path}: rows without a filled cell are left out: {list_lines(empty)}"))
    names = _name_columns(header)
    rows = _even_out(filled[1:], len(names), delimiter, path, say)
    return names, [Row(line, dict(zip(names, map(str.strip, cells), strict=True))) for line, cells in rows]


def _name_columns(header: Sequence[str]) -> list[str]:
    """Returns the names of the columns, with ``Unnamed: n`` for those without one."""
    names = list(header)
    for position, name in enumerate(header):
        if not name:
            names[position] = f"Unnamed: {position}"
            while names[position] in header:  # a table that pandas has written, read and written again
                names[position] += ".1"
    return names


def recognise_delimiter(text: str, expected: Sequence[str] = ()) -> str:
    r"""Returns the delimiter by which most expected names are found, and most rows are as long as the header.

    Args:
      text: the text of the table.
      expected: names that the header should have.

    Example:
      >>> recognise_delimiter("image;price\na.jpg;1,5\n"), recognise_delimiter("image,a|b\na.jpg,x|y\n")
      (';', ',')
    """

    def fitness(delimiter: str) -> tuple[int, float]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):  # a cell beyond csv's limit, which _parse_records reports
            rows.extend(itertools.islice(filter(None, reader), SAMPLE))
        if not rows or len(rows[0]) == 1:
            return 0, 0.0
        found = len({name.strip() for name in rows[0]} & set(expected))
        return found, sum(len(row) == len(rows[0]) for row in rows) / len(rows)

    return max(DELIMITERS, key=fitness)  # of equals the first, the comma


def _read_text(path: pathlib.Path, say: Callable[[Note], None]) -> str:
    """Reads the text of a file, in UTF-8 or with a byte order mark."""
    with naming_unreadable(path, DataError):
        content = _read_table(path)
    if is_lfs_pointer(content[:HEAD]):
        raise DataError(f"{path} is a Git LFS pointer, not the table itself; run git lfs pull")
    for start, what in _OTHER_FILES.items():
        if content.startswith(start):
            raise DataError(f"{path} {what}")
    wide = next((name for mark, name in _WIDE_ENCODINGS.items() if content.startswith(mark)), None)
    try:
        text = content.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(
                f"{path} begins as {wide} but is not: {error.reason}; save it as UTF-8"
            ) from error
        line = count_line_ends(content[: error.start].decode("latin-1")) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the table as UTF-8"
        ) from error
    if "\0" in text:
        line = count_line_ends(text[: text.index("\0")]) + 1
        raise DataError(f"{path}, line {line}: holds a NUL character; save the table as UTF-8 text")
    if wide:
        say(Note(f"{path}: read as {wide}"))
    return text


def _read_table(path: pathlib.Path) -> bytes:
    """Reads the file of a table; says what is there in its place if it is not."""
    if not path.parent.is_dir():
        raise DataError(
            f"{path.parent} is not a folder; set `root` to the folder of the catalogue", arguments=("root",)
        )
    if not path.is_file():
        tables = sorted(other.name for end in ("csv", "tsv") for other in path.parent.glob(f"*.{end}"))
        raise DataError(
            f"{path} does not exist ({', '.join(tables) or 'no other CSV'} there); set `table`",
            arguments=("table",),
        )
    return read_bytes(path)


def _parse_records(text: str, delimiter: str, path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Parses the rows, each with its first line; a blank line is a row without cells."""
    # csv is given its lines by StringIO, which ends them at \n, \r and \r\n alone: str.splitlines also ends
    # them at U+2028, U+0085, vertical tabs and form feeds, which are characters of a cell.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    records, first = [], 1
    known: dict[str, str] = {}  # equal cells are one string in memory, for millions of rows have few values
    try:
        for cells in reader:
            if len(known) < MOST_SHARED:
                records.append((first, [known.setdefault(cell, cell) for cell in cells]))
            else:
                records.append((first, [known.get(cell, cell) for cell in cells]))
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(_describe_quoting(text, delimiter, first, reader.line_num, error, path)) from error
    return records


def _describe_quoting(
    text: str, delimiter: str, first: int, last: int, error: csv.Error, path: pathlib.Path
) -> str:
    """Describes the fault in the row that begins in line ``first`` and that csv gave up in line ``last``."""
    lines = io.StringIO(text, newline="").readlines()
    opened = _unclosed_quote("".join(lines[first - 1 : last]), delimiter)
    if opened is not None:
        row = lines[first - 1 + opened].strip()
        return (
            f"{path}, line {first + opened}: a quote opens a cell here and is not closed: {quote_text(row)}\n"
            "Close it; to have a quote within a cell, quote the cell and write the quote twice."
        )
    if "field limit" in str(error):
        return f"{path}, line {last}: a cell has more than {csv.field_size_limit():,} characters"
    if "expected after" not in str(error):
        return f"{path}, line {last}: {error}"
    begun = f"; the row begins in line {first}, where a quote may not be closed" if first < last else ""
    return (
        f"{path}, line {last}: a cell goes on after its closing quote{begun}: "
        f"{quote_text(lines[last - 1].strip())}\n"
        "To have a quote within a cell, quote the cell and write the quote twice."
    )


def _unclosed_quote(text: str, delimiter: str) -> int | None:
    """Returns the line, from 0, of the quote that opens a cell without an end; None: all cells end."""
    cell = re.compile(rf' *"[^"]*(?:""[^"]*)*("?)|[^{re.escape(delimiter)}\r\n]*')
    position = 0
    while position < len(text):
        found = cell.match(text, position)
        if found is None or found[1] == "":
            return count_line_ends(text[: text.index('"', position)])
        position = found.end() + 1
    return None


def _delimiter_name(delimiter: str) -> str:
    return DELIMITERS.get(delimiter, repr(delimiter))


def _even_out(
    rows: Sequence[tuple[int, list[str]]],
    width: int,
    delimiter: str,
    path: pathlib.Path,
    say: Callable[[Note], None],
) -> list[tuple[int, list[str]]]:
    """Returns the rows, all as long as the header; blank cells behind its last column are cut off."""
    longer = [line for line, cells in rows if len(cells) > width and not any(map(str.strip, cells[width:]))]
    if longer:
        say(Note(f"{path}: blank cells behind the last column are left out: {list_lines(longer)}"))
        cut = set(longer)
        rows = [(line, cells[:width] if line in cut else cells) for line, cells in rows]
    uneven = [(line, cells) for line, cells in rows if len(cells) != width]
    if uneven:
        problems = [
            f"line {line}: {len(cells)} fields: {quote_text(delimiter.join(cells))}" for line, cells in uneven
        ]
        advice = f"Mend these rows; put cells that hold {_delimiter_name(delimiter)} in quotes."
        if {len(cells) for _, cells in rows} == {width + 1}:
            advice = "All rows have one field more: a column has no name in the header."
        raise DataError(f"{path}: the header has {width} fields, but\n{join_lines(problems)}\n{advice}")
    swallowed = [
        f"{line} to {line + count_line_ends(delimiter.join(cells))}"
        for line, cells in rows
        if any(_looks_like_rows(cell, width, delimiter) for cell in cells)
    ]
    if swallowed:
        say(
            Note(
                f"{path}: lines {', '.join(swallowed[:10])} are one row each, because a quote closes lines "
                "later, though some of them look like rows themselves"
            )
        )
    return list(rows)


def _looks_like_rows(cell: str, width: int, delimiter: str) -> bool:
    """Returns whether a line within a quoted cell has as many fields as a row."""
    if "\n" not in cell and "\r" not in cell:  # as nearly all, and reading lines is slow
        return False
    inner = io.StringIO(cell, newline="").readlines()[1:-1]
    return any(line.count(delimiter) == width - 1 for line in inner)
