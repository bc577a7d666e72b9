"""Reading a catalogue from a CSV and a folder of images."""

import csv
import difflib
import pathlib
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradrev_jax.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, Catalogue, SplitBy, seeded_split, split_parts
from gradrev_jax.data.images import ImageFiles
from gradrev_jax.errors import DataError

PART_NAMES = {**{part: part for part in PARTS}, "val": "validation", "valid": "validation"}


class Row(NamedTuple):
    """A row of the table: its line in the file, as an editor counts, and its cells by column."""

    line: int
    cells: dict[str, str]


def read_table(
    root: pathlib.Path,
    *,
    table: str = "attributes.csv",
    image_column: str = "image",
    image_template: str | None = None,
    split_column: str | None = "split",
    test_fraction: float = 0.2,
    seed: int = 0,
    split_by: SplitBy = "image",
    attributes: Sequence[str] = (),
    min_count: int = 1,
) -> Catalogue:
    """Catalogue of a UTF-8 CSV with a header row and a row an image.

    Args:
      root: the catalogue's folder.
      table: the CSV, relative to root.
      image_column: column with the image's path, relative to root.
      image_template: instead of image_column, a path made of columns, as ``images/{id}.jpg``.
      split_column: column that says train, validation (or val) or test; None: a seeded split.
      test_fraction: share of the test part in a seeded split.
      seed: of the seeded split.
      split_by: how the seeded split is made, see ``catalogue.drawn``.
      attributes: columns to use; empty: all but those of image and split. An empty cell is "not labelled";
        values are ordered alphabetically.
      min_count: values that fewer rows have become "not labelled".

    Raises:
      DataError: the table or its images cannot be used; the message names the file, the rows and the
        config field that helps. Images are opened later, by ``images.cached_images``.
    """
    path = root / table
    header, rows = _read_csv(path)
    template = image_template if image_template is not None else f"{{{image_column}}}"
    field = "data.image_template" if image_template is not None else "data.image_column"
    image_columns = _template_columns(template, header, path, field)
    used = {*image_columns}
    if split_column is not None:
        used.add(_existing(split_column, header, path, "data.split_column"))
    names = tuple(_existing(name, header, path, "data.attributes") for name in attributes) or tuple(
        name for name in header if name not in used
    )
    if not names:
        raise DataError(f"{path}: no column is left to be an attribute; add one, or set data.attributes")
    paths = _image_paths(rows, template, image_columns, root, path)
    if split_column is None:
        parts = seeded_split(paths, test_fraction, seed, split_by=split_by)
    else:
        parts = split_parts(_split(rows, split_column, path))
    for part in (TRAIN, TEST):
        if not len(parts[part]):
            raise DataError(f"{path}: no row is in the {part} part; see data.split_column")
    columns = [_labels(rows, name, min_count, path) for name in names]
    schema = AttributeSchema(names, tuple(values for values, _ in columns))
    labels = np.stack([labels for _, labels in columns], axis=1)
    return Catalogue(schema, ImageFiles(root, paths), labels, parts)


def _read_csv(path: pathlib.Path) -> tuple[list[str], list[Row]]:
    """Header and rows, every row with a cell for each column."""
    if not path.parent.is_dir():
        raise DataError(f"{path.parent} is not a folder; set data.root to the catalogue's")
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in path.parent.glob("*.csv"))) or "no other CSV"
        raise DataError(f"{path} does not exist ({others} there); set data.table")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the table as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: holds a NUL character"
        )
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not lines:
        raise DataError(f"{path} is empty; it needs a header row and a row an image")
    header = [name.strip() for name in lines[0][1]]
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path}: the header has {', '.join(map(repr, repeated))} more than once")
    if len(lines) == 1:
        raise DataError(f"{path} has a header but no rows")
    if uneven := [(line, len(cells)) for line, cells in lines[1:] if len(cells) != len(header)]:
        problems = [f"line {line}: {count} fields" for line, count in uneven]
        raise DataError(f"{path}: the header has {len(header)} fields, but\n{_listed(problems)}")
    return header, [
        Row(line, dict(zip(header, map(str.strip, cells), strict=True))) for line, cells in lines[1:]
    ]


