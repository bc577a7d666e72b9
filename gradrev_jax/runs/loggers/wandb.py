"""Records for Weights & Biases."""

import os
from collections.abc import Mapping
from typing import ClassVar

from gradrev_jax.runs.loggers.logger import PROJECT, Recorded


class WandB:
    """Writes the numbers of a run to Weights & Biases, each under its stage, as ``encoder/loss``.

    Both stages count their steps from 1, and the tracker wants steps that only grow: every stage has an axis
    of its own there, ``encoder/step``.
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
        self.id: str | None = self._run.id

    def begin(self, stage: str, first_step: int) -> None:
        """Says what the numbers of a stage are drawn over."""
        self._run.define_metric(f"{stage}/step")
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        """Writes the numbers of a step of a stage."""
        self._run.log({f"{stage}/step": step, **{f"{stage}/{tag}": value for tag, value in values.items()}})

    def close(self, *, failed: bool) -> None:
        """Waits until everything is sent, or in its file where the tracker is offline."""
        self._run.finish(exit_code=int(failed))
