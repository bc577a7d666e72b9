"""Reads a catalogue from a CSV file and a folder of images."""

import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradrev_jax.data.catalogue import (
    DEFAULT_SAMPLING,
    PARTS,
    TEST,
    TRAIN,
    Catalogue,
    Sampling,
    seeded_split,
    split_parts,
)
from gradrev_jax.data.formats.table.columns import (
    DEFAULT_RULES,
    PART_NAMES,
    AttributeRules,
    attribute_names,
    label_attributes,
    rules_by_column,
)
from gradrev_jax.data.formats.table.notes import Note, list_lines, quote_text
from gradrev_jax.data.formats.table.templates import Piece, find_column, parse_template, placeholder_names
from gradrev_jax.data.formats.table.text import Row, read_cells
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.limits import DEFAULT_LIMITS, ImageLimits
from gradrev_jax.data.images.near_files import SUGGESTED, find_near_file
from gradrev_jax.data.images.paths import closed_folder, is_file, paths_outside, quote_path
from gradrev_jax.errors import DataError, join_lines, join_names

NO_SPLIT_COLUMN = " ('' makes a seeded split)"


@dataclasses.dataclass(frozen=True)
class TableLayout:
    """Represents the layout of a table.

    Attributes:
      table: the CSV file, relative to the folder of the catalogue.
      delimiter: the character between cells; empty: recognised by the header.
      image_column: the column of the images' paths, relative to the folder of the catalogue.
      image_template: a path made of columns, as ``images/{id}.jpg``, instead of ``image_column``.
      split_column: the column that says train, validation (or val) or test; None: a seeded split.
      files_required: whether the files of the images have to be there.
    """

    table: str = "attributes.csv"
    delimiter: str = ""
    image_column: str = "image"
    image_template: str | None = None
    split_column: str | None = "split"
    files_required: bool = True


def read_table(
    root: pathlib.Path,
    layout: TableLayout = TableLayout(),
    rules: AttributeRules = DEFAULT_RULES,
    sampling: Sampling = DEFAULT_SAMPLING,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    say: Callable[[Note], None] = lambda note: None,
) -> Catalogue:
    """Reads a catalogue from a UTF-8 CSV file with a header row and one row per image.

    The values of an attribute are ordered alphabetically. Images are opened later, by ``cached_images``.

    Args:
      root: the folder of the catalogue.
      layout: the file of the table and the columns of its images and parts.
      rules: the choice of the columns that are attributes, and of their values.
      sampling: the rows to read, and the seeded split if no column says the parts.
      limits: the limits of the image files.
      say: receives notes on what was recognised and how it is read.

    Raises:
      DataError: the table or its images cannot be used; the message names the file, the rows and the
        argument to change.
    """
    path = root / layout.table
    named = [name for name in (*_image_names(layout), layout.split_column, *rules.attributes) if name]
    header, rows = read_cells(path, delimiter=layout.delimiter, expected=named, say=say)
    rows = [rows[row] for row in sampling.choose_rows(len(rows)).tolist()]
    pieces = _image_pieces(layout, header, path)
    used = {piece.column for piece in pieces if piece.column is not None}
    split_column = layout.split_column
    if split_column is not None:
        split_column = find_column(
            split_column, header, table=path, argument="split_column", otherwise=NO_SPLIT_COLUMN
        )
        used.add(split_column)
    names = attribute_names(header, rows, used, rules, path, say)
    cell_rules = rules_by_column(header, names, rules, path)
    paths = _image_paths(rows, pieces, root, path, outside=limits.outside)
    if layout.files_required:
        _check_files(rows, paths, root, path)
    if split_column is None:
        parts = seeded_split(paths, sampling.test_fraction, sampling.seed, split_by=sampling.split_by)
    else:
        parts = split_parts(_read_parts(rows, split_column, path))
    _check_parts(parts, split_column, sampling, path)
    schema, labels = label_attributes(rows, cell_rules, rules, path, say)
    return Catalogue(schema, ImageFiles(root, paths, limits.largest_image), labels, parts)


def _image_names(layout: TableLayout) -> list[str]:
    """Returns the names of the columns that paths seem to be made of; known only with the header."""
    return (
        [layout.image_column] if layout.image_template is None else placeholder_names(layout.image_template)
    )


def _image_pieces(layout: TableLayout, header: Sequence[str], table: pathlib.Path) -> tuple[Piece, ...]:
    """Returns the parts of the images' paths."""
    if layout.image_template is not None:
        return parse_template(layout.image_template, header, table=table)
    return (Piece("", find_column(layout.image_column, header, table=table, argument="image_column")),)


