"""Records for Trackio."""

from collections.abc import Mapping
from typing import ClassVar

from gradrev_jax.runs.loggers.logger import PROJECT, Recorded


class Trackio:
    """Writes the numbers of a run to Trackio, each under its stage, as ``encoder/loss``."""

    package: ClassVar[str] = "trackio"

    def __init__(self, run: Recorded) -> None:
        import trackio

        self._run = trackio.init(
            project=PROJECT,
            name=run.name,
            config=dict(run.config),  # the last one given is the run's
            resume="never" if run.id is None else "allow",
        )
        if run.id is not None:
            self._run.id = run.id  # it looks for the name, which several runs may have
        self.id: str | None = self._run.id

    def begin(self, stage: str, first_step: int) -> None:
        """Does nothing: every number has its own step."""

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of a stage."""
        self._run.log({f"{stage}/{tag}": value for tag, value in values.items()}, step=step)

    def close(self, *, failed: bool) -> None:
        """Waits until everything is written."""
        self._run.finish()
