"""Runs of a few records, told to loggers as training does."""

import pytest

from gradrev_jax.runs.loggers.loggers import open_loggers
from gradrev_jax.runs.metrics_log import MetricsLog


@pytest.fixture
def record_of():
    def record(step, stage="encoder", **values):
        return {"stage": stage, "step": step, "epoch": step / 10, **(values or {"loss": 1 / step})}

    return record


@pytest.fixture
def run_of(tmp_path):
    """Opens the loggers, goes on with a stage after a step, and writes records."""
    directory = tmp_path / "runs" / "red dresses"

    def run(names, records, *, first_step=0, has_begun=False):
        config = {"seed": 1, "stages": ["encoder"], "data.root": None, "train.learning_rate": 1e-4}
        with open_loggers(names, directory, config, has_begun=has_begun) as loggers:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "metrics.jsonl").touch()
            with MetricsLog(directory, records[0]["stage"], first_step, loggers) as log:
                for record in records:
                    log.write(record)
        return directory

    return run
