"""Writes a catalogue of image files as a split directory of ADDE, with its queries and triplets."""

import itertools
import os
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.formats.adde.reader import (
    INDICATORS,
    NAMES,
    REFERENCES,
    SIZES,
    TARGETS,
    TRIPLET_INDICATORS,
    TRIPLETS,
    one_hot_rows,
)
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import DataError
from gradrev_jax.files import new_folder

SIGNS = np.array([b"0", b"1", b"-1"], dtype="S2")  # indexed by -1, 0 and 1


def write_adde(
    directory: str | os.PathLike[str],
    catalogue: Catalogue,
    queries: Queries | None,
    triplets: Triplets | None,
) -> None:
    """Writes a catalogue as an ADDE split directory, which ``read_adde`` and the code of ADDE read.

    The format has no validation part: its images are written behind the training images.

    Args:
      directory: the new folder; it appears when everything is written.
      catalogue: the catalogue, whose images are files.
      queries: the queries, whose references are counted within the test part; None: no files of queries.
      triplets: the triplets, whose rows are counted within the catalogue and belong to its training and
        validation parts; None: no files of triplets.

    Raises:
      DataError: the folder exists, or a name cannot be written in the format.
    """
    directory = pathlib.Path(directory)
    if directory.exists():
        raise DataError(f"{directory} exists already; give a folder that does not")
    _check_names(catalogue)
    schema = catalogue.schema
    rows = {TRAIN: catalogue.rows(TRAIN, VALIDATION), TEST: catalogue.parts[TEST]}
    with new_folder(directory, DataError) as folder:
        _write_lines(folder / SIZES, [" ".join(map(str, schema.sizes))])
        named = zip(schema.names, schema.values, strict=True)
        _write_lines(folder / NAMES, [f"{name}: {', '.join(values)}" for name, values in named])
        for part, of_part in rows.items():
            _write_lines(
                folder / f"imgs_{part}.txt", [catalogue.images.name(row) for row in of_part.tolist()]
            )
            _write_signs(folder / f"labels_{part}.txt", one_hot_rows(catalogue.labels[of_part], schema))
        if queries is not None:
            _write_lines(folder / REFERENCES, map(str, queries.reference.tolist()))
            _write_signs(folder / INDICATORS, queries.indicators)
            _write_signs(folder / TARGETS, one_hot_rows(queries.targets, schema))
        if triplets is not None:
            kept = triplets.restrict_to(rows[TRAIN])
            columns = zip(
                kept.reference.tolist(), kept.positive.tolist(), kept.negative.tolist(), strict=True
            )
            _write_lines(folder / TRIPLETS, [f"{r} {p} {n}" for r, p, n in columns])
            _write_signs(folder / TRIPLET_INDICATORS, kept.indicators)


def _check_names(catalogue: Catalogue) -> None:
    """Raises a DataError if a name would be read back as another one."""
    schema = catalogue.schema
    bad = [name for name in schema.names if ":" in name or not _is_kept(name)]
    bad += [value for values in schema.values for value in values if "," in value or not _is_kept(value)]
    if bad:
        raise DataError(
            f"names that the format cannot hold: {', '.join(map(repr, bad[:10]))}; a colon, a comma, a line "
            "break or spaces at the ends would be read as something else"
        )
    images = map(catalogue.images.name, catalogue.rows(*PARTS).tolist())
    if bad := list(itertools.islice((name for name in images if not _is_kept(name)), 10)):
        raise DataError(
            f"names of images that the format cannot hold: {', '.join(map(repr, bad))}; a line break or "
            "spaces at the ends would be read as something else"
        )


def _is_kept(name: str) -> bool:
    """Returns whether a name that is written in a line is read back as it is."""
    return name != "" and name == name.strip() and "\n" not in name and "\r" not in name


def _write_lines(path: pathlib.Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_signs(path: pathlib.Path, rows: Int[np.ndarray, "rows J"]) -> None:
    """Writes rows of -1, 0 and 1, block by block, because there may be millions."""
    with path.open("wb") as file:
        for start in range(0, len(rows), 4096):
            block = SIGNS[rows[start : start + 4096]].tolist()
            file.write(b"".join(b" ".join(row) + b"\n" for row in block))
