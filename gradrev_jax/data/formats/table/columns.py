"""Chooses the columns of a table that are attributes, and reads their values and labels."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import PARTS
from gradrev_jax.data.formats.table.labels import (
    FEWEST_ROWS,
    CellRules,
    Column,
    is_identifier,
    label_values,
    read_column,
    spelling_key,
)
from gradrev_jax.data.formats.table.templates import find_column
from gradrev_jax.data.formats.table.text import Row, quote_text
from gradrev_jax.errors import DataError, join_lines

PART_NAMES = {**{part: part for part in PARTS}, "val": "validation", "valid": "validation"}
# What a column is recognised by as one that says parts, though not all of these can be read as such.
_PART_WORDS = {*PART_NAMES, "training", "testing", "dev", "eval", "trainval", "query", "gallery", "holdout"}


def attribute_names(
    header: Sequence[str],
    rows: Sequence[Row],
    used: set[str],
    attributes: Sequence[str],
    ignore: Sequence[str],
    path: pathlib.Path,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """Returns the columns that are attributes; says of others why they are none.

    Args:
      header: all columns.
      rows: the table's rows.
      used: columns that are used for images and the split.
      attributes: columns that the user names; empty: all that are left.
      ignore: columns that are no attributes.
      path: the table, for messages.
      say: receives what was recognised, one line each.

    Raises:
      DataError: a name that is no column, a column without a name, or no column is left.
    """
    ignored = {find_column(name, header, table=path, field="data.ignore") for name in ignore}
    chosen = tuple(find_column(name, header, table=path, field="data.attributes") for name in attributes)
    if len(set(chosen)) < len(chosen):
        raise DataError(f"{path}: data.attributes = {chosen} names a column twice")
    if both := ignored.intersection(chosen):
        raise DataError(
            f"{path}: {', '.join(map(repr, sorted(both)))} in both data.attributes and data.ignore"
        )
    if chosen:
        return chosen
    names = []
    for position, name in enumerate(header, start=1):
        if name in used or name in ignored:
            continue
        cells = {row.cells[name] for row in rows} - {""}
        unnamed = re.fullmatch(r"Unnamed: \d+(\.1)*", name) is not None
        if unnamed and all(re.fullmatch(r"\d+", cell) for cell in cells):
            what = "row numbers" if cells else "nothing"
            say(f"{path}: column {position} has no name and holds {what}; it is no attribute")
        elif unnamed:
            raise DataError(
                f"{path}: column {position} of {len(header)} has no name in the header, and holds "
                f"{quote_text(min(cells))} and the like; give it a name, or leave it out: "
                f"data.ignore=({name!r},)"
            )
        elif cells and {cell.lower() for cell in cells} <= _PART_WORDS:
            found = ", ".join(map(quote_text, sorted(cells)[:4]))
            say(
                f"{path}: column {name!r} says parts ({found}) and is no attribute; "
                f"data.split_column={name!r} splits by it, data.attributes names attributes"
            )
        else:
            names.append(name)
    if not names:
        raise DataError(f"{path}: no column is left to be an attribute; add one, or set data.attributes")
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(spelling_key(name), name)) != name:
            say(f"{path}: columns {other!r} and {name!r} are two attributes; data.ignore leaves one out")
    return tuple(names)


def label_attributes(
    rows: Sequence[Row],
    names: Sequence[str],
    rules: Mapping[str, CellRules],
    min_count: int,
    insisted: bool,
    table: pathlib.Path,
    say: Callable[[str], None],
) -> tuple[AttributeSchema, np.ndarray]:
    """Returns the attributes with their values, and each row's labels, int32 [rows, N].

    Args:
      rows: the table's rows.
      names: the N columns that are attributes.
      rules: of each column, how its cells are read.
      min_count: values that fewer rows have become "not labelled".
      insisted: whether the user names these columns, which makes an attribute of an identifier.
      table: the table, for messages.
      say: receives what was recognised, one line each.

    Raises:
      DataError: columns that have no two values, or are identifiers; all are named.
    """
    columns, problems = [], {}
    for name in names:
        notes: list[str] = []
        column = read_column([row.cells[name] for row in rows], rules[name], notes.append)
        values, labels = label_values(column.values, min_count)
        labelled = int((labels != NOT_LABELLED).sum())
        size = f"{len(values):,} values in {labelled:,} labelled rows"
        if len(values) < 2:
            problems[name] = _lack(name, column, values, min_count)
        elif is_identifier(labels) and not insisted:
            problems[name] = f"{size}, most of them in one row alone: an identifier or free text"
        elif is_identifier(labels) or (labelled >= 3 * FEWEST_ROWS and labelled < 3 * len(values)):
            notes.append(f"has {size}; data.ignore leaves it out, data.min_count its rare values")
        if name not in problems:
            for note in notes:
                say(f"{table}: column {name!r}: {note}")
        columns.append((values, labels))
    if problems:
        lines = [f"column {name!r} has {problem}" for name, problem in problems.items()]
        raise DataError(
            f"{table}: columns that cannot be attributes:\n{join_lines(lines)}\nLeave them out by "
            f"data.ignore={tuple(problems)}, or name the attributes in data.attributes."
        )
    schema = AttributeSchema(tuple(names), tuple(values for values, _ in columns))
    return schema, np.stack([labels for _, labels in columns], axis=1)


def _lack(name: str, column: Column, values: Sequence[str], min_count: int) -> str:
    """Says why a column has no two values."""
    found = f"only the value {quote_text(values[0])}" if values else "no labelled value"
    if len({*column.values} - {""}) > len(values):
        found += f" with data.min_count = {min_count}; lower it"
    found += ": there is nothing to learn or to change"
    if column.missing:
        words = ", ".join(quote_text(word) for word, _ in column.missing.most_common(3))
        found += f" ({words}: not labelled by data.missing_words; data.verbatim={name!r} makes it a value)"
    return found
