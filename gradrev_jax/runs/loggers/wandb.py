"""Records for Weights & Biases."""

import os
from collections.abc import Mapping
from typing import ClassVar

from gradrev_jax.runs.loggers.logger import PROJECT, Recorded


class WandB:
    """Writes the numbers of a run to Weights & Biases, each under its stage, as ``encoder/loss``.

    Both stages count their steps from 1, and the tracker wants steps that only grow: it is given the number
    of the record, and every stage has an axis of its own there, ``encoder/step``. So the files of an offline
    run that was stopped and went on have no step in common.
    """

    package: ClassVar[str] = "wandb"

    def __init__(self, run: Recorded) -> None:
        import wandb

        is_new = run.id is None
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=os.environ.get("WANDB_NAME") or run.name,
            id=run.id,
            resume=None if is_new else "allow",
            config=dict(run.config) if is_new else None,
            reinit="create_new",  # a run of the caller's own goes on beside it
        )
        self._records = run.records
        self.id: str | None = self._run.id

    def begin(self, stage: str, first_step: int) -> None:
        """Says what the numbers of a stage are drawn over."""
        self._run.define_metric(f"{stage}/step")
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of a stage."""
        numbers = {f"{stage}/{tag}": value for tag, value in values.items()}
        self._run.log({f"{stage}/step": step, **numbers}, step=self._records)
        self._records += 1

    def close(self, *, failed: bool) -> None:
        """Waits until everything is sent, or in its file where the tracker is offline."""
        self._run.finish(exit_code=int(failed))
