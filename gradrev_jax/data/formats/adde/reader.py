"""Reading ADDE's split directories: labels, manipulation queries and training triplets as text files.

The files (docs/method.md has what they hold): ``attr_num.txt``, ``imgs_{train,test}.txt`` and
``labels_{train,test}.txt``; ``ref_test.txt``, ``indfull_test.txt`` and ``gt_test.txt`` for the queries;
``triplet_train.txt`` and ``triplet_train_ind.txt`` for the triplets. Queries and triplets may each be left
out as a whole. ``attribute_values.txt``, a line ``name: value, value, ...`` an attribute, is this project's
addition: without it attributes and values are numbered.
"""

import itertools
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.formats.adde.number_files import LISTED, read_lines, read_rows
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.near_files import find_near_file
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import DataError, join_lines

SIZES, NAMES = "attr_num.txt", "attribute_values.txt"
REFERENCES, INDICATORS, TARGETS = QUERY_FILES = ("ref_test.txt", "indfull_test.txt", "gt_test.txt")
TRIPLETS, TRIPLET_INDICATORS = TRIPLET_FILES = ("triplet_train.txt", "triplet_train_ind.txt")
DROP = "data.drop_contradictions"


def read_adde(
    splits: str | os.PathLike[str], root: str | os.PathLike[str], *, drop_contradictions: bool = False
) -> Catalogue:
    """Catalogue of an ADDE split directory, with its queries and triplets.

    Args:
      splits: folder of the split files.
      root: folder that the images' paths are relative to.
      drop_contradictions: leave out queries and triplets whose indicator does not lead from the reference's
        labels to those of the target, instead of refusing them.

    Raises:
      DataError: a file is missing or a row cannot be used; the message names the file and the lines.
    """
    splits, root = pathlib.Path(splits), pathlib.Path(root)
    if not splits.is_dir():
        raise DataError(f"{splits} is not a folder; set data.splits to the one with {SIZES}")
    schema = _schema(splits)
    paths, one_hot = {}, {}
    for part in (TRAIN, TEST):
        paths[part] = read_lines(splits / f"imgs_{part}.txt")
        one_hot[part] = _one_hot(
            splits / f"labels_{part}.txt", schema, len(paths[part]), of=f"imgs_{part}.txt"
        )
        _check_images(splits / f"imgs_{part}.txt", paths[part], root)
    count = {part: len(found) for part, found in paths.items()}
    return Catalogue(
        schema=schema,
        images=ImageFiles(root, (*paths[TRAIN], *paths[TEST])),
        labels=np.concatenate([np.asarray(schema.labels(one_hot[part])) for part in (TRAIN, TEST)]),
        parts={
            TRAIN: np.arange(count[TRAIN]),
            VALIDATION: np.arange(0),
            TEST: count[TRAIN] + np.arange(count[TEST]),
        },
        queries=_queries(splits, one_hot[TEST], schema, drop=drop_contradictions),
        triplets=_triplets(splits, one_hot[TRAIN], schema, drop=drop_contradictions),
    )


def _schema(splits: pathlib.Path) -> AttributeSchema:
    """Attributes and values, by name where there are names."""
    lines = read_lines(splits / SIZES)
    width = len(lines[0].split())
    rows = read_rows(splits / SIZES, width, low=1, high=10**6, what="number of values")
    if len(rows) != 1 and width != 1:
        raise DataError(
            f"{splits / SIZES} has {len(rows)} lines; it needs one, a number an attribute, or one "
            f"line for each with its number; line 1 has {width} numbers"
        )
    sizes = rows.reshape(-1)
    width = len(sizes)
    if not (splits / NAMES).is_file():
        return AttributeSchema(
            tuple(f"attribute_{n}" for n in range(width)),
            tuple(tuple(map(str, range(size))) for size in sizes.tolist()),
        )
    lines = read_lines(splits / NAMES)
    if len(lines) != width:
        raise DataError(
            f"{splits / NAMES} has {len(lines)} lines but {splits / SIZES} {width} numbers; both need one an "
            "attribute"
        )
    names: list[str] = []
    values: list[tuple[str, ...]] = []
    for number, (line, size) in enumerate(zip(lines, sizes.tolist(), strict=True), start=1):
        name, colon, rest = line.partition(":")
        named = tuple(value.strip() for value in rest.split(","))
        if not colon or len(named) != size or not all(named):
            raise DataError(
                f"{splits / NAMES}, line {number}: needs a name, a colon and {size} values with commas "
                f"between them, as {SIZES} says; got {line[:60]!r}"
            )
        names.append(name.strip())
        values.append(named)
    try:
        return AttributeSchema(tuple(names), tuple(values))
    except ValueError as error:
        raise DataError(f"{splits / NAMES}: {error}") from error


def _one_hot(path: pathlib.Path, schema: AttributeSchema, rows: int, *, of: str) -> Int[np.ndarray, "rows J"]:
    """Rows of 0 and 1 with one value an attribute at most, int8."""
    one_hot = read_rows(path, schema.num_values, low=0, high=1, rows=rows, rows_of=of, what="label").astype(
        np.int8
    )
    _check_one_value(path, one_hot, schema)
    return one_hot


def _check_one_value(path: pathlib.Path, rows: Int[np.ndarray, "rows J"], schema: AttributeSchema) -> None:
    counts = rows.astype(np.float32) @ schema.membership
    if (counts > 1).any():
        faults = [
            f"line {row + 1}: {int(counts[row, n])} values of attribute {schema.names[n]!r}"
            for row, n in np.argwhere(counts > 1).tolist()
        ]
        raise DataError(f"{path}: rows with several values in one attribute:\n{join_lines(faults)}")


