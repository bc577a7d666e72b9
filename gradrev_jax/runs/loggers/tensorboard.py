"""Records for TensorBoard, in a run's folder."""

import contextlib
import itertools
import pathlib
import socket
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from gradrev_jax.runs.loggers.logger import Recorded

NAME = "events.out.tfevents"
VERSION = "brain.Event:2"  # of the format of the files


class TensorBoard:
    """Writes the numbers of a run to ``tensorboard/`` in its folder, a folder per stage.

    Steps that are about to be done again are purged there. Numbers are in the file when ``write`` returns.
    tensorboardX's own writer hands them to a thread instead: if the process is killed, those of the last
    steps before a checkpoint may be lost, and are not written again; and on a full disk the thread ends and
    training waits for it.
    """

    package: ClassVar[str] = "tensorboardX"
    id: str | None = None

    def __init__(self, run: Recorded) -> None:
        self._directory = run.directory / "tensorboard"
        self._file: Any = None

    def begin(self, stage: str, first_step: int) -> None:
        """Opens a file of a stage."""
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.record_writer import RecordWriter

        self.close()
        self._file = RecordWriter(str(_next_file(self._directory / stage)))
        start = SessionLog(status=SessionLog.START)
        self._write({"file_version": VERSION}, {"step": first_step + 1, "session_log": start})

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of the stage that was begun last."""
        from tensorboardX.summary import scalar

        self._write(*({"step": step, "summary": scalar(tag, value)} for tag, value in values.items()))

    def close(self, *, failed: bool = False) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, *events: dict[str, Any]) -> None:
        """Writes events, by their fields."""
        from tensorboardX.proto.event_pb2 import Event

        try:
            for fields in events:
                self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # of what is still in its buffer
                self.close()
            raise


def _next_file(folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of the next file of a stage, whose name comes after those of all before it.

    TensorBoard reads files in the order of their names, which have the time in seconds: two starts within a
    second, or a clock that is set back, must not change the order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    times = [path.name.removeprefix(f"{NAME}.").split(".")[0] for path in folder.glob(f"{NAME}.*")]
    second = max(itertools.chain([int(time.time())], (int(each) + 1 for each in times if each.isdecimal())))
    return folder / f"{NAME}.{second:010}.{socket.gethostname()}"
