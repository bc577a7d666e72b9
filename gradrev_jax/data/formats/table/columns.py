"""Chooses the columns of a table that are attributes, and reads their values and labels."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import PARTS
from gradrev_jax.data.formats.table.labels import (
    FEWEST_ROWS,
    VERBATIM,
    CellRules,
    Column,
    is_identifier,
    label_values,
    read_column,
    spelling_key,
)
from gradrev_jax.data.formats.table.notes import Note, quote_text
from gradrev_jax.data.formats.table.templates import find_column
from gradrev_jax.data.formats.table.text import Row
from gradrev_jax.errors import DataError, join_lines

PART_NAMES = {**{part: part for part in PARTS}, "val": "validation", "valid": "validation"}
# Words by which a column of parts is recognised, though not all of them can be read as parts.
_PART_WORDS = {*PART_NAMES, "training", "testing", "dev", "eval", "trainval", "query", "gallery", "holdout"}


@dataclasses.dataclass(frozen=True)
class AttributeRules:
    """Represents which columns are attributes, and how their cells become labels.

    Attributes:
      attributes: the columns to use; empty: all but those of the image and the split, those to ignore, and
        those that are recognised as row numbers or as another split.
      ignore: the columns that are not attributes.
      cells: the rules by which cells become values; an empty cell is "not labelled".
      verbatim: the columns to which ``cells`` does not apply: each cell is its own value.
      min_count: the least number of rows of a value; rows of rarer ones become "not labelled".
      known: the values that attributes had before, by column: they are spelled as they were, and a column
        that has few of them left is an attribute all the same.
    """

    attributes: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    cells: CellRules = dataclasses.field(default_factory=CellRules)
    verbatim: tuple[str, ...] = ()
    min_count: int = 1
    known: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


DEFAULT_RULES = AttributeRules()


def attribute_names(
    header: Sequence[str],
    rows: Sequence[Row],
    used: set[str],
    rules: AttributeRules,
    table: pathlib.Path,
    say: Callable[[Note], None],
) -> tuple[str, ...]:
    """Returns the columns that are attributes; notes why recognised columns are not.

    Args:
      header: all columns.
      rows: the rows of the table.
      used: the columns of the image and the split.
      rules: the choice of the columns that are attributes.
      table: the file of the table.
      say: receives notes on what was recognised.

    Raises:
      DataError: a name is not a column, a column has no name, or no column is left.
    """
    ignored = {find_column(name, header, table=table, argument="ignore") for name in rules.ignore}
    chosen = tuple(find_column(name, header, table=table, argument="attributes") for name in rules.attributes)
    if len(set(chosen)) < len(chosen):
        raise DataError(f"{table}: `attributes` = {chosen} names a column twice", arguments=("attributes",))
    if both := ignored.intersection(chosen):
        names = ", ".join(map(repr, sorted(both)))
        raise DataError(
            f"{table}: {names} in both `attributes` and `ignore`", arguments=("attributes", "ignore")
        )
    if chosen:
        return chosen
    candidates = [name for name in header if name not in used and name not in ignored]
    found = [
        name
        for name in candidates
        if _may_be_attribute(name, header.index(name) + 1, len(header), rows, table, say)
    ]
    if not found:
        raise DataError(
            f"{table}: no column is left to be an attribute; add one, or set `attributes`",
            arguments=("attributes",),
        )
    first: dict[str, str] = {}
    for name in found:
        if (other := first.setdefault(spelling_key(name), name)) != name:
            text = f"{table}: columns {other!r} and {name!r} are two attributes; `ignore` leaves one out"
            say(Note(text, ("ignore",)))
    return tuple(found)


def _may_be_attribute(
    name: str,
    position: int,
    width: int,
    rows: Sequence[Row],
    table: pathlib.Path,
    say: Callable[[Note], None],
) -> bool:
    """Returns whether a column holds neither row numbers nor parts; notes if it does.

    Args:
      name: the name of the column.
      position: its position in the header, from 1.
      width: the number of columns.
      rows: the rows of the table.
      table: the file of the table.
      say: receives the note.

    Raises:
      DataError: the column has no name, but holds something.
    """
    cells = {row.cells[name] for row in rows} - {""}
    unnamed = re.fullmatch(r"Unnamed: \d+(\.1)*", name) is not None
    if unnamed and all(re.fullmatch(r"\d+", cell) for cell in cells):
        content = "row numbers" if cells else "nothing"
        say(Note(f"{table}: column {position} has no name and holds {content}; it is no attribute"))
        return False
    if unnamed:
        raise DataError(
            f"{table}: column {position} of {width} has no name in the header, and holds "
            f"{quote_text(min(cells))} and the like; give it a name, or leave it out: `ignore=({name!r},)`",
            arguments=("ignore",),
        )
    if cells and {cell.lower() for cell in cells} <= _PART_WORDS:
        found = ", ".join(map(quote_text, sorted(cells)[:4]))
        text = (
            f"{table}: column {name!r} says parts ({found}) and is no attribute; "
            f"`split_column={name!r}` splits by it, `attributes` names attributes"
        )
        say(Note(text, ("split_column", "attributes")))
        return False
    return True


def rules_by_column(
    header: Sequence[str], names: Sequence[str], rules: AttributeRules, table: pathlib.Path
) -> dict[str, CellRules]:
    """Returns how the cells of each attribute are read.

    Args:
      header: all columns.
      names: the columns that are attributes.
      rules: the rules for all of them, and the columns that they do not apply to.
      table: the file of the table.

    Raises:
      DataError: a column to be read verbatim does not exist.
    """
    verbatim = {find_column(name, header, table=table, argument="verbatim") for name in rules.verbatim}
    return {name: VERBATIM if name in verbatim else rules.cells for name in names}


def label_attributes(
    rows: Sequence[Row],
    cell_rules: Mapping[str, CellRules],
    rules: AttributeRules,
    table: pathlib.Path,
    say: Callable[[Note], None],
) -> tuple[AttributeSchema, np.ndarray]:
    """Returns the attributes with their values, and the labels of each row, int32 [rows, N].

    Args:
      rows: the rows of the table.
      cell_rules: the rules by which cells become values, for each of the N columns that are attributes.
      rules: the rules for all columns; one that they name is an attribute even if it is an identifier.
      table: the file of the table.
      say: receives notes on what was recognised.

    Raises:
      DataError: columns have fewer than two values, or are identifiers; all are named.
    """
    columns, problems = [], dict[str, Note]()
    for name, rules_of_column in cell_rules.items():
        known = rules.known.get(name, ())
        column, notes = read_column([row.cells[name] for row in rows], rules_of_column, known)
        values, labels = label_values(column.values, rules.min_count)
        labelled = int((labels != NOT_LABELLED).sum())
        size = f"{len(values):,} values in {labelled:,} labelled rows"
        if known:
            values = values or known  # where no row is labelled any more
        elif len(values) < 2:
            problems[name] = _describe_lack(name, column, values, rules.min_count)
        elif is_identifier(labels) and not rules.attributes:
            problems[name] = Note(f"{size}, most of them in one row alone: an identifier or free text")
        elif is_identifier(labels) or (labelled >= 3 * FEWEST_ROWS and labelled < 3 * len(values)):
            text = f"has {size}; `ignore` leaves it out, `min_count` its rare values"
            notes = [*notes, Note(text, ("ignore", "min_count"))]
        if name not in problems:
            for note in notes:
                say(note._replace(text=f"{table}: column {name!r}: {note.text}"))
        columns.append((values, labels))
    if problems:
        lines = [f"column {name!r} has {problem.text}" for name, problem in problems.items()]
        arguments = [argument for problem in problems.values() for argument in problem.arguments]
        raise DataError(
            f"{table}: columns that cannot be attributes:\n{join_lines(lines)}\n"
            f"Leave them out by `ignore={tuple(problems)}`, or name the attributes in `attributes`.",
            arguments=("ignore", "attributes", *arguments),
        )
    schema = AttributeSchema(tuple(cell_rules), tuple(values for values, _ in columns))
    return schema, np.stack([labels for _, labels in columns], axis=1)


def _describe_lack(name: str, column: Column, values: Sequence[str], min_count: int) -> Note:
    """Describes why a column has fewer than two values."""
    found = f"only the value {quote_text(values[0])}" if values else "no labelled value"
    arguments: tuple[str, ...] = ()
    if len({*column.values} - {""}) > len(values):
        found += f" with `min_count` = {min_count}; lower it"
        arguments += ("min_count",)
    found += ": there is nothing to learn or to change"
    if column.missing:
        words = ", ".join(quote_text(word) for word, _ in column.missing.most_common(3))
        found += f" ({words}: not labelled by `missing_words`; `verbatim={name!r}` makes it a value)"
        arguments += ("missing_words", "verbatim")
    return Note(found, arguments)
