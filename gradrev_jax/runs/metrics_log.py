"""Logs the steps of a stage to metrics.jsonl and TensorBoard."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from gradrev_jax.runs.workdir import METRICS, write_text


class MetricsLog:
    """Writes metrics.jsonl and TensorBoard of a stage, from the checkpoint that training goes on from.

    Records of later steps, written by a process that was killed before its next checkpoint, are dropped:
    those steps are about to be done again.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, first_step: int) -> None:
        path = workdir / METRICS
        kept = [
            line
            for line, record in _records(path)
            if record["stage"] != stage or record["step"] <= first_step
        ]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=first_step + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record; its numbers go to TensorBoard, see ``scalar_tags``."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for tag, value in scalar_tags(record).items():
            if tag not in ("step", "epoch"):
                self._board.add_scalar(tag, value, record["step"])
        self._board.flush()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def _records(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the lines of metrics.jsonl with their records, up to a line torn by a killed process."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield line, json.loads(line)
            except ValueError:
                return


def scalar_tags(tree: Mapping[str, Any], prefix: str = "") -> dict[str, int | float]:
    """Returns the numbers among nested fields under their path, as ``pathways/color/size``.

    TensorBoard writes one underscore for whatever is no letter, digit, underscore or hyphen, so that names
    could meet; each such character becomes its code point between dots instead.

    Example:
      >>> scalar_tags({"loss": 0.5, "accuracy": {"size (EU)": 0.25}, "stage": "encoder"})
      {'loss': 0.5, 'accuracy/size.20..28.EU.29.': 0.25}
    """
    tags: dict[str, int | float] = {}
    for name, value in tree.items():
        tag = prefix + re.sub(r"[^\w-]", lambda found: f".{ord(found[0]):x}.", name)
        if isinstance(value, Mapping):
            tags |= scalar_tags(value, f"{tag}/")
        elif isinstance(value, int | float):
            tags[tag] = value
    return tags
