"""The config for an own catalogue on real pretrained weights, if the extra that brings them is installed."""

import importlib.util

import jax
import numpy as np
import pytest

from configs import catalogue
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs import embedded_images
from gradrev_jax.training.run import train
from gradrev_jax.weights.installed import INSTALLED, imagenet_file
from gradrev_jax.weights.reader import read_state_dict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(each.module) is None for each in INSTALLED.values()),
        reason="the extra pretrained is not installed",
    ),
]


def small(words, tmp_path):
    """A config of few drawn garments at 64 pixels."""
    config = catalogue.get_config(words)
    config.data.update({"format": "garments", "count": 120, "image_size": 64, "train_resize": 64})
    config.data.cache_dir = str(tmp_path / "cache")
    config.model.feature_dim = 16
    config.train.update({"batch_size": 16, "epochs": 8})
    config.protocol.ks = (1, 10)
    config.protocol.baselines, config.protocol.leakage = (), False
    return config


def statistics(params):
    return jax.tree.map(np.asarray, params["batch_stats"]["backbone"])


def test_frozen_features_name_what_is_drawn_and_are_computed_once(tmp_path, monkeypatch):
    config = small("pretrained", tmp_path)
    config.stages = ("encoder", "memory")
    config.memory.update({"triplets": 64, "batch_size": 16, "epochs": 1})
    train(config, tmp_path / "first", progress=False)
    metrics = evaluate(tmp_path / "first", progress=False)
    majority = metrics["majority_accuracy"]["micro"]
    assert metrics["attribute_accuracy"]["micro"] > majority + 0.2
    assert set(metrics["weights"]) == set(metrics["attribute_accuracy"]["per_attribute"])
    monkeypatch.setattr(embedded_images, "_embed", None)
    config.seed = 0
    again = train(config, tmp_path / "second", progress=False)
    assert int(again.step) == 4


def test_fine_tuning_trains_the_network_and_keeps_its_statistics(tmp_path):
    config = small("pretrained,finetune", tmp_path)
    config.train.update({"batch_size": 8, "max_steps": 2})
    params = train(config, tmp_path / "run", progress=False).params
    tensors = read_state_dict(imagenet_file("efficientnet_lite0"))
    known = statistics(params)
    np.testing.assert_array_equal(known["stem_norm"]["mean"], tensors["_bn0.running_mean"])
    np.testing.assert_array_equal(known["head_norm"]["var"], tensors["_bn1.running_var"])
    kernel = params["params"]["backbone"]["head"]["kernel"]
    before = tensors["_conv_head.weight"][:, :, 0, 0].T
    assert 0 < np.abs(kernel - before).max() < 1e-2


def test_a_network_from_random_weights_trains_its_statistics(tmp_path):
    config = small("pretrained,finetune", tmp_path)
    config.model.pretrained = None
    config.train.update({"batch_size": 8, "max_steps": 2})
    first = train(config, tmp_path / "whole", progress=False).params
    assert np.abs(statistics(first)["stem_norm"]["mean"]).max() > 1e-4  # 0 at first
    config.train.max_steps = 1
    train(config, tmp_path / "parts", progress=False)
    config.train.max_steps = 2
    jax.tree.map(
        np.testing.assert_array_equal, train(config, tmp_path / "parts", progress=False).params, first
    )


def test_alexnet_starts_from_imagenets_convolutions(tmp_path, capsys):
    config = small("cpu", tmp_path)
    config.model.update({"width": 1.0, "pretrained": "imagenet"})
    config.train.update({"max_steps": 1, "learning_rate": 0.0})
    params = train(config, tmp_path / "run", progress=False).params
    assert "has no weights of fc6, which start at random" in capsys.readouterr().err
    kernel = np.asarray(params["params"]["backbone"]["conv1"]["kernel"])
    assert kernel.shape == (11, 11, 3, 64)
    assert kernel[0, 0, 0, 0] == pytest.approx(0.11864, abs=1e-5)  # of the published weights
