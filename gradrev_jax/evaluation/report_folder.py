"""Reads a run's log, and replaces the folder of a report as a whole."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from gradrev_jax.errors import WorkdirError
from gradrev_jax.files import temporary_sibling


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a metrics.jsonl; none if there is no such file.

    An incomplete last line, which a process leaves that is killed while it writes, is skipped.

    Raises:
      WorkdirError: another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise WorkdirError(f"{path}, line {number} is damaged: {error}; remove the line") from error
    return records


@contextlib.contextmanager
def replace_folder(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Replaces a folder atomically: yields a temporary sibling, then renames it if the block succeeds.

    Args:
      directory: the folder to replace; it is untouched if the block fails.

    Yields:
      The folder to write to.

    Raises:
      WorkdirError: the folder cannot be written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with temporary_sibling(directory, folder=True) as new:
            yield new
            new.chmod(0o755)  # mkdtemp's folders are private
            with temporary_sibling(directory, folder=True) as old:
                if directory.exists():
                    directory.rename(old)
                try:
                    new.rename(directory)
                except OSError:
                    if any(old.iterdir()):
                        old.rename(directory)
                    raise
    except OSError as error:
        raise WorkdirError(f"{directory} cannot be written: {error.strerror or error}") from error
