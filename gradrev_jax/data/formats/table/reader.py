"""Reads a catalogue from a CSV and a folder of images."""

import pathlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, Catalogue, SplitBy, seeded_split, split_parts
from gradrev_jax.data.formats.adde.number_files import LISTED
from gradrev_jax.data.formats.table.columns import PART_NAMES, attribute_names, label_attributes
from gradrev_jax.data.formats.table.labels import USUAL, VERBATIM, CellRules
from gradrev_jax.data.formats.table.templates import Piece, find_column, parse_template, placeholder_names
from gradrev_jax.data.formats.table.text import Row, list_lines, quote_text, read_cells
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.near_files import find_near_file
from gradrev_jax.errors import DataError, join_lines

LONGEST_PATH = 200  # letters of an image's path that a message quotes


def read_table(
    root: pathlib.Path,
    *,
    table: str = "attributes.csv",
    delimiter: str = "",
    image_column: str = "image",
    image_template: str | None = None,
    split_column: str | None = "split",
    test_fraction: float = 0.2,
    seed: int = 0,
    split_by: SplitBy = "image",
    limit: int | None = None,
    attributes: Sequence[str] = (),
    ignore: Sequence[str] = (),
    rules: CellRules = USUAL,
    verbatim: Sequence[str] = (),
    min_count: int = 1,
    say: Callable[[str], None] | None = None,
) -> Catalogue:
    """Reads a catalogue from a UTF-8 CSV with a header row and one row per image.

    Args:
      root: the catalogue's folder.
      table: the CSV, relative to root.
      delimiter: the character between cells; empty: recognised by the header.
      image_column: column with the image's path, relative to root.
      image_template: instead of image_column, a path made of columns, as ``images/{id}.jpg``.
      split_column: column that says train, validation (or val) or test; None: a seeded split.
      test_fraction: share of the test part in a seeded split.
      seed: of the seeded split and of the rows drawn.
      split_by: how the seeded split is made, see ``catalogue.drawn``.
      limit: rows that are drawn with the seed, the others being left out; None: all.
      attributes: columns to use; empty: all but those of image and split, those to ignore, and those that are
        recognised to be a row number or another split. An empty cell is "not labelled"; values are ordered
        alphabetically.
      ignore: columns that are no attributes.
      rules: how cells are read as values.
      verbatim: columns to which the rules do not apply: each cell is its own value.
      min_count: values that fewer rows have become "not labelled".
      say: receives what was recognised and how it is read, one line each; None: nothing is said.

    Raises:
      DataError: the table or its images cannot be used; the message names the file, the rows and the
        config field that helps. Images are opened later, by ``image_cache.cached_images``.
    """
    path = root / table
    say = say or (lambda note: None)
    placeholders = [image_column] if image_template is None else placeholder_names(image_template)
    named = [name for name in (*placeholders, split_column, *attributes) if name]
    header, rows = read_cells(path, delimiter=delimiter, expected=named, say=say)
    if limit is not None:
        drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit])
        rows = [rows[row] for row in drawn.tolist()]
    if image_template is None:
        pieces: tuple[Piece, ...] = (
            Piece("", find_column(image_column, header, table=path, field="data.image_column")),
        )
    else:
        pieces = parse_template(image_template, header, table=path, field="data.image_template")
    used = {piece.column for piece in pieces if piece.column is not None}
    if split_column is not None:
        split_column = find_column(split_column, header, table=path, field="data.split_column")
        used.add(split_column)
    names = attribute_names(header, rows, used, attributes, ignore, path, say)
    literal = {find_column(name, header, table=path, field="data.verbatim") for name in verbatim}
    paths = _image_paths(rows, pieces, root, path)
    if split_column is None:
        parts = seeded_split(paths, test_fraction, seed, split_by=split_by)
    else:
        parts = split_parts(_split(rows, split_column, path))
    for part in (TRAIN, TEST):
        if not len(parts[part]):
            fields = "data.split_column" if split_column else "data.split_column, data.test_fraction and seed"
            if not split_column and split_by == "image":
                fields += ", or meet the fraction exactly by data.split_by=order"
            fields += ", or raise data.limit" if limit is not None else ""
            raise DataError(f"{path}: no row is in the {part} part; see {fields}")
    rules_of = {name: VERBATIM if name in literal else rules for name in names}
    schema, labels = label_attributes(rows, names, rules_of, min_count, bool(attributes), path, say)
    return Catalogue(schema, ImageFiles(root, paths), labels, parts)