def _existing(name: str, header: Sequence[str], path: pathlib.Path, field: str) -> str:
    """The column's name, or a DataError with the nearest one."""
    if name in header:
        return name
    near = difflib.get_close_matches(name, header, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, header))}."
    raise DataError(f"{path} has no column {name!r}; {hint} Set {field}.")


def _template_columns(template: str, header: Sequence[str], path: pathlib.Path, field: str) -> list[str]:
    """Columns that make an image's path."""
    try:
        columns = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DataError(f"{field} = {template!r} is no template: {error}") from error
    if not columns:
        raise DataError(f"{field} = {template!r} names no column, so all rows would have one image")
    return [_existing(name, header, path, field) for name in columns]


def _image_paths(
    rows: Sequence[Row], template: str, columns: Sequence[str], root: pathlib.Path, table: pathlib.Path
) -> tuple[str, ...]:
    """Path of each row's image, all of them named, below the root, different and there."""
    problems = [
        f"line {row.line}: {name} is blank" for row in rows for name in columns if not row.cells[name]
    ]
    if problems:
        raise DataError(f"{table}: rows without an image:\n{_listed(problems)}")
    paths = tuple(template.format_map(row.cells) for row in rows)
    lines = defaultdict(list)
    for row, image in zip(rows, paths, strict=True):
        if pathlib.PurePath(image).is_absolute() or ".." in pathlib.PurePath(image).parts:
            problems.append(f"line {row.line}: {image} leads out of {root}; give paths relative to data.root")
        lines[pathlib.PurePath(image)].append(row.line)
    problems += [
        f"lines {', '.join(map(str, where))}: {image} stands more than once"
        for image, where in lines.items()
        if len(where) > 1
    ]
    if problems:
        raise DataError(f"{table}: images that cannot be used:\n{_listed(problems)}")
    missing = [
        f"line {row.line}: {image}"
        for row, image in zip(rows, paths, strict=True)
        if not (root / image).is_file()
    ]
    if len(missing) == len(paths):
        folder = (root / paths[0]).parent
        state = "holds no such file" if folder.is_dir() else "does not exist"
        raise DataError(
            f"{table}: none of its {len(paths)} images is there; the first would be {root / paths[0]}, and "
            f"{folder} {state}. Set data.root, data.image_column or data.image_template."
        )
    if missing:
        raise DataError(f"{table}: {len(missing)} of {len(paths)} images are missing:\n{_listed(missing)}")
    return paths


def _split(rows: Sequence[Row], column: str, table: pathlib.Path) -> list[str]:
    """Part of each row."""
    unknown = [
        f"line {row.line}: {row.cells[column]!r}"
        for row in rows
        if row.cells[column].lower() not in PART_NAMES
    ]
    if unknown:
        raise DataError(
            f"{table}: column {column!r} must say {', '.join(PARTS)}, but\n{_listed(unknown)}\n"
            "Mend the rows, or set data.split_column ('' makes a seeded split)."
        )
    return [PART_NAMES[row.cells[column].lower()] for row in rows]


def _labels(
    rows: Sequence[Row], name: str, min_count: int, table: pathlib.Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """Values of one attribute in alphabetical order, and each row's label."""
    cells = [row.cells[name] for row in rows]
    counts = Counter(cell for cell in cells if cell)
    values = tuple(sorted(value for value, count in counts.items() if count >= min_count))
    if len(values) < 2:
        found = f"only the value {values[0]!r}" if values else "no labelled value"
        rare = f" with data.min_count = {min_count}; lower it" if len(counts) > len(values) else ""
        raise DataError(
            f"{table}: column {name!r} has {found}{rare}: there is nothing to learn or to change. "
            "Leave it out by naming the others in data.attributes."
        )
    index = {value: position for position, value in enumerate(values)}
    return values, np.array([index.get(cell, NOT_LABELLED) for cell in cells], np.int32)


def _listed(problems: Sequence[str]) -> str:
    return "\n".join(f"  {problem}" for problem in problems)
