"""Makes the paths of images from a template and the cells of a row."""

import difflib
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gradrev_jax.data.formats.table.notes import quote_text
from gradrev_jax.errors import DataError, join_names

NAMED = 20  # the number of columns that a message names
CONVERSIONS: dict[str, Callable[[object], str]] = {"s": str, "r": repr, "a": ascii}
ALLOWED = (
    "{column} is the cell, {column:06d} or {column:06} a whole number padded with zeros, {column:0>6} and "
    "the like a padded text, and {{ and }} are braces"
)
# Formats with a width that begins with 0 or with a type of whole numbers: the cell is formatted as a number,
# because Python would put the zeros behind a text.
_NUMBER = re.compile(r"0\d+|.*[bdoxX]", re.DOTALL)
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0+)?")  # pandas writes whole numbers as 7.0 where some are missing


class Piece(NamedTuple):
    """A part of a path.

    Attributes:
      literal: the text at its start.
      column: the column whose cell follows; None: nothing follows.
      conversion: the conversion of the cell, one letter; empty: none.
      spec: the format of the cell.
    """

    literal: str
    column: str | None = None
    conversion: str = ""
    spec: str = ""

    def format_cells(self, cells: Mapping[str, str]) -> str:
        """Returns this part of a row's path.

        Raises:
          ValueError: the cell is not a whole number, but the format is one of whole numbers.
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


def parse_template(image_template: str, header: Sequence[str], *, table: object) -> tuple[Piece, ...]:
    """Returns the parts of a path that a template describes, in order.

    A placeholder is the name of a column, whatever characters it has, alone or followed by a conversion and a
    format like those of ``str.format``: ``images/{id:06d}.jpg``.

    Args:
      image_template: the template, as ``str.format`` takes it, with columns for fields.
      header: the columns of the table.
      table: the file of the table.

    Raises:
      DataError: the template cannot be parsed, names no column or one that does not exist, or has an
        unknown conversion or format.

    Example:
      >>> pieces = parse_template("{a.b}/{id:03}.jpg", ["a.b", "id"], table="t.csv")
      >>> "".join(piece.format_cells({"a.b": "x", "id": "7"}) for piece in pieces)
      'x/007.jpg'
    """

    def refused(why: str) -> DataError:
        return DataError(
            f"`image_template` = {image_template!r} is no template: {why}; {ALLOWED}",
            arguments=("image_template",),
        )

    try:
        parsed = list(string.Formatter().parse(image_template))
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
            raise refused(f"{{{whole}}} has the conversion !{conversion}, but there are only !s, !r and !a")
        try:
            format(0 if _NUMBER.fullmatch(spec) else "", spec)
        except ValueError as error:
            raise refused(f"{{{whole}}} has a format that cannot be used: {error}") from error
        column = find_column(name, header, table=table, argument="image_template")
        pieces.append(Piece(literal, column, conversion or "", spec))
    if all(piece.column is None for piece in pieces):
        raise DataError(
            f"`image_template` = {image_template!r} names no column, so all rows would have one image",
            arguments=("image_template",),
        )
    return tuple(pieces)


def placeholder_names(template: str) -> list[str]:
    """Returns the names in the braces of a text, by which a header can be recognised.

    Example:
      >>> placeholder_names("{folder}/{id:04d}.jpg")
      ['folder', 'id']
    """
    return re.findall(r"{([^{}!:]+)", template)


def find_column(
    name: str, header: Sequence[str], *, table: object, argument: str, otherwise: str = ""
) -> str:
    """Returns the column with a name, in whichever Unicode form the header has it.

    Args:
      name: the name.
      header: the columns of the table.
      table: the file of the table.
      argument: the argument that the name comes from, which is to be changed if there is no such column.
      otherwise: what else it may be, for the message.

    Raises:
      DataError: there is no such column; the nearest one is named.
    """
    if name in header:
        return name
    normal = unicodedata.normalize("NFC", name)
    if same := [column for column in header if unicodedata.normalize("NFC", column) == normal]:
        return same[0]
    if near := difflib.get_close_matches(name, header, n=1):
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"it has {join_names([quote_text(column) for column in header], most=NAMED)}."
    arguments = (argument, "delimiter") if len(header) == 1 else (argument,)
    advice = " Its columns may be separated otherwise: set `delimiter`." if len(header) == 1 else ""
    raise DataError(
        f"{table} has no column {name!r}; {hint} Set `{argument}`{otherwise}.{advice}", arguments=arguments
    )
