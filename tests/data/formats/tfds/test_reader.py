import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gradrev_jax.data.catalogue import Sampling, Transform
from gradrev_jax.data.formats.tfds import reader
from gradrev_jax.data.formats.tfds.reader import MAPPINGS, TfdsFeatures, attribute_mapping, read_tfds
from gradrev_jax.errors import ConfigError, DataError

tfds = pytest.importorskip("tensorflow_datasets")
tfds_features = pytest.importorskip("gradrev_jax.data.formats.tfds.features")

ALL = {
    "color": "color",
    "size": "size",
    "sleeves": "sleeves",
    "striped": "flags/striped",
    "dotted": "flags/deep/dotted",
    "brand": "brand",
}
NUMBERS = {"train": range(48), "validation": range(48, 60), "test": range(60, 90)}


def oracle(index):
    """Labels of one record, from how it is made."""
    return {
        "color": index % 3 if index % 7 else -1,
        "size": (index // 3) % 3,
        "sleeves": index % 4,
        "striped": int(index % 2 == 0),
        "dotted": int(index % 5 == 0),
        "brand": (-1, 1, 0, 0)[index % 4],
    }


def read(tiny_dir, **options):
    """Reads the tiny data set; each option is an argument, or a field of one of the option objects."""
    options = {"attributes": ALL, **options}
    features, sampling = (
        kind(
            **{
                field.name: options.pop(field.name)
                for field in dataclasses.fields(kind)
                if field.name in options
            }
        )
        for kind in (TfdsFeatures, Sampling)
    )
    return read_tfds("tiny_garments", str(tiny_dir), features, sampling=sampling, **options)


def fails(tiny_dir, **options):
    with pytest.raises(DataError) as error:
        read(tiny_dir, **options)
    message = str(error.value)
    assert set(error.value.arguments) == set(re.findall(r"`(\w+)`", message))
    return message


def test_every_kind_of_feature(tiny_dir):
    catalogue = read(tiny_dir)
    assert dict(zip(catalogue.schema.names, catalogue.schema.values, strict=True)) == {
        "color": ("red", "green", "blue"),
        "size": ("s", "m", "l"),
        "sleeves": ("-5", "0", "5", "10"),
        "striped": ("no", "yes"),
        "dotted": ("no", "yes"),
        "brand": ("acme", "Öko"),
    }
    for part, numbers in NUMBERS.items():
        expected = [[oracle(index)[name] for name in ALL] for index in numbers]
        np.testing.assert_array_equal(catalogue.part_labels(part), expected)
    assert catalogue.queries is None
    assert catalogue.triplets is None
    assert catalogue.images.name(50) == "tiny_garments/validation/2"


def test_without_attributes_all_classes_are_used(tiny_dir):
    with pytest.raises(DataError, match="attribute 'same' has only the value '1': there is nothing to learn"):
        read(tiny_dir, attributes=None)


def test_values_that_no_image_has_stay_and_rare_ones_become_not_labelled(tiny_dir):
    assert read(tiny_dir, attributes={"rare": "rare"}).schema.values == (("0", "1", "2", "3"),)
    catalogue = read(tiny_dir, attributes={"rare": "rare"}, min_count=2)
    assert catalogue.schema.values == (("0", "1"),)
    assert catalogue.labels[:7, 0].tolist() == [0, 1, 0, 1, 0, -1, 0]


@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (("train", "test"), {"train": NUMBERS["train"], "test": NUMBERS["test"]}),
        (("train", "validation"), {"train": NUMBERS["train"], "test": NUMBERS["validation"]}),
        (
            ("test", "train", "validation"),
            {"train": range(60, 90), "validation": range(48), "test": range(48, 60)},
        ),
        (("train[:75%]", "train[36:]"), {"train": range(36), "test": range(36, 48)}),
        (("train[:10]+validation", "test"), {"train": [*range(10), *range(48, 60)], "test": NUMBERS["test"]}),
    ],
)
def test_parts_are_the_splits_that_are_named(tiny_dir, splits, parts):
    catalogue = read(tiny_dir, splits=splits, attributes={"size": "size", "sleeves": "sleeves"})
    for part in ("train", "validation", "test"):
        expected = [[oracle(index)[name] for name in ("size", "sleeves")] for index in parts.get(part, ())]
        assert catalogue.part_labels(part).tolist() == expected


