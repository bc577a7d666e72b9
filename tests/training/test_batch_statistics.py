"""Batch normalisation in training: its statistics are trained, or frozen, and belong to the checkpoint."""

import jax
import numpy as np
import pytest

from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.runs import starting_weights
from gradrev_jax.training.run import train
from gradrev_jax.weights.pretrained import Loaded
from tests.small_backbone import NormedColour


@pytest.fixture
def config(tiny_config, monkeypatch):
    monkeypatch.setitem(BACKBONES, "normed", Backbone(NormedColour, inputs=PixelInputs(8), taps=("pooled",)))
    tiny_config.model.backbone = "normed"
    tiny_config.stages = ("encoder", "memory")
    tiny_config.memory.update({"triplets": 16, "batch_size": 8, "epochs": 2})
    return tiny_config


def run(config, directory):
    return train(config, directory, progress=False)


def statistics(state):
    encoder = state.params.get("encoder", state.params)
    return jax.tree.map(np.asarray, encoder["batch_stats"]["backbone"]["norm"])


@pytest.mark.long
def test_statistics_are_trained_in_both_stages(config, tmp_path):
    memory = statistics(run(config, tmp_path / "both"))
    config.stages = ("encoder",)
    encoder = statistics(run(config, tmp_path / "encoder"))
    assert np.abs(encoder["mean"]).min() > 1e-3  # 0 at first
    assert np.abs(memory["mean"] - encoder["mean"]).max() > 1e-5
    assert (encoder["var"] != 1).all()
    evaluate(tmp_path / "both", progress=False)


@pytest.mark.long
def test_a_run_that_was_stopped_ends_in_the_same_statistics(config, tmp_path):
    whole = run(config, tmp_path / "whole")
    config.train.max_steps, config.stages = 5, ("encoder",)
    run(config, tmp_path / "parts")
    config.train.max_steps, config.stages, config.memory.max_steps = None, ("encoder", "memory"), 1
    run(config, tmp_path / "parts")
    config.memory.max_steps = None
    jax.tree.map(np.testing.assert_array_equal, run(config, tmp_path / "parts").params, whole.params)


@pytest.mark.long
def test_pretrained_statistics_stay_as_they_are(config, tmp_path, monkeypatch, capsys):
    def load(backbone, variables, path):
        norm = {"mean": np.full(8, 0.25, np.float32), "var": np.full(8, 4.0, np.float32)}
        return Loaded({"batch_stats": {"norm": norm}}, ("convolution", "norm"))

    monkeypatch.setattr(starting_weights, "load_backbone", load)
    config.model.pretrained = str(tmp_path / "weights.pth")
    state = run(config, tmp_path / "run")
    said = capsys.readouterr().err
    assert f"{config.model.pretrained} has no weights of convolution, norm, which start at random" in said
    assert statistics(state)["mean"].tolist() == [0.25] * 8
    assert statistics(state)["var"].tolist() == [4.0] * 8
    assert (np.asarray(state.params["encoder"]["params"]["backbone"]["norm"]["scale"]) != 1).any()
