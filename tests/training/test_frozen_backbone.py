"""Runs whose backbone stays as it is: its features are computed once, and cached."""

import dataclasses
import os
import shutil
import subprocess
import sys
import textwrap

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


@pytest.fixture
def embedded(config, monkeypatch):
    """The numbers of images that are embedded, two at once."""
    counts, embed = [], embedded_images._embed

    def count(frozen, pool, images, *others):
        counts.append(len(images.rows))
        embed(frozen, pool, images, *others)

    monkeypatch.setattr(embedded_images, "_embed", count)
    monkeypatch.setattr(embedded_images, "BATCH", 2)
    return counts


def vectors_of(config, directory, *, without=0, part="test", **network):
    """Opens the vectors of a part, without its first images, by a network of which some is other."""
    config = builders.with_defaults(config)
    catalogue = builders.open_catalogue(config)
    some = {**catalogue.parts, part: catalogue.parts[part][without:]}
    fewer = dataclasses.replace(catalogue, parts=some)
    frozen = open_frozen(config, directory)._replace(**network)
    return open_inputs(fewer, [part], config, frozen, progress=False)[part]


def test_an_added_image_is_embedded_alone(config, embedded, tmp_path):
    anew = vectors_of(config, tmp_path / "run")[:]
    shutil.rmtree(tmp_path / "cache")
    few = vectors_of(config, tmp_path / "run", without=1)
    embedded.clear()
    more = vectors_of(config, tmp_path / "run")
    assert embedded == [2], "it is one, and one that is known is compared"
    assert len(entries(tmp_path)) == 2
    np.testing.assert_array_equal(more[:], anew)
    np.testing.assert_array_equal(few[:], anew[1:])
    vectors_of(config, tmp_path / "run", without=5)
    assert embedded == [2, 2], "none is new, and a batch of those that are known is compared"


def test_nothing_is_taken_from_other_weights_or_another_number_of_views(config, embedded, tmp_path):
    vectors_of(config, tmp_path / "run", without=1)
    embedded.clear()
    vectors_of(config, tmp_path / "run", fingerprint="of other weights")
    vectors_of(config, tmp_path / "run", part="train")  # with mirror images
    assert embedded == [24, 36]


def test_numbers_that_would_not_be_computed_here_are_not_taken(config, embedded, tmp_path):
    anew = vectors_of(config, tmp_path / "run")[:]
    shutil.rmtree(tmp_path / "cache")
    vectors_of(config, tmp_path / "run", without=1)
    (entry,) = (tmp_path / "cache").glob("*.npy")
    known = np.load(entry, mmap_mode="r+")
    known[:] = np.nextafter(known, np.float32(np.inf))  # as of another processor
    known.flush()
    embedded.clear()
    np.testing.assert_array_equal(vectors_of(config, tmp_path / "run")[:], anew)
    assert embedded == [2, 24]


@pytest.mark.long
def test_a_run_goes_on_to_the_same_bits_with_rows_of_another_entry(config, embedded, tmp_path):
    whole = run(config, tmp_path / "whole")
    config.train.max_steps = 3
    run(config, tmp_path / "parts")
    shutil.rmtree(tmp_path / "cache")
    vectors_of(config, tmp_path / "parts", without=3, part="train")
    embedded.clear()
    config.train.max_steps = None
    assert_same(run(config, tmp_path / "parts"), whole)
    assert embedded == [4, 24], "three are new, and one is compared; the test part is embedded anew"


@pytest.mark.long
@pytest.mark.parametrize(("name", "width"), [("alexnet", 0.25), ("efficientnet_lite0", 1.0)])
def test_what_a_backbone_gives_of_an_image_is_the_same_wherever_in_a_batch_it_is(name, width):
    """In a process of its own, because XLA does not optimise in tests."""
    code = f"""
        import jax, jax.numpy as jnp, numpy as np
        from gradrev_jax.models.backbones import BACKBONES
        from gradrev_jax.runs.embedded_images import BATCH
        from gradrev_jax.runs.frozen_backbone import make_embed
        backbone = BACKBONES[{name!r}]
        network = backbone.build(backbone.taps[-1], {width}, 0.0, jnp.float32)
        variables = jax.jit(network.init)(jax.random.key(0), backbone.inputs.example(96))
        images = np.random.default_rng(0).integers(0, 256, (BATCH, 96, 96, 3), dtype=np.uint8)
        embed = make_embed(network, backbone.inputs, 2)
        first = np.asarray(embed(variables, images))
        for shift in (1, 5, 16, BATCH - 1):
            moved = embed(variables, np.roll(images, shift, axis=0))
            np.testing.assert_array_equal(moved, np.roll(first, shift, axis=0))
        alone = np.zeros_like(images)
        alone[0] = images[BATCH // 2]
        np.testing.assert_array_equal(embed(variables, alone)[0], first[BATCH // 2])
    """
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr


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


def test_what_was_embedded_before_an_image_that_cannot_be_read_is_kept(
    config, embedded, tmp_path, monkeypatch
):
    anew = vectors_of(config, tmp_path / "run", part="train")[:]
    shutil.rmtree(tmp_path / "cache")
    catalogue = builders.open_catalogue(config)
    source, count = type(catalogue.images), len(catalogue.parts["train"])
    torn, read = catalogue.parts["train"][count - 5], source.read
    with monkeypatch.context() as patch:

        def fails(self, row, transform):
            if row == torn:
                raise OSError("the image is torn")
            return read(self, row, transform)

        patch.setattr(source, "read", fails)
        with pytest.raises(DataError, match=r"(?s)^1 of \d+ images .* the image is torn"):
            vectors_of(config, tmp_path / "run", part="train")
    embedded.clear()
    np.testing.assert_array_equal(vectors_of(config, tmp_path / "run", part="train")[:], anew)
    (computed,) = embedded
    assert computed < 16 < count
