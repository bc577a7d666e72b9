"""A run of a version that had other fields goes on, and is evaluated, as it was meant at its time."""

import json

import jax
import numpy as np
import pytest

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs import workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.fields.table import EARLIER_VALUES
from gradrev_jax.training.run import train

FRACTION = 0.1


@pytest.fixture
def config(tiny_config, small_backbone):
    tiny_config.model.backbone = small_backbone
    tiny_config.data.missing_fraction = FRACTION
    tiny_config.data.count = 100
    return tiny_config


def make_earlier(directory):
    """Writes the config as versions wrote it in which ``data.missing`` was the fraction that is hidden."""
    path = directory / workdir.CONFIG
    fields = json.loads(path.read_text())
    for name, value in EARLIER_VALUES.items():
        section, _, last = name.rpartition(".")
        holder = fields[section] if section else fields
        if holder.get(last) == (list(value) if isinstance(value, tuple) else value):
            del holder[last]
    assert "representation" not in fields["protocol"]
    fields["data"]["missing"] = fields["data"].pop("missing_fraction")
    path.write_text(json.dumps(fields))


@pytest.mark.long
def test_a_fraction_of_missing_labels_keeps_its_meaning(config, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "write_run_report", lambda *arguments: None)
    whole = train(config, tmp_path / "whole", progress=False).params
    config.train.epochs = 1
    train(config, tmp_path / "run", progress=False)
    asked = {"baselines": (), "leakage": False}
    now = evaluate(tmp_path / "run", protocol=asked, progress=False)
    make_earlier(tmp_path / "run")
    read = workdir.read_config(tmp_path / "run")
    assert (read["data"]["missing_fraction"], read["data"]["missing"]) == (FRACTION, "ignore")
    assert read["protocol"]["representation"] == "features"
    assert evaluate(tmp_path / "run", protocol=asked, progress=False) == now

    config.train.epochs = 2
    config.data.missing_fraction = 0.2
    with pytest.raises(WorkdirError, match="data.missing_fraction: 0.1 there, 0.2 now"):
        train(config, tmp_path / "run", progress=False)
    config.data.missing_fraction = FRACTION
    resumed = train(config, tmp_path / "run", progress=False).params
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    with Checkpoints(tmp_path / "run" / "checkpoints" / "encoder", read_only=True) as checkpoints:
        steps = max(checkpoints.steps)
    assert evaluate(tmp_path / "run", step="latest", protocol=asked, progress=False)["step"] == steps
    written = json.loads((tmp_path / "run" / workdir.CONFIG).read_text())["data"]
    assert (written["missing_fraction"], written["missing"]) == (FRACTION, "ignore")
