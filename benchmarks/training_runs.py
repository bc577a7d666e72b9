"""Runs short trainings, and reads their speed from their logs."""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from gradrev_jax.runs.metrics_log import read_records
from gradrev_jax.runs.workdir import METRICS
from gradrev_jax.training.run import train


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, the least, the most and the number of measurements.

    Example:
      >>> spread([3.0, 1.0, 2.0])
      {'median': 2.0, 'least': 1.0, 'most': 3.0, 'count': 3}
    """
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "count": len(values),
    }


def trained_seconds(config: ConfigDict, directory: pathlib.Path) -> float | None:
    """Trains a run, unless it is finished.

    Args:
      config: the config of the run.
      directory: the folder of the run.

    Returns:
      The seconds of the training; None where an earlier call began it, whose seconds are not known.
    """
    has_begun, started = (directory / METRICS).exists(), time.perf_counter()
    train(config, directory, progress=False)
    return None if has_begun else round(time.perf_counter() - started, 1)


def step_records(workdir: pathlib.Path, stage: str) -> list[dict[str, Any]]:
    """Returns the records of a stage's steps, without the records of validations."""
    return [
        record
        for record in read_records(workdir / METRICS)
        if record["stage"] == stage and "images_per_second" in record
    ]


def later_epochs(config: ConfigDict, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Trains with some fields set; returns the speed and the share of waiting after the first epoch."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    with tempfile.TemporaryDirectory() as folder:
        train(config, pathlib.Path(folder) / "run")
        records = step_records(pathlib.Path(folder) / "run", "encoder")
    records = [record for record in records if record["epoch"] > 1]
    return {
        "fields": dict(fields),
        "images_per_second": spread([record["images_per_second"] for record in records]),
        "input_wait": spread([record["input_wait"] for record in records]),
    }
