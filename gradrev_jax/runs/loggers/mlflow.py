"""Records for MLflow."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from gradrev_jax.runs.loggers.logger import PROJECT, Recorded

MOST_METRICS, MOST_PARAMETERS = 1000, 100  # in one call


class MLflow:
    """Writes the numbers of a run to MLflow, each under its stage, as ``encoder/loss``."""

    package: ClassVar[str] = "mlflow"

    def __init__(self, run: Recorded) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        if run.id is None:
            self._id = self._client.create_run(self._experiment(), run_name=run.name).info.run_id
            self._send_config(run.config)
        else:
            self._id = run.id
            self._client.update_run(run.id, status="RUNNING")
        self.id: str | None = self._id

    def begin(self, stage: str, first_step: int) -> None:
        """Does nothing: every number has its own step."""

    def write(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Writes the numbers of a step of a stage."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{stage}/{tag}", value, now, step) for tag, value in values.items()]
        for part in _parts(metrics, MOST_METRICS):
            self._client.log_batch(self._id, metrics=part)

    def close(self, *, failed: bool) -> None:
        """Marks the run as finished, or as failed."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _experiment(self) -> str:
        """Returns the experiment that the environment names, or ours, which is created if it is not there."""
        from mlflow.exceptions import MlflowException

        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run has just created it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _send_config(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        fields = [
            Param(name, value if isinstance(value, str) else json.dumps(value))
            for name, value in config.items()
        ]
        for part in _parts(fields, MOST_PARAMETERS):
            self._client.log_batch(self._id, params=part)


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + most] for start in range(0, len(items), most))
