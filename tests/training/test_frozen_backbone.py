"""Runs whose backbone stays as it is: its features are computed once, and cached."""

import shutil

import jax
import numpy as np
import pytest

from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.runs import builders, embedded_images, frozen_backbone, pixels
from gradrev_jax.runs.inputs import open_frozen, open_inputs
from gradrev_jax.training.run import train


@pytest.fixture
def config(tiny_config, tmp_path):
    """A tiny run on the features of a backbone that stays at its random weights."""
    tiny_config.model.freeze_backbone = True
    tiny_config.data.cache_dir = str(tmp_path / "cache")
    return tiny_config


def run(config, directory):
    return train(config, directory, progress=False)


def entries(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*.npy"))


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def opened(config, directory, part="train"):
    config = builders.with_defaults(config)
    catalogue = builders.open_catalogue(config)
    frozen = open_frozen(config, directory)
    return catalogue, frozen, open_inputs(catalogue, [part], config, frozen, progress=False)[part]


@pytest.mark.long
def test_inputs_are_what_the_backbone_gives_of_images_and_their_mirror_images(config, tmp_path):
    config.model.tap = "fc7"
    catalogue, frozen, vectors = opened(config, tmp_path / "run")
    images = np.asarray(pixels.open_images(catalogue, "train", config), np.float32) / 255
    images = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    network = BACKBONES["small"].build("fc7", config.model.width, 0.0, np.float32)
    for view, seen in enumerate((images, images[:, :, ::-1])):
        expected = network.apply(frozen.variables, seen.astype(np.float32))
        np.testing.assert_allclose(vectors[:][:, view], expected, rtol=1e-3, atol=1e-4)
    test = opened(config, tmp_path / "run", "test")[2]
    assert vectors.shape[1:] == (2, 16)
    assert test.shape[1:] == (1, 16)


@pytest.mark.long
def test_the_statistics_are_those_of_the_training_vectors(config, tmp_path):
    _, _, vectors = opened(config, tmp_path / "run")
    known = run(config, tmp_path / "run").params["batch_stats"]["backbone"]
    rows = vectors[:][:, 0].astype(np.float64)
    np.testing.assert_allclose(known["mean"], rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(known["std"], rows.std(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_images_are_embedded_once(config, tmp_path, monkeypatch):
    run(config, tmp_path / "first")
    cached = entries(tmp_path)
    assert len(cached) == 2  # with the mirror images, and those of the test part without
    monkeypatch.setattr(embedded_images, "_embed", None)  # nothing to be computed any more
    config.train.validation_fraction = 0.3  # other images are held out, as another seed does
    run(config, tmp_path / "second")
    evaluate(tmp_path / "second", progress=False)
    assert entries(tmp_path) == cached


def test_other_weights_transforms_and_images_are_other_entries(config, tmp_path):
    found = []
    for change in (
        {},
        {"model.tap": "fc7"},
        {"data.image_size": 32, "data.train_resize": 32},
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(change)
        opened(changed, tmp_path / "run", "test")
        found.append(len(entries(tmp_path)))
    config.seed = 1  # of the random weights, and of the drawn images
    opened(config, tmp_path / "run", "test")
    assert [*found, len(entries(tmp_path))] == [1, 2, 3, 4]


@pytest.mark.long
def test_the_folder_keeps_the_weights_and_checkpoints_do_not(config, tmp_path):
    state = run(config, tmp_path / "run")
    assert "backbone" not in state.params["params"]
    assert (tmp_path / "run" / frozen_backbone.BACKBONE_FILE).exists()
    before = evaluate(tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "cache")
    config.seed = 7  # had the weights to be drawn again, they would be others
    again = open_frozen(builders.with_defaults(config), tmp_path / "run")
    config.seed = 0
    assert again.fingerprint == open_frozen(builders.with_defaults(config), tmp_path / "new").fingerprint
    assert evaluate(tmp_path / "run", progress=False) == before


@pytest.mark.long
def test_an_interrupted_run_ends_in_the_same_parameters(config, tmp_path):
    config.stages = ("encoder", "memory")
    config.memory.update({"triplets": 32, "batch_size": 8, "epochs": 1})
    whole = run(config, tmp_path / "whole")
    config.train.max_steps, config.stages = 3, ("encoder",)
    run(config, tmp_path / "parts")
    config.train.max_steps, config.stages = None, ("encoder", "memory")
    assert_same(run(config, tmp_path / "parts"), whole)


@pytest.mark.long
def test_vectors_on_the_device_are_those_on_the_host(config, tmp_path):
    on_host = run(config, tmp_path / "host")
    config.data.placement = "device"
    assert_same(run(config, tmp_path / "device"), on_host)


def test_a_part_without_images_has_no_vectors(config, tmp_path):
    config.train.validation_fraction = 0.0
    config.data.train_resize = config.data.image_size + 8  # parts that are seen otherwise are apart
    assert opened(config, tmp_path / "run", "validation")[2].shape == (0, 1, 16)


def test_a_frozen_backbone_of_random_weights_is_a_warning(config, tmp_path, capsys):
    run(config, tmp_path / "run")
    assert "stays at its random weights, which know nothing of images" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_named_all_at_once(config, tmp_path, monkeypatch):
    catalogue = builders.open_catalogue(config)
    source = type(catalogue.images)
    read = source.read

    def some_fail(self, row, transform):
        if row in (3, 40):
            raise OSError(f"image {row} is torn")
        return read(self, row, transform)

    monkeypatch.setattr(source, "read", some_fail)
    monkeypatch.setattr(embedded_images, "BATCH", 8)
    config.train.mirror = False  # so that all parts are embedded together
    config.data.train_resize = config.data.image_size
    with pytest.raises(
        DataError, match="(?s)2 of 60 images cannot be read:.*image 3 is torn.*image 40 is torn"
    ):
        opened(config, tmp_path / "run")
    assert not entries(tmp_path)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").iterdir())
