"""Properties of readers, for any input that hypothesis finds."""

import csv
import io
import pathlib
import tempfile

import pytest

from gradrev_jax.data.formats.table.text import read_cells
from gradrev_jax.data.images.metadata import strip_metadata
from gradrev_jax.data.text_files import count_line_ends
from gradrev_jax.data.vectors.names import match_names
from gradrev_jax.errors import DataError

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
given = hypothesis.given
settings = hypothesis.settings(max_examples=60, derandomize=True, deadline=None, database=None)

# Without NUL and surrogates, which no table may have; and without those that are white space at the ends.
CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12).map(str.strip)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=6)
)


@pytest.mark.long
@settings
@given(TABLES, st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_csv_writes_is_read_back(rows, delimiter, encoding):
    header = [f"c{n}" for n in range(len(rows[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "t.csv")
        path.write_bytes(text.getvalue().encode(encoding))
        filled = [row for row in rows if any(row)]
        if not filled:
            with pytest.raises(DataError, match="has a header but no rows"):
                read_cells(path, delimiter=delimiter, say=lambda note: None)
            return
        names, read = read_cells(path, delimiter=delimiter, say=lambda note: None)
    assert names == header
    assert [list(row.cells.values()) for row in read] == filled


@settings
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff\xe1"])
)
def test_stripping_takes_parts_out_and_is_done_once(content, start):
    bare = strip_metadata(start + content)
    assert len(bare) <= len(start + content)
    assert strip_metadata(bare) == bare


@settings
@given(st.lists(st.sampled_from(["a", "\r", "\n"]), max_size=12).map("".join))
def test_line_ends_are_those_of_universal_newlines(text):
    assert count_line_ends(text) == io.StringIO(text, newline=None).read().count("\n")


@pytest.mark.long
@settings
@given(
    st.lists(st.text(max_size=6).filter(lambda name: "/" not in name), min_size=1, unique=True), st.randoms()
)
def test_every_name_is_found_at_its_own_row(names, rng):
    stored = rng.sample(names, len(names))
    found = match_names(stored, names, say=lambda note: None)
    assert [stored[row] for row in found.tolist()] == names