def test_a_single_split_has_a_seeded_test_part(tiny_dir):
    options = {"splits": ["train"], "test_fraction": 0.25}
    first, again, other = (read(tiny_dir, seed=seed, **options) for seed in (1, 1, 2))
    assert [len(first.parts[part]) for part in ("train", "validation", "test")] == [39, 0, 9]
    by_order = read(tiny_dir, seed=1, split_by="order", **options)
    assert [len(by_order.parts[part]) for part in ("train", "validation", "test")] == [36, 0, 12]
    np.testing.assert_array_equal(first.parts["test"], again.parts["test"])
    assert set(first.parts["test"].tolist()) != set(other.parts["test"].tolist())


def test_a_limit_draws_images_of_all_parts(tiny_dir):
    first, again, other = (read(tiny_dir, limit=40, seed=seed) for seed in (1, 1, 2))
    assert len(first.images) == len(first.labels) == 40
    assert all(len(rows) for rows in first.parts.values())
    names = [[drawn.images.name(row) for row in range(40)] for drawn in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 40
    start = {"train": 0, "validation": 48, "test": 60}
    for name, labels in zip(names[0], first.labels.tolist(), strict=True):
        _, split, number = name.split("/")
        assert labels == list(oracle(start[split] + int(number)).values())
    assert len(read(tiny_dir, limit=1000).images) == 90


def test_a_limit_that_leaves_an_empty_part_is_refused(tiny_dir):
    with pytest.raises(ConfigError, match="`limit` must be at least 1, got 0"):
        read(tiny_dir, limit=0)
    message = fails(
        tiny_dir, limit=2, attributes={"sleeves": "sleeves"}, splits=("train",), test_fraction=0.1
    )
    assert "no image is left for the test part" in message


def test_splits_that_share_images_are_refused(tiny_dir):
    message = fails(tiny_dir, splits=("train[:80%]", "train[30:]"))
    assert "the splits 'train[:80%]' and 'train[30:]' have images in common" in message


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("trian", "test"), r"has the splits train \(48\), .*: Unknown split 'trian'"),
        (("train[", "test"), "Unrecognized split format: 'train\\['"),
        (("train", "test[5:5]"), r"split 'test\[5:5\]' has no images"),
        (("train", "train"), r"has the splits train \(48\), .*; set `splits`"),
        (("train", "validation", "test", "test[:5]"), "set `splits`"),
    ],
)
def test_splits_that_cannot_be_used(tiny_dir, splits, message):
    with pytest.raises(DataError, match=message):
        read(tiny_dir, splits=splits)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("flags/stripe", "no feature 'flags/stripe'; did you mean flags/striped? Set `attributes`."),
        ("flags", "no feature 'flags'; it has brand, "),
        (
            "xyz",
            "no feature 'xyz'; it has brand, color, flags/deep/dotted, flags/striped, rare, same, size, ",
        ),
        (
            "price",
            "feature 'price' cannot be an attribute, being Tensor(shape=(), dtype=float32); that takes",
        ),
        ("tags", "feature 'tags' cannot be an attribute, being Sequence(int64); that takes"),
        ("image", "feature 'image' cannot be an attribute, being Image("),
        ("same", "attribute 'it' has only the value '1': there is nothing to learn or to change. Leave"),
    ],
)
def test_features_that_cannot_be_attributes(tiny_dir, path, message):
    assert message in fails(tiny_dir, attributes={"it": path})


def test_a_min_count_that_leaves_no_value_is_refused(tiny_dir):
    message = fails(tiny_dir, attributes={"size": "size"}, min_count=90)
    assert "'size' has no labelled value with `min_count` = 90; lower it" in message


