"""Logs the steps of a stage to metrics.jsonl, and to the loggers of its run."""

import json
import pathlib
import reprlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs.loggers.loggers import Loggers
from gradrev_jax.runs.workdir import METRICS, write_text


class MetricsLog:
    """Writes metrics.jsonl and tells the loggers, from the checkpoint that training goes on from.

    Records of later steps, written by a process that was killed before its next checkpoint, are dropped:
    those steps are about to be done again.
    """

    def __init__(
        self, workdir: pathlib.Path, stage: str, first_step: int, loggers: Loggers | None = None
    ) -> None:
        path = workdir / METRICS
        kept = [
            (line, record)
            for line, record in _lines(path)
            if _field(record, "stage", str, path) != stage or _field(record, "step", int, path) <= first_step
        ]
        write_text(path, "".join(f"{line}\n" for line, _ in kept))
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failure(error) from error
        self._loggers = loggers
        if loggers is not None:
            loggers.begin(stage, first_step, [record for _, record in kept])

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record, and tells it to the loggers.

        Raises:
          WorkdirError: the disk is full, or the file cannot be written to; part of a line may be there, which
            is dropped when training goes on.
        """
        left = json.dumps(record).encode() + b"\n"
        try:
            while left:  # the last bytes of a disk are written before the error comes
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._failure(error) from error
        if self._loggers is not None:
            self._loggers.write(record)

    def _failure(self, error: OSError) -> WorkdirError:
        return WorkdirError(
            f"{self._path} cannot be written: {error.strerror or error}; make room, and start again with the "
            "same --workdir to go on from the latest checkpoint"
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a metrics.jsonl; none if there is no such file.

    An incomplete last line, which a process leaves that is killed while it writes, is skipped.

    Args:
      path: the file.

    Raises:
      WorkdirError: another line is damaged, or the file cannot be read.
    """
    return [record for _, record in _lines(path)]


def _lines(path: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """Returns the lines of a metrics.jsonl with their records, see ``read_records``."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkdirError(f"{path} cannot be read: {error.strerror or error}") from error
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("ascii")
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError("it is no record")
            read.append((text, record))
        except (ValueError, RecursionError) as error:
            if number < len(lines):  # a whole line ends with a line feed, so that what follows it is empty
                raise WorkdirError(f"{path}, line {number} is damaged: {error}; remove the line") from error
    return read


def _field(record: Mapping[str, Any], name: str, kind: type, path: pathlib.Path) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise WorkdirError(
            f"{path} has the record {reprlib.repr(record)}, whose field {name!r} is no {kind.__name__}; "
            "remove its line"
        )
    return value
