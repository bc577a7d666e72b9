"""Logs the steps of a stage to metrics.jsonl, and to the loggers of its run."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

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
        self._file = path.open("a", encoding="utf-8")
        self._loggers = loggers
        if loggers is not None:
            loggers.begin(stage, first_step, [record for _, record in kept])

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record, and tells it to the loggers."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._loggers is not None:
            self._loggers.write(record)

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