def _check_parts(
    parts: Mapping[str, np.ndarray], split_column: str | None, sampling: Sampling, table: pathlib.Path
) -> None:
    """Raises a DataError unless there are rows for training and for the test."""
    for part in (TRAIN, TEST):
        if not len(parts[part]):
            arguments = ["split_column"] if split_column else ["split_column", "test_fraction", "seed"]
            advice = f"see {join_names([f'`{argument}`' for argument in arguments])}"
            if split_column:
                advice += NO_SPLIT_COLUMN
            if not split_column and sampling.split_by == "image":
                arguments.append("split_by")
                advice += ", or meet the fraction exactly by `split_by`=order"
            if sampling.limit is not None:
                arguments.append("limit")
                advice += ", or raise `limit`"
            raise DataError(f"{table}: no row is in the {part} part; {advice}", arguments=arguments)


def _image_paths(
    rows: Sequence[Row], pieces: Sequence[Piece], root: pathlib.Path, table: pathlib.Path, *, outside: bool
) -> tuple[str, ...]:
    """Returns the path of each row's image, relative to the root.

    Raises:
      DataError: a path is blank, leads out of the root though that is not allowed, or stands twice.
    """
    columns = [piece.column for piece in pieces if piece.column is not None]
    problems = [
        f"line {row.line}: {name} is blank" for row in rows for name in columns if not row.cells[name]
    ]
    if problems:
        raise DataError(f"{table}: rows without an image:\n{join_lines(problems)}")
    paths = tuple(_make_path(row, pieces, problems) for row in rows)
    if problems:
        raise DataError(
            f"{table}: rows that `image_template` does not fit:\n{join_lines(problems)}",
            arguments=("image_template",),
        )
    _check_paths(rows, paths, root, table, outside=outside)
    return paths


def _make_path(row: Row, pieces: Sequence[Piece], problems: list[str]) -> str:
    """Returns the path of a row's image; adds to the problems if the cells do not fit the template."""
    try:
        return "".join(piece.format_cells(row.cells) for piece in pieces)
    except ValueError as error:
        problems.append(f"line {row.line}: {error}")
        return ""


def _check_paths(
    rows: Sequence[Row], paths: Sequence[str], root: pathlib.Path, table: pathlib.Path, *, outside: bool
) -> None:
    """Raises a DataError if a path leads out of the root, unless that is allowed, or stands twice."""
    leading_out = {} if outside else paths_outside(root, paths)
    problems = [
        f"line {rows[position].line}: {quote_path(paths[position])} {leads}; give paths relative to `root`, "
        "or set `outside`=true if you trust the table"
        for position, leads in leading_out.items()
    ]
    lines = defaultdict(list)
    for row, image in zip(rows, paths, strict=True):
        lines[pathlib.PurePath(image)].append(row.line)
    arguments = ("root", "outside") if problems else ()
    problems += [
        f"{list_lines(of_image)}: {quote_path(str(image))} stands more than once"
        for image, of_image in lines.items()
        if len(of_image) > 1
    ]
    if problems:
        raise DataError(f"{table}: images that cannot be used:\n{join_lines(problems)}", arguments=arguments)


def _check_files(rows: Sequence[Row], paths: Sequence[str], root: pathlib.Path, table: pathlib.Path) -> None:
    """Raises a DataError if an image does not exist."""
    missing = [(row.line, image) for row, image in zip(rows, paths, strict=True) if not is_file(root / image)]
    for line, image in missing[:SUGGESTED]:
        if closed := closed_folder(root, image):
            raise DataError(
                f"{table}: {closed}, which has the image of line {line}, cannot be read: Permission denied"
            )
    near = {image: find_near_file(root, image) for _, image in missing[:SUGGESTED]}
    if len(missing) == len(paths) and not any(near.values()):
        folder = (root / paths[0]).parent
        state = "holds no such file" if folder.is_dir() else "does not exist"
        raise DataError(
            f"{table}: none of its {len(paths)} images is there; the first would be {root / paths[0]}, and "
            f"{folder} {state}. Set `root`, `image_column` or `image_template`",
            arguments=("root", "image_column", "image_template"),
        )
    if missing:
        problems = [
            f"line {line}: {quote_path(image)}" + (f" ({near[image]} is there)" if near.get(image) else "")
            for line, image in missing
        ]
        raise DataError(
            f"{table}: {len(missing)} of {len(paths)} images are missing:\n{join_lines(problems)}"
        )


def _read_parts(rows: Sequence[Row], column: str, table: pathlib.Path) -> list[str]:
    """Returns the name of the part of each row."""
    unknown = [
        f"line {row.line}: {quote_text(row.cells[column])}"
        for row in rows
        if row.cells[column].lower() not in PART_NAMES
    ]
    if unknown:
        raise DataError(
            f"{table}: column {column!r} must say {', '.join(PARTS)}, but\n{join_lines(unknown)}\n"
            f"Mend the rows, or set `split_column`{NO_SPLIT_COLUMN}.",
            arguments=("split_column",),
        )
    return [PART_NAMES[row.cells[column].lower()] for row in rows]
