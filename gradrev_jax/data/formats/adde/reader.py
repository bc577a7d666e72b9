"""Reads the split directories of ADDE: labels, manipulation queries and training triplets in text files.

The files, which docs/method.md describes, are ``attr_num.txt``, ``imgs_{train,test}.txt`` and
``labels_{train,test}.txt``; ``ref_test.txt``, ``indfull_test.txt`` and ``gt_test.txt`` for the queries;
``triplet_train.txt`` and ``triplet_train_ind.txt`` for the triplets. Queries and triplets may each be left
out as a whole. ``attribute_values.txt``, with one line ``name: value, value, ...`` per attribute, is an
addition of this project: without it attributes and values are numbered.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels
from gradrev_jax.data.catalogue import TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.formats.adde.image_paths import check_different, read_image_paths
from gradrev_jax.data.formats.adde.number_files import (
    Numbers,
    TextFile,
    check_same_length,
    parse_rows,
    read_lines,
)
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.images.limits import DEFAULT_LIMITS, ImageLimits
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import DataError, join_lines

SIZES, NAMES = "attr_num.txt", "attribute_values.txt"
REFERENCES, INDICATORS, TARGETS = QUERY_FILES = ("ref_test.txt", "indfull_test.txt", "gt_test.txt")
TRIPLETS, TRIPLET_INDICATORS = TRIPLET_FILES = ("triplet_train.txt", "triplet_train_ind.txt")
LABELS, INDICATOR = Numbers("label", 0, 1), Numbers("entry of an indicator", -1, 1)
MOST_ATTRIBUTES, MOST_VALUES = 1_000, 100_000  # a label is a number per value, and there are matrices of both
SIZE = Numbers("number of values", 1, MOST_VALUES)


def read_adde(
    splits: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    drop_contradictions: bool = False,
    files_required: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Catalogue:
    """Reads the catalogue of an ADDE split directory, with its queries and triplets.

    Args:
      splits: the folder of the split files.
      root: the folder that the paths of the images are relative to.
      drop_contradictions: whether queries and triplets are left out, instead of refused, if their indicator
        does not lead from the labels of the reference to those of the target.
      files_required: whether the files of the images have to be there.
      limits: the limits of the image files.

    Raises:
      DataError: a file is missing or a row cannot be used; the message names the file and the lines.
    """
    splits, root = pathlib.Path(splits), pathlib.Path(root)
    if not splits.is_dir():
        raise DataError(
            f"{splits} is not a folder; set `splits` to the folder of {SIZES}", arguments=("splits",)
        )
    schema = _read_schema(splits)
    files, one_hot = {}, {}
    for part in (TRAIN, TEST):
        names = splits / f"imgs_{part}.txt"
        files[part] = read_image_paths(names, root, files_required=files_required, outside=limits.outside)
        one_hot[part] = _read_one_hot(splits / f"labels_{part}.txt", schema, files[part])
    check_different([files[TRAIN], files[TEST]])
    count = {part: len(file) for part, file in files.items()}
    return Catalogue(
        schema=schema,
        images=ImageFiles(root, (*files[TRAIN].lines, *files[TEST].lines), limits.largest_image),
        labels=np.concatenate([np.asarray(schema.labels(one_hot[part])) for part in (TRAIN, TEST)]),
        parts={
            TRAIN: np.arange(count[TRAIN]),
            VALIDATION: np.arange(0),
            TEST: count[TRAIN] + np.arange(count[TEST]),
        },
        queries=_read_queries(splits, one_hot[TEST], schema, drop=drop_contradictions),
        triplets=_read_triplets(splits, one_hot[TRAIN], schema, drop=drop_contradictions),
    )


def _read_schema(splits: pathlib.Path) -> AttributeSchema:
    """Reads the attributes and their values, numbered if there is no file of their names."""
    file = read_lines(splits / SIZES)
    width = len(file.lines[0].split())
    rows = parse_rows(file, width, SIZE)
    if len(rows) != 1 and width != 1:
        raise DataError(
            f"{splits / SIZES} has {len(rows)} lines; it needs one line with a number per attribute, or one "
            f"line per attribute with its number; line 1 has {width} numbers"
        )
    sizes = rows.reshape(-1)
    width = len(sizes)
    if width > MOST_ATTRIBUTES or sizes.sum(dtype=np.int64) > MOST_VALUES:
        raise DataError(
            f"{splits / SIZES} has {width:,} attributes of {sizes.sum(dtype=np.int64):,} values; at most "
            f"{MOST_ATTRIBUTES:,} of {MOST_VALUES:,} values together are read"
        )
    if not (splits / NAMES).is_file():
        return AttributeSchema(
            tuple(f"attribute_{n}" for n in range(width)),
            tuple(tuple(map(str, range(size))) for size in sizes.tolist()),
        )
    return _read_names(splits / NAMES, sizes.tolist())


def _read_names(path: pathlib.Path, sizes: Sequence[int]) -> AttributeSchema:
    """Reads the names of the attributes and of their values, as many as the sizes say."""
    lines = read_lines(path).lines
    if len(lines) != len(sizes):
        raise DataError(
            f"{path} has {len(lines)} lines but {path.with_name(SIZES)} {len(sizes)} numbers; both need one "
            "per attribute"
        )
    names: list[str] = []
    values: list[tuple[str, ...]] = []
    for number, (line, size) in enumerate(zip(lines, sizes, strict=True), start=1):
        name, colon, rest = line.partition(":")
        named = tuple(value.strip() for value in rest.split(","))
        if not colon or len(named) != size or not all(named):
            raise DataError(
                f"{path}, line {number}: needs a name, a colon and {size} values with commas "
                f"between them, as {SIZES} says; got {line[:60]!r}"
            )
        names.append(name.strip())
        values.append(named)
    try:
        return AttributeSchema(tuple(names), tuple(values))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _read_one_hot(path: pathlib.Path, schema: AttributeSchema, beside: TextFile) -> Int[np.ndarray, "rows J"]:
    """Reads rows of 0 and 1 with at most one value per attribute, int8, as many as another file has."""
    file = read_lines(path)
    check_same_length(file, beside)
    rows = parse_rows(file, schema.num_values, LABELS).astype(np.int8)
    _check_one_value(path, rows, schema)
    return rows


def _check_one_value(path: pathlib.Path, rows: Int[np.ndarray, "rows J"], schema: AttributeSchema) -> None:
    """Raises a DataError if a row has several values in one attribute."""
    counts = rows.astype(np.float32) @ schema.membership
    if (counts > 1).any():
        faults = [
            f"line {row + 1}: {int(counts[row, n])} values of attribute {schema.names[n]!r}"
            for row, n in np.argwhere(counts > 1).tolist()
        ]
        raise DataError(f"{path}: rows with several values in one attribute:\n{join_lines(faults)}")


def _all_exist(splits: pathlib.Path, names: Sequence[str]) -> bool:
    """Returns whether all of some files exist; raises a DataError if only some do."""
    missing = [name for name in names if not (splits / name).is_file()]
    if missing and len(missing) < len(names):
        raise DataError(
            f"{splits} has no {' and no '.join(missing)}, but others that need it; restore it, or remove "
            f"{' and '.join(sorted({*names} - {*missing}))} to have them generated"
        )
    return not missing


def _read_queries(
    splits: pathlib.Path, test: Int[np.ndarray, "G J"], schema: AttributeSchema, *, drop: bool
) -> Queries | None:
    """Reads the queries against the test images; None: there are no files of queries."""
    if not _all_exist(splits, QUERY_FILES):
        return None
    file = read_lines(splits / REFERENCES)
    reference = parse_rows(file, 1, _image_rows(TEST, len(test)))[:, 0]
    indicators = _read_indicators(splits / INDICATORS, schema, file)
    targets = _read_one_hot(splits / TARGETS, schema, file)
    kept = _consistent_rows(splits / INDICATORS, test[reference], indicators, targets, drop=drop)
    reference, indicators, targets = reference[kept], indicators[kept], targets[kept]
    changed = np.abs(indicators).astype(np.float32) @ schema.membership > 0
    return Queries(reference.astype(np.int64), indicators, np.asarray(schema.labels(targets)), changed)


def _read_triplets(
    splits: pathlib.Path, train: Int[np.ndarray, "M J"], schema: AttributeSchema, *, drop: bool
) -> Triplets | None:
    """Reads the triplets of training images; None: there are no files of triplets."""
    if not _all_exist(splits, TRIPLET_FILES):
        return None
    file = read_lines(splits / TRIPLETS)
    rows = parse_rows(file, 3, _image_rows(TRAIN, len(train)))
    indicators = _read_indicators(splits / TRIPLET_INDICATORS, schema, file)
    reference, positive, negative = rows.T.astype(np.int64)
    path = splits / TRIPLET_INDICATORS
    kept = _consistent_rows(path, train[reference], indicators, train[positive], drop=drop)
    return Triplets(reference[kept], positive[kept], negative[kept], indicators[kept])


def _image_rows(part: str, count: int) -> Numbers:
    return Numbers(f"row of imgs_{part}.txt, counted from 0", 0, count - 1)


def _read_indicators(
    path: pathlib.Path, schema: AttributeSchema, beside: TextFile
) -> Int[np.ndarray, "rows J"]:
    """Reads rows of -1, 0 and +1 that add and remove at most one value per attribute, int8."""
    file = read_lines(path)
    check_same_length(file, beside)
    indicators = parse_rows(file, schema.num_values, INDICATOR).astype(np.int8)
    for sign in (1, -1):
        _check_one_value(path, (indicators == sign).astype(np.int8), schema)
    return indicators


def _consistent_rows(
    path: pathlib.Path,
    before: Int[np.ndarray, "rows J"],
    indicators: Int[np.ndarray, "rows J"],
    after: Int[np.ndarray, "rows J"],
    *,
    drop: bool,
) -> np.ndarray:
    """Returns which indicators lead from the labels before to those after, as a mask of the rows.

    Raises:
      DataError: some do not, and are not to be dropped; or none does.
    """
    consistent = (before + indicators == after).all(axis=1) & indicators.any(axis=1)
    if consistent.all() or (drop and consistent.any()):
        return consistent
    faults = [
        f"line {row + 1}: {_describe_fault(before[row], indicators[row], after[row])}"
        for row in np.flatnonzero(~consistent).tolist()
    ]
    hint = "none would be left without them" if drop else "set `drop_contradictions`=true to leave them out"
    raise DataError(
        f"{path}: {len(faults)} of {len(consistent)} indicators do not lead from the labels of their "
        "reference to those of their target (+1 adds a value, -1 removes it); mend the rows, or "
        f"{hint}:\n{join_lines(faults)}",
        arguments=() if drop else ("drop_contradictions",),
    )


def _describe_fault(before: np.ndarray, indicator: np.ndarray, after: np.ndarray) -> str:
    """Describes the first contradiction, with the column of the value."""
    if not indicator.any():
        return "nothing changes"
    column = int(np.flatnonzero(before + indicator != after)[0])
    has = {0: "lacks", 1: "has"}
    return (
        f"column {column + 1} is {indicator[column]}, but the reference {has[int(before[column])]} the value "
        f"and the target {has[int(after[column])]} it"
    )


def one_hot_rows(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> Int[np.ndarray, "M J"]:
    """Returns labels as rows of 0 and 1, int8, as the files hold them.

    Args:
      labels: [M, N]; -1: not labelled.
      schema: the attributes.

    Raises:
      ValueError: the labels do not fit the schema.

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
