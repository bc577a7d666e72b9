"""Makes images' paths from a template and the cells of a row."""

import difflib
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gradrev_jax.data.formats.table.text import quote_text
from gradrev_jax.errors import DataError

NAMED = 20  # columns that a message names
CONVERSIONS: dict[str, Callable[[object], str]] = {"s": str, "r": repr, "a": ascii}
ALLOWED = (
    "{column} is the cell, {column:06d} or {column:06} a whole number filled up with zeros, {column:0>6} and "
    "the like a filled text, and {{ and }} are braces"
)
# A width that begins with 0, or a type of whole numbers: the cell is formatted as a number. Of a text, Python
# would put the zeros behind it.
_NUMBER = re.compile(r"0\d+|.*[bdoxX]", re.DOTALL)
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0+)?")  # pandas writes whole numbers as 7.0 where some are missing


class Piece(NamedTuple):
    """A part of a path: a literal text, and the column whose cell follows it, if any."""

    literal: str
    column: str | None = None
    conversion: str = ""
    spec: str = ""

    def format_cells(self, cells: Mapping[str, str]) -> str:
        """Returns this part of a row's path.

        Raises:
          ValueError: the cell is no whole number, but is to be written as one.
        """
        if self.column is None:
            return self.literal
        cell = cells[self.column]
        if self.conversion:
            cell = CONVERSIONS[self.conversion](cell)
        if not _NUMBER.fullmatch(self.spec):
            return self.literal + format(cell, self.spec)
        whole = _WHOLE.fullmatch(cell)
        if whole is None:
            raise ValueError(f"{self.column} is {quote_text(cell)}, no whole number, as {self.spec!r} needs")
        return self.literal + format(int(whole[1]), self.spec)


def parse_template(template: str, header: Sequence[str], *, table: object, field: str) -> tuple[Piece, ...]:
    """Returns the parts of a path that a template describes, in order.

    A placeholder is the name of a column, whatever characters it has, alone or followed by a conversion and a
    format as of ``str.format``: ``images/{id:06d}.jpg``.

    Args:
      template: what ``str.format`` takes, with columns for fields.
      header: the columns that there are.
      table: the table, for the message.
      field: the config field that has the template, for the message.

    Raises:
      DataError: it is no template, names no column or one that is not there, or has a conversion or a format
        that does not exist.

    Example:
      >>> pieces = parse_template("{a.b}/{id:03}.jpg", ["a.b", "id"], table="t.csv", field="template")
      >>> "".join(piece.format_cells({"a.b": "x", "id": "7"}) for piece in pieces)
      'x/007.jpg'
    """

    def refused(why: str) -> DataError:
        return DataError(f"{field} = {template!r} is no template: {why}; {ALLOWED}")

    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise refused(str(error)) from error
    pieces = []
    for literal, name, spec, conversion in parsed:
        if name is None:
            pieces.append(Piece(literal))
            continue
        spec = spec or ""
        whole = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        if whole in header:
            pieces.append(Piece(literal, whole))
            continue
        if not name:
            raise refused("{} names no column")
        if conversion and conversion not in CONVERSIONS:
            raise refused(f"{{{whole}}} has the conversion !{conversion}, and there are !s, !r and !a alone")
        try:
            format(0 if _NUMBER.fullmatch(spec) else "", spec)
        except ValueError as error:
            raise refused(f"{{{whole}}} has a format that cannot be used: {error}") from error
        column = find_column(name, header, table=table, field=field)
        pieces.append(Piece(literal, column, conversion or "", spec))
    if all(piece.column is None for piece in pieces):
        raise DataError(f"{field} = {template!r} names no column, so all rows would have one image")
    return tuple(pieces)


def placeholder_names(template: str) -> list[str]:
    """Returns the names in a template's braces, as far as it is one; to recognise a header by.

    Example:
      >>> placeholder_names("{folder}/{id:04d}.jpg")
      ['folder', 'id']
    """
    return re.findall(r"{([^{}!:]+)", template)


def find_column(name: str, header: Sequence[str], *, table: object, field: str) -> str:
    """Returns the column of a name, in whichever Unicode form the header has it.

    Raises:
      DataError: there is none; the nearest one is named.
    """
    if name in header:
        return name
    normal = unicodedata.normalize("NFC", name)
    if same := [column for column in header if unicodedata.normalize("NFC", column) == normal]:
        return same[0]
    if near := difflib.get_close_matches(name, header, n=1):
        hint = f"did you mean {near[0]!r}?"
    else:
        more = f" and {len(header) - NAMED:,} more" if len(header) > NAMED else ""
        hint = f"it has {', '.join(map(quote_text, header[:NAMED]))}{more}."
    alone = " Its columns may be separated otherwise: set data.delimiter." if len(header) == 1 else ""
    raise DataError(f"{table} has no column {name!r}; {hint} Set {field}.{alone}")