def _check_images(path: pathlib.Path, images: Sequence[str], root: pathlib.Path) -> None:
    """Raise unless every image lies below the root and is there."""
    outside = [
        f"line {number}: {image}"
        for number, image in enumerate(images, start=1)
        if pathlib.PurePath(image).is_absolute() or ".." in pathlib.PurePath(image).parts
    ]
    if outside:
        raise DataError(f"{path}: paths that lead out of data.root, {root}:\n{join_lines(outside)}")
    missing = [
        (number, image) for number, image in enumerate(images, start=1) if not (root / image).is_file()
    ]
    if missing:
        near = [find_near_file(root, image) for _, image in missing[:LISTED]]
        advice = (
            "write the paths as the files are named"
            if any(near)
            else "set data.root to the folder that the paths are relative to"
        )
        shown = [
            f"line {number}: {image}" + (f" ({found} is there)" if found else "")
            for (number, image), found in itertools.zip_longest(missing, near)
        ]
        raise DataError(
            f"{path}: {len(missing)} of {len(images)} images are not below {root}; "
            f"{advice}:\n{join_lines(shown)}"
        )


def _together(splits: pathlib.Path, names: Sequence[str]) -> bool:
    """Whether all of these files exist; a DataError where only some are."""
    missing = [name for name in names if not (splits / name).is_file()]
    if missing and len(missing) < len(names):
        raise DataError(
            f"{splits} has no {' and no '.join(missing)}, but others that need it; restore it, or remove "
            f"{' and '.join(sorted({*names} - {*missing}))} to have them generated"
        )
    return not missing


def _queries(
    splits: pathlib.Path, test: Int[np.ndarray, "G J"], schema: AttributeSchema, *, drop: bool
) -> Queries | None:
    if not _together(splits, QUERY_FILES):
        return None
    reference = read_rows(
        splits / REFERENCES, 1, low=0, high=len(test) - 1, what=f"row of imgs_{TEST}.txt, counted from 0"
    )[:, 0]
    indicators = _indicators(splits / INDICATORS, schema, len(reference), of=REFERENCES)
    targets = _one_hot(splits / TARGETS, schema, len(reference), of=REFERENCES)
    kept = _consistent(splits / INDICATORS, test[reference], indicators, targets, drop=drop)
    reference, indicators, targets = reference[kept], indicators[kept], targets[kept]
    changed = np.abs(indicators).astype(np.float32) @ schema.membership > 0
    return Queries(reference.astype(np.int64), indicators, np.asarray(schema.labels(targets)), changed)


def _triplets(
    splits: pathlib.Path, train: Int[np.ndarray, "M J"], schema: AttributeSchema, *, drop: bool
) -> Triplets | None:
    if not _together(splits, TRIPLET_FILES):
        return None
    rows = read_rows(
        splits / TRIPLETS, 3, low=0, high=len(train) - 1, what=f"row of imgs_{TRAIN}.txt, counted from 0"
    )
    indicators = _indicators(splits / TRIPLET_INDICATORS, schema, len(rows), of=TRIPLETS)
    reference, positive, negative = rows.T.astype(np.int64)
    kept = _consistent(splits / TRIPLET_INDICATORS, train[reference], indicators, train[positive], drop=drop)
    return Triplets(reference[kept], positive[kept], negative[kept], indicators[kept])


def _indicators(
    path: pathlib.Path, schema: AttributeSchema, rows: int, *, of: str
) -> Int[np.ndarray, "rows J"]:
    """Rows of -1, 0 and +1 that add and remove one value an attribute at most, int8."""
    indicators = read_rows(
        path, schema.num_values, low=-1, high=1, rows=rows, rows_of=of, what="entry of an indicator"
    ).astype(np.int8)
    for sign in (1, -1):
        _check_one_value(path, (indicators == sign).astype(np.int8), schema)
    return indicators


def _consistent(
    path: pathlib.Path,
    before: Int[np.ndarray, "rows J"],
    indicators: Int[np.ndarray, "rows J"],
    after: Int[np.ndarray, "rows J"],
    *,
    drop: bool,
) -> np.ndarray:
    """Which rows' indicators lead from the labels before to those after; all must, unless dropped."""
    consistent = (before + indicators == after).all(axis=1) & indicators.any(axis=1)
    if consistent.all() or (drop and consistent.any()):
        return consistent
    faults = [
        f"line {row + 1}: {_fault(before[row], indicators[row], after[row])}"
        for row in np.flatnonzero(~consistent).tolist()
    ]
    hint = "none would be left without them" if drop else f"set {DROP}=true to leave them out"
    raise DataError(
        f"{path}: {len(faults)} of {len(consistent)} indicators do not lead from the labels of their "
        "reference to those of their target (+1 adds a value, -1 removes it); mend the rows, or "
        f"{hint}:\n{join_lines(faults)}"
    )


def _fault(before: np.ndarray, indicator: np.ndarray, after: np.ndarray) -> str:
    """The first thing that contradicts, with the value's column."""
    if not indicator.any():
        return "nothing changes"
    column = int(np.flatnonzero(before + indicator != after)[0])
    has = {0: "lacks", 1: "has"}
    return (
        f"column {column + 1} is {indicator[column]}, but the reference {has[int(before[column])]} the value "
        f"and the target {has[int(after[column])]} it"
    )


def one_hot_rows(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> Int[np.ndarray, "M J"]:
    """Labels as rows of 0 and 1, int8, as the files hold them.

    Raises:
      ValueError: as ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> one_hot_rows(np.array([[1, -1]]), schema).tolist()
      [[0, 1, 0, 0]]
    """
    check_labels(labels, schema)
    rows = np.zeros((len(labels), schema.num_values), np.int8)
    row, n = np.nonzero(labels != NOT_LABELLED)
    rows[row, np.asarray(schema.offsets)[n] + labels[row, n]] = 1
    return rows
