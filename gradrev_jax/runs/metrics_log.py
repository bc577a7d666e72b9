"""Logs the steps of a stage to metrics.jsonl, and to the loggers of its run."""

import json
import pathlib
from collections.abc import Iterator, Mapping
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
            for line, record in _records(path)
            if record["stage"] != stage or record["step"] <= first_step
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


def _records(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the lines of metrics.jsonl with their records, up to a line torn by a killed process."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield line, json.loads(line)
            except ValueError:
                return