def test_image_features_that_cannot_be_used_are_named(tiny_dir):
    assert "no feature 'imag'; did you mean image? Set `image_feature`." in fails(
        tiny_dir, image_feature="imag"
    )
    message = fails(tiny_dir, image_feature="tags")
    assert "'tags' is no image, encoded or uint8 [H, W, 1 or 3]; it has image, mask, pixels. Set" in message


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_mappings_name_features_that_the_data_sets_have(name, tmp_path):
    features = tfds_features.leaves(tfds.builder(name, data_dir=tmp_path).info.features)
    assert all(tfds_features.feature_kind(features[path]) for path in MAPPINGS[name].values())


def test_shapes3d_by_its_name_alone(stand_in, as_png, rng):
    sizes = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
    drawn = {name: rng.integers(0, size, 20).tolist() for name, size in sizes.items()}
    examples = [
        {
            "image": as_png(np.full((64, 64, 3), 10 * index)),
            **{f"label_{name}": labels[index] for name, labels in drawn.items()},
            **{f"value_{name}": 0.5 for name in sizes},
        }
        for index in range(20)
    ]
    folder = stand_in("shapes3d", {"train": examples})
    catalogue = read_tfds("shapes3d", data_dir=folder)
    assert catalogue.schema.names == tuple(sizes)
    assert catalogue.schema.sizes == tuple(sizes.values())
    assert len(catalogue.parts["test"]) == 4
    # TFDS has shuffled the records: the pixels tell which is which.
    for row in range(20):
        index = int(catalogue.images.read(row, Transform(64, 64))[0, 0, 0]) // 10
        assert catalogue.labels[row].tolist() == [labels[index] for labels in drawn.values()]
    with pytest.raises(DataError, match="'value_shape' cannot be an attribute.* did you mean label_shape"):
        read_tfds("shapes3d", folder, TfdsFeatures({"shape": "value_shape"}))


def test_words_become_a_mapping_from_attribute_to_feature():
    assert attribute_mapping(()) == {}
    assert attribute_mapping(["a=x", "b=y/z", "y/c"]) == {"a": "x", "b": "y/z", "c": "y/c"}
    for words in (["x="], ["a=x", "a=y"], [""]):
        with pytest.raises(ConfigError, match="^`attributes`: .* must say attribute=feature"):
            attribute_mapping(words)


def test_without_tfds_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        ConfigError, match=r"need the package TensorFlow Datasets.*pip install -c constraints.txt -e"
    ):
        read_tfds("shapes3d")


def test_a_damaged_or_missing_file_is_named(tiny_dir, tmp_path):
    shutil.copytree(tiny_dir / "tiny_garments", tmp_path / "tiny_garments")
    files = sorted(tmp_path.rglob("*train.array_record*"))
    files[1].write_bytes(files[1].read_bytes()[:5000])
    assert "cannot be read: " in fails(tmp_path)
    files[1].unlink()
    assert f"{files[1]} is missing; prepare tiny_garments again" in fails(tmp_path)


def test_tfds_is_imported_only_when_a_data_set_is_read():
    assert "tensorflow_datasets" not in vars(reader)
    script = "import sys, gradrev_jax.runs.builders; assert 'tensorflow_datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_run_from_its_config(tiny_dir, cache_dir, tmp_path):
    from configs import tfds as config_file
    from gradrev_jax.evaluation.run import evaluate
    from gradrev_jax.training.run import train

    config = config_file.get_config("tiny_garments,shared")
    config.update_from_flattened_dict(
        {
            "data.tfds_dir": str(tiny_dir),
            "data.tfds_attributes": ("color=color", "size=size", "pattern=flags/striped"),
            "data.image_size": 64,
            "data.cache_dir": str(cache_dir),
            "model.width": 1 / 32,
            "model.feature_dim": 4,
            "train.batch_size": 8,
            "train.epochs": 1,
            "train.mirror": False,
            "protocol.ks": (1, 5),
            "protocol.batch_size": 10,
            "protocol.baselines": (),
            "protocol.leakage": False,
        }
    )
    train(config, tmp_path / "run", progress=False)
    figures = evaluate(tmp_path / "run", progress=False)
    assert figures["gallery"] == 30
    assert set(figures["attribute_accuracy"]["per_attribute"]) == {"color", "size", "pattern"}