def _image_paths(
    rows: Sequence[Row], pieces: Sequence[Piece], root: pathlib.Path, table: pathlib.Path
) -> tuple[str, ...]:
    """Path of each row's image, all of them named, below the root, different and there."""
    columns = [piece.column for piece in pieces if piece.column is not None]
    problems = [
        f"line {row.line}: {name} is blank" for row in rows for name in columns if not row.cells[name]
    ]
    if problems:
        raise DataError(f"{table}: rows without an image:\n{join_lines(problems)}")
    paths = tuple(_path(row, pieces, problems) for row in rows)
    if problems:
        raise DataError(f"{table}: rows that data.image_template does not fit:\n{join_lines(problems)}")
    lines = defaultdict(list)
    for row, image in zip(rows, paths, strict=True):
        if pathlib.PurePath(image).is_absolute() or ".." in pathlib.PurePath(image).parts:
            problems.append(
                f"line {row.line}: {_short(image)} leads out of {root}; give paths relative to data.root"
            )
        lines[pathlib.PurePath(image)].append(row.line)
    problems += [
        f"{list_lines(where)}: {_short(str(image))} stands more than once"
        for image, where in lines.items()
        if len(where) > 1
    ]
    if problems:
        raise DataError(f"{table}: images that cannot be used:\n{join_lines(problems)}")
    missing = [
        (row.line, image) for row, image in zip(rows, paths, strict=True) if not _is_file(root / image)
    ]
    near = {image: find_near_file(root, image) for _, image in missing[:LISTED]}
    if len(missing) == len(paths) and not any(near.values()):
        folder = (root / paths[0]).parent
        state = "holds no such file" if folder.is_dir() else "does not exist"
        raise DataError(
            f"{table}: none of its {len(paths)} images is there; the first would be {root / paths[0]}, and "
            f"{folder} {state}. Set data.root, data.image_column or data.image_template."
        )
    if missing:
        lines_of = [
            f"line {line}: {_short(image)}" + (f" ({near[image]} is there)" if near.get(image) else "")
            for line, image in missing
        ]
        raise DataError(
            f"{table}: {len(missing)} of {len(paths)} images are missing:\n{join_lines(lines_of)}"
        )
    return paths


def _path(row: Row, pieces: Sequence[Piece], problems: list[str]) -> str:
    """Returns the path of a row's image; where its cells do not fit, that is added to the problems."""
    try:
        return "".join(piece.format_cells(row.cells) for piece in pieces)
    except ValueError as error:
        problems.append(f"line {row.line}: {error}")
        return ""


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _short(image: str) -> str:
    return image if image.isprintable() and len(image) <= LONGEST_PATH else quote_text(image, LONGEST_PATH)


def _split(rows: Sequence[Row], column: str, table: pathlib.Path) -> list[str]:
    """Part of each row."""
    unknown = [
        f"line {row.line}: {quote_text(row.cells[column])}"
        for row in rows
        if row.cells[column].lower() not in PART_NAMES
    ]
    if unknown:
        raise DataError(
            f"{table}: column {column!r} must say {', '.join(PARTS)}, but\n{join_lines(unknown)}\n"
            "Mend the rows, or set data.split_column ('' makes a seeded split)."
        )
    return [PART_NAMES[row.cells[column].lower()] for row in rows]
