import pytest

from gradrev_jax.data.formats.table.templates import find_column, parse_template, placeholder_names
from gradrev_jax.errors import DataError

ODD = ["a.b", "a[0]", "0", "id:code", "id!s", "with blank"]
CELLS = {"id": "7", "name": "dress", **{name: f"<{name}>" for name in ODD}}


def made(template, **cells):
    pieces = parse_template(template, list(CELLS), table="t.csv")
    return "".join(piece.format_cells({**CELLS, **cells}) for piece in pieces)


@pytest.mark.parametrize("name", ODD)
def test_a_column_may_be_called_anything(name):
    assert made(f"x/{{{name}}}.jpg") == f"x/<{name}>.jpg"


@pytest.mark.parametrize(
    ("template", "cell", "path"),
    [
        ("{id:04d}", "7", "0007"),
        ("{id:04}", "1", "0001"),
        ("{id:04d}", "0007", "0007"),
        ("{id:04}", "12345", "12345"),
        ("{id:d}", "007", "7"),
        ("{id:04d}", "7.0", "0007"),
        ("{id:0>4}", "7", "0007"),
        ("{id:.2}", "dress", "dr"),
        ("{id}", "007", "007"),
        ("{id!r}", "7", "'7'"),
        ("{{{id}}}", "7", "{7}"),
    ],
)
def test_formats(template, cell, path):
    assert made(f"i/{template}.jpg", id=cell) == f"i/{path}.jpg"


@pytest.mark.parametrize("template", ["{id:04d}", "{id:04}", "{id:x}"])
@pytest.mark.parametrize("cell", ["dress", "7.5", "1_0", "", "٣"])
def test_only_whole_numbers_are_formatted_as_numbers(template, cell):
    with pytest.raises(ValueError, match="id is .*, no whole number, as '.*' needs"):
        made(template, id=cell)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{id!z}", "{id!z} has the conversion !z, but there are only !s, !r and !a"),
        ("{id:q}", "{id:q} has a format that cannot be used: Unknown format code 'q'"),
        ("{id:.1f}", "{id:.1f} has a format that cannot be used"),
        ("{id:{name}}", "{id:{name}} has a format that cannot be used"),
        ("{}", "{} names no column"),
        ("{id", "expected '}' before end of string"),
    ],
)
def test_a_faulty_template_is_refused_with_what_is_allowed(template, message):
    with pytest.raises(DataError) as error:
        made(template)
    assert str(error.value).startswith(f"`image_template` = {template!r} is no template: {message}")
    assert "{column:06d} or {column:06} a whole number padded with zeros" in str(error.value)


def test_a_template_without_a_column_is_refused():
    with pytest.raises(DataError, match="`image_template` = .* names no column, so all rows would have one"):
        made("images/a.jpg")


def test_a_header_is_recognised_by_the_names_in_braces():
    assert placeholder_names("{a.b}/{id!r:04d}-{0}.jpg") == ["a.b", "id", "0"]


def test_a_column_is_found_in_another_unicode_form_and_a_long_header_is_cut():
    assert (
        find_column("gr\u00f6\u00dfe", ["gro\u0308\u00dfe"], table="t", argument="ignore")
        == "gro\u0308\u00dfe"
    )
    with pytest.raises(DataError) as error:
        find_column("image", [f"{number}" * 9 for number in range(600)], table="t", argument="ignore")
    assert str(error.value).endswith("'191919191919191919' and 580 more. Set `ignore`.")
    with pytest.raises(DataError, match=r"it has 'a\^b'. Set `ignore`. Its columns .* set `delimiter`"):
        find_column("image", ["a^b"], table="t", argument="ignore")
