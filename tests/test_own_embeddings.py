"""A run on vectors that came in a file: from the file to the report, with and without the images."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from configs import catalogue
from gradrev_jax.data.vectors.reader import open_vectors
from gradrev_jax.errors import ConfigError, DataError, WorkdirError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.training.run import train

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "embeddings.md"
COUNT, WIDTH = 60, 8
NAMES = [f"images/{number:02d}.png" for number in range(COUNT)]
COLORS, SIZES = ("blue", "red"), ("l", "m", "s")


def labels_of(number):
    return COLORS[number % 2], SIZES[number % 3]


@pytest.fixture(scope="module")
def vectors():
    """Vectors that hold both labels, among noise; of a large offset, as some networks' have."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(COUNT, WIDTH))
    for number in range(COUNT):
        found[number, number % 2] += 6
        found[number, 2 + number % 3] += 6
    return (found + 100).astype(np.float32)


@pytest.fixture
def root(tmp_path, vectors):
    folder = tmp_path / "catalogue"
    folder.mkdir()
    lines = ["image,split,color,size"]
    for number, name in enumerate(NAMES):
        lines.append(",".join((name, "train" if number < 40 else "test", *labels_of(number))))
    (folder / "attributes.csv").write_text("\n".join(lines) + "\n")
    np.savez(folder / "vectors.npz", names=NAMES, embeddings=vectors)
    return folder


@pytest.fixture
def config(root):
    config = catalogue.get_config("embeddings")
    config.data.root, config.data.embeddings = str(root), str(root / "vectors.npz")
    config.data.cache_dir = str(root / "cache")
    config.model.feature_dim = 6
    config.train.update({"batch_size": 12, "epochs": 2, "learning_rate": 2e-2})
    config.train.validation_fraction = 0.3
    config.protocol.update({"ks": (1, 3), "batch_size": 7, "strength": "2", "weights": "none"})
    config.protocol.update({"baselines": (), "leakage": False, "look": "0.5"})
    return config


def run(config, directory):
    return train(config, directory, progress=False)


@pytest.mark.long
def test_vectors_are_learned_and_searched_without_any_image(config, root, tmp_path):
    config.train.epochs = 40
    run(config, tmp_path / "run")
    metrics = evaluate(tmp_path / "run", progress=False)
    assert metrics["attribute_accuracy"]["micro"] > 0.9
    assert metrics["hit_rate"]["3"] > metrics["baselines"]["no_manipulation"]["hit_rate"]["3"] + 0.3
    assert (tmp_path / "run" / "report" / "retrieved.png").exists()  # grey squares, with the names
    assert not list((root / "cache").glob("*.npy"))  # no image is decoded


@pytest.mark.long
def test_pictures_are_those_of_the_images_where_they_are(config, root, tmp_path):
    run(config, tmp_path / "run")
    evaluate(tmp_path / "run", progress=False)
    without = (tmp_path / "run" / "report" / "retrieved.png").read_bytes()
    (root / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (20, 20), "red").save(root / name)
    evaluate(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "report" / "retrieved.png").read_bytes() != without


def test_the_order_of_a_file_with_names_does_not_matter(config, root, tmp_path, vectors):
    first = run(config, tmp_path / "first")
    order = np.random.default_rng(1).permutation(COUNT)
    np.savez(root / "vectors.npz", names=np.array(NAMES)[order], embeddings=vectors[order])
    second = run(config, tmp_path / "second")
    for name in ("mlp_hidden", "mlp_out", "heads"):
        np.testing.assert_array_equal(
            first.params["params"][name]["kernel"], second.params["params"][name]["kernel"]
        )


def test_a_width_that_changes_is_named(config, root, tmp_path, vectors):
    run(config, tmp_path / "run")
    np.save(root / "narrow.npy", vectors[:, :5])
    before = (tmp_path / "run" / "embeddings.json").read_text()
    assert json.loads(before) == {"width": WIDTH}
    message = (
        "^the embeddings have 5 numbers per image, and .*run was trained on 8: they are of another network"
    )
    with pytest.raises((WorkdirError, DataError), match=message):
        evaluate(tmp_path / "run", data={"embeddings": str(root / "narrow.npy")}, progress=False)
    config.data.embeddings = str(root / "narrow.npy")
    config.train.epochs = 3
    with pytest.raises(WorkdirError, match=message):
        run(config, tmp_path / "run")
    assert (tmp_path / "run" / "embeddings.json").read_text() == before


def test_other_vectors_under_the_same_names_are_noticed(config, root, tmp_path, vectors):
    run(config, tmp_path / "run")
    changed = vectors.copy()
    changed[3] += 1
    np.savez(root / "vectors.npz", names=NAMES, embeddings=changed)
    config.train.epochs = 3
    with pytest.raises(
        WorkdirError, match="1 image is replaced by another image of the same name: images/03.png"
    ):
        run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.embeddings": None}, "data.embeddings is not set: the file of the vectors"),
        ({"model.backbone": "alexnet"}, "data.embeddings is set: it needs model.backbone = 'embeddings'"),
        ({"model.pretrained": "imagenet"}, "model.pretrained = 'imagenet': unset, because 'embeddings' has"),
        ({"model.freeze_backbone": True}, "model.freeze_backbone = True: unset, because 'embeddings' has"),
        ({"model.width": 0.5}, "model.width = 0.5: 1, because vectors have a width of their own"),
    ],
)
def test_fields_that_do_not_go_with_vectors(config, tmp_path, fields, message):
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=message):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bad_file_leaves_nothing_behind(config, root, tmp_path, vectors):
    vectors = vectors.copy()
    vectors[7, 2] = np.nan
    np.savez(root / "vectors.npz", names=NAMES, embeddings=vectors)
    with pytest.raises(DataError, match="(?s)vectors.npz.*images/07.png.*config: data.embeddings"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "parquet", "npy"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_files_that_the_page_writes_have_the_vectors(tmp_path, monkeypatch, vectors, suffix, order):
    """Of arrays that are stored column by column, as a transposed one, it wrote other numbers."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    (recipe,) = re.findall(rf"```python\n(# vectors\.{suffix}\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {"names": NAMES, "vectors": np.array(vectors, order=order)})
    found = open_vectors(tmp_path / f"vectors.{suffix}", NAMES, say=print)
    np.testing.assert_array_equal(found[np.arange(COUNT)].reshape(COUNT, WIDTH), vectors)
