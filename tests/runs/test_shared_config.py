import json
import pathlib
import time

import pytest

from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.runs.shared_config import check_given, check_placed, check_shared, check_types, portable

PATH = pathlib.Path("model/config.json")


@pytest.fixture
def config():
    """A whole config, as its file has it."""
    config = default_config()
    config.data.root = "/home/someone/shop"
    config.model.tap = "fc6_relu"
    return json.loads(json.dumps(config.to_dict()))


def test_what_is_exported_is_accepted_and_names_no_place(config):
    config["data"] |= {"cache_dir": "/scratch/me", "tfds_dir": "/tfds", "embeddings": "/e.npy"}
    config["data"] |= {"table": "/home/someone/shop/a/b.csv", "splits": "/elsewhere/splits"}
    config["data"] |= {"image_template": "/home/someone/shop/images/{id}.jpg"}
    config["model"]["pretrained"] = "/weights/alexnet.pth"
    config["compilation_cache"] = "/home/someone/programs"
    made = portable(config)
    assert made["compilation_cache"] is None
    assert "/home" not in json.dumps(made)
    assert [made["data"][name] for name in ("root", "embeddings", "cache_dir", "tfds_dir")] == [
        None,
        None,
        "",
        "",
    ]
    assert [made["data"][name] for name in ("table", "splits")] == ["a/b.csv", "splits"]
    assert made["data"]["image_template"] == "images/{id}.jpg"
    assert made["model"]["pretrained"] == "alexnet.pth"
    assert config["data"]["root"] == "/home/someone/shop"  # the run's own is not changed
    again = json.loads(json.dumps(made))
    assert check_shared(again, PATH) == json.loads(json.dumps(made))


def test_other_pretrained_weights_are_names_already(config):
    config["model"]["pretrained"] = "imagenet"
    assert portable(config)["model"]["pretrained"] == "imagenet"


def test_places_that_a_stranger_names_are_forgotten(config):
    config["data"] |= {"root": "/etc", "embeddings": "/etc/passwd", "tfds_dir": "/", "cache_dir": "/root"}
    config["compilation_cache"] = "model/programs"  # which this process would run
    checked = check_shared(config, PATH)
    assert checked["compilation_cache"] is None
    data = checked["data"]
    assert [data[name] for name in ("root", "embeddings", "cache_dir", "tfds_dir")] == [None, None, "", ""]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.table", "../../secrets.csv", "a path within the catalogue's folder"),
        ("data.table", "/etc/passwd", "a path within the catalogue's folder"),
        ("data.table", "~/.ssh/id", "a path within the catalogue's folder"),
        ("data.table", "a\0b", "a path within the catalogue's folder"),
        ("data.table", "C:\\secrets", "a path within the catalogue's folder"),
        ("data.splits", "a/../../b", "a path within the catalogue's folder"),
        ("data.image_template", "a\\..\\..\\{id}", "a path within the catalogue's folder"),
        ("data.tfds_name", "huggingface:someone/script", "the name of a data set"),
        ("data.tfds_name", "../../built", "the name of a data set"),
        ("data.image_size", 10**6, "at most 4,096"),
        ("data.count", 10**9, "at most 1,000,000"),
        ("protocol.batch_size", 10**6, "at most 268,435,456"),
        ("data.image_size", "224", "a value of the type int"),
        ("data.image_size", True, "a value of the type int"),
        ("data.image_size", None, "it must be set"),
        ("data.root", 3, "a value of the type str"),
        ("model.width", float("nan"), "above 0, at most 16"),
        ("model.width", [1], "a value of the type float"),
        ("model.backbone", "evil", "one of alexnet"),
        ("model.feature_dim", 0, "at least 1"),
        ("stages", "encoder", "a list of values of its type"),
        ("stages", ["memory"], r"\('encoder',\) or"),
        ("stages", [["encoder"]], "a list of values of its type"),
        ("protocol.ks", ["a"], "a list of values of its type"),
        ("data.attributes", [{"a": 1}], "a list of values of its type"),
        ("data.leave_out", {"a": 1}, "a list of values of its type"),
        ("data.nothing", 1, "there is no such field"),
        ("nothing", 1, "there is no such field"),
    ],
)
def test_what_no_config_has_is_refused(config, field, value, message):
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(WorkdirError, match=message) as caught:
        check_shared(config, PATH)
    assert str(PATH) in str(caught.value)
    assert field in str(caught.value)


def test_what_is_missing_is_named(config):
    del config["model"]["feature_dim"]
    config["train"] = 3
    with pytest.raises(WorkdirError, match=r"model.feature_dim is missing[\s\S]*train.batch_size is missing"):
        check_shared(config, PATH)


def test_whoever_opens_a_model_says_where_images_lie(config):
    config["data"]["root"] = None
    with pytest.raises(ConfigError, match=r"model is a model to share, [^:]*: data.root is not set"):
        check_placed(config, PATH.parent)
    config["data"]["root"] = "images"
    check_placed(config, PATH.parent)
    config["model"]["backbone"] = "embeddings"
    with pytest.raises(ConfigError, match=r"data.embeddings is not set"):
        check_placed(config, PATH.parent)


def test_what_belongs_to_the_model_is_not_given():
    check_given({"root": "x", "format": "table", "table": "mine.csv"})
    with pytest.raises(ConfigError, match=r"data.image_size belongs to the model"):
        check_given({"image_size": 10})


def test_many_unknown_fields_take_no_time(config):
    """What is near to each of them takes long to find."""
    config["data"] |= {f"field{number}" * 20: 0 for number in range(3000)}
    begun = time.monotonic()
    with pytest.raises(WorkdirError, match="there is no such field") as caught:
        check_shared(config, PATH)
    assert time.monotonic() - begun < 5
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("data", "image_size", "227", "data.image_size = '227': a value of the type int"),
        ("train", "learning_rate", 10**400, "train.learning_rate = 1000.*: a number that a float can hold"),
        ("protocol", "ks", 5, "protocol.ks = 5: a list of values of its type"),
        ("data", "format", None, "data.format = None: it must be set"),
        ("model", "width", [[[[[[1]]]]]], "model.width = .*: a value of the type float"),
    ],
)
def test_the_types_of_a_run_are_checked(config, section, name, value, message):
    check_types(config, PATH)
    check_types({**config, "of another version": 3}, PATH)
    with pytest.raises(WorkdirError, match=f"^model/config.json cannot be used; restore it.*\n  {message}"):
        check_types({**config, section: {**config[section], name: value}}, PATH)
    del config[section][name]
    with pytest.raises(WorkdirError, match=f"{section}.{name} is missing"):
        check_types(config, PATH)
    with pytest.raises(WorkdirError, match="is missing"):
        check_types({**config, section: 3}, PATH)


@pytest.mark.parametrize("stranger", [{"outside": True, "largest_image": 170.0}, {}])
def test_only_who_opens_a_model_loosens_the_limits_of_images(config, stranger):
    """Also where the config is of a version without them, whose runs go on without."""
    for name in ("outside", "largest_image"):
        config["data"].pop(name)
    data = check_shared({**config, "data": config["data"] | stranger}, PATH)["data"]
    assert (data["outside"], data["largest_image"]) == (False, 100.0)
