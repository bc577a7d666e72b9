"""Records for TensorBoard, in a run's folder."""

from collections.abc import Mapping
from typing import Any, ClassVar

from gradrev_jax.runs.loggers.logger import Recorded


class TensorBoard:
    """Writes the numbers of a run to ``tensorboard/`` in its folder, a folder per stage.

    Steps that are about to be done again are purged there.
    """

    package: ClassVar[str] = "tensorboardX"
    id: str | None = None

    def __init__(self, run: Recorded) -> None:
        self._directory = run.directory / "tensorboard"
        self._writer: Any = None

    def begin(self, stage: str, first_step: int) -> None:
        """Opens a file of a stage."""
        from tensorboardX import SummaryWriter

        self.close()
        self._writer = SummaryWriter(str(self._directory / stage), purge_step=first_step + 1)

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of the stage that was begun last."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
