"""Reads a file of the images' paths, and checks that they can be used."""

import itertools
import pathlib
from collections import defaultdict
from collections.abc import Sequence

from gradrev_jax.data.formats.adde.number_files import TextFile, read_lines
from gradrev_jax.data.images.near_files import SUGGESTED, find_near_file
from gradrev_jax.data.images.paths import closed_folder, is_file, paths_outside, quote_path
from gradrev_jax.errors import DataError, join_lines, join_names


def read_image_paths(
    path: pathlib.Path, root: pathlib.Path, *, files_required: bool, outside: bool
) -> TextFile:
    """Reads a text file with the path of an image in each line.

    Args:
      path: the text file.
      root: the folder that the paths are relative to.
      files_required: whether the files of the images have to be there.
      outside: whether the paths may lead out of the root.

    Raises:
      DataError: the file cannot be read, or a path leads out of the root though that is not allowed, or
        has no file.
    """
    file = read_lines(path)
    if not outside:
        _check_paths(file, root)
    if files_required:
        _check_files(file, root)
    return file


def check_different(files: Sequence[TextFile]) -> None:
    """Checks that every image stands once in the files of all parts: rows are found by the names of images.

    Args:
      files: the files of the parts, in one folder.

    Raises:
      DataError: an image stands more than once; the message names the lines and their files.
    """
    places = defaultdict(list)
    for file in files:
        for number, image in enumerate(file.lines, start=1):
            places[pathlib.PurePath(image)].append(f"line {number} of {file.path.name}")
    twice = [
        f"{join_names(of_image)}: {quote_path(str(image))}"
        for image, of_image in places.items()
        if len(of_image) > 1
    ]
    if twice:
        raise DataError(
            f"{files[0].path.parent}: images that stand more than once:\n{join_lines(twice)}\n"
            "Leave one line of each, and the same line of its labels; the files of queries and triplets "
            "count these lines."
        )


def _check_paths(file: TextFile, root: pathlib.Path) -> None:
    """Raises a DataError unless every image lies below the root."""
    outside = [
        f"line {position + 1}: {quote_path(file.lines[position])} {leads}"
        for position, leads in paths_outside(root, file.lines).items()
    ]
    if outside:
        raise DataError(
            f"{file.path}: paths that lead out of `root`; set `outside`=true if you trust the file:\n"
            f"{join_lines(outside)}",
            arguments=("root", "outside"),
        )


def _check_files(file: TextFile, root: pathlib.Path) -> None:
    """Raises a DataError unless every image exists."""
    images = file.lines
    missing = [(number, image) for number, image in enumerate(images, start=1) if not is_file(root / image)]
    for number, image in missing[:SUGGESTED]:
        if closed := closed_folder(root, image):
            raise DataError(
                f"{file.path}: {closed}, which has the image of line {number}, cannot be read: "
                "Permission denied"
            )
    if missing:
        near = [find_near_file(root, image) for _, image in missing[:SUGGESTED]]
        advice = (
            "write the paths as the files are named"
            if any(near)
            else "set `root` to the folder that the paths are relative to"
        )
        problems = [
            f"line {number}: {quote_path(image)}" + (f" ({found} is there)" if found else "")
            for (number, image), found in itertools.zip_longest(missing, near)
        ]
        raise DataError(
            f"{file.path}: {len(missing)} of {len(images)} images are not below {root}; "
            f"{advice}:\n{join_lines(problems)}",
            arguments=() if any(near) else ("root",),
        )
