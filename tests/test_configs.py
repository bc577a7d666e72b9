import dataclasses
import importlib
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import tfds, variants
from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.catalogue import Transform
from gradrev_jax.data.formats.adde.reader import QUERY_FILES
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.errors import ConfigError, DataError, WeightsError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs import builders
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.overrides import override
from gradrev_jax.runs.protocol import build_protocol, queries_of
from gradrev_jax.training.run import train
from gradrev_jax.training.torch_runs import export_run

NAMES = sorted(path.stem for path in pathlib.Path("configs").glob("*.py"))
JOBS = [name for name in NAMES if name not in ("default", "variants", "__init__")]
WORDS = (None, *variants.WORDS, "adde_m,paper")


def get(name, word=None):
    return importlib.import_module(f"configs.{name}").get_config(word)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", JOBS)
def test_every_config_can_be_run_with_every_word(name, word):
    config = get(name, word)
    if config.data.format in ("table", "adde"):
        config.data.root = "somewhere"
    if config.data.format == "tfds":
        config.data.tfds_name = "shapes3d"
    check(config)


@pytest.mark.parametrize("name", JOBS)
def test_an_unknown_word_is_an_error_with_those_that_are_known(name):
    with pytest.raises(ValueError, match="unknown word 'addem'.* known: .*shared, pairwise, no_rev"):
        get(name, "pairwise,addem")


def test_words_add_up():
    config = get("catalogue", "cpu,adde_m,sane")
    assert config.data.image_size == 96
    assert config.model.tap == "fc7"
    assert config.reversal.weighting == "off"
    assert config.protocol.exclude_query
    assert get("catalogue").to_json() == get("catalogue", "shared").to_json()


@pytest.mark.parametrize("words", ["amnet,gamma", "gamma,tuned,fsn"])
def test_two_models_are_not_combined(words):
    first, *_, last = words.split(",")
    with pytest.raises(ConfigError, match=f"{first} and {last} after .* give one of them"):
        get("catalogue", words)
    assert get("catalogue", "gamma,gamma").model.system == "gamma"


def test_the_repaired_reversal_is_a_system_of_every_config():
    for name in JOBS:
        config = get(name, "repaired")
        assert config.reversal.adversaries == 3
        assert config.reversal.weighting == "fixed"
    assert get("catalogue").reversal.adversaries == 0


def test_the_first_word_of_tfds_is_the_data_set():
    config = get("tfds", "celeb_a,adde_m,sane")
    assert (config.data.format, config.data.tfds_name) == ("tfds", "celeb_a")
    assert config.model.tap == "fc7"
    assert config.protocol.strength == "validation"
    assert config.train.mirror


def test_the_data_set_of_tfds_may_be_left_to_its_field():
    assert get("tfds").data.tfds_name is None
    for word in variants.WORDS:
        assert get("tfds", word).data.tfds_name is None, word
    assert get("tfds", "pairwise").model.heads == "pairwise"


@pytest.mark.parametrize("name", tfds.SETTINGS)
def test_drawings_are_small_and_not_mirrored(name):
    config = get("tfds", f"{name},no_reversal")
    assert (config.data.image_size, config.train.mirror) == (64, False)
    assert config.reversal.weighting == "off"


@pytest.fixture(scope="module")
def split_directory(tmp_path_factory):
    """Drawn garments as files, with ADDE's split files beside them."""
    root = tmp_path_factory.mktemp("images")
    drawn = garments_catalogue(count=120, seed=0, test_fraction=0.4)
    names = tuple(f"{row}.png" for row in range(120))
    for row, name in enumerate(names):
        Image.fromarray(drawn.images.read(row, Transform(64, 64))).save(root / name)
    hidden = np.random.default_rng(0).random(drawn.labels.shape) < 0.1
    labels = np.where(hidden, NOT_LABELLED, drawn.labels)
    catalogue = dataclasses.replace(drawn, images=ImageFiles(root, names), labels=labels)
    train_rows = catalogue.parts["train"]
    triplets = generate_triplets(catalogue.labels[train_rows], catalogue.schema, count=40)
    queries = generate_queries(catalogue.part_labels("test"), catalogue.schema)
    write_adde(root / "splits", catalogue, queries, triplets.renumber(train_rows))
    return root


@pytest.fixture
def tiny(split_directory, cache_dir, small_backbone):
    """The peer's configuration in miniature."""

    def config(word):
        config = get("adde_peer", word)
        config.data.update({"root": str(split_directory), "splits": "splits", "cache_dir": str(cache_dir)})
        config.data.update({"image_size": 64, "train_resize": 70})
        config.model.update({"backbone": small_backbone, "feature_dim": 4})
        config.train.update({"batch_size": 8, "epochs": 1, "log_every": 2})
        config.memory.update({"batch_size": 4, "epochs": 1, "triplets": 30})
        config.protocol.update({"ks": (1, 5), "batch_size": 16, "baselines": (), "leakage": False})
        return config

    return config


# The others go through the same steps, and test_run.py and test_encoder_step.py train with their settings.
SLOW = [pytest.param(word, marks=pytest.mark.slow) for word in ("adde_m", "pairwise", "no_reversal")]


@pytest.mark.long
@pytest.mark.parametrize("word", ["shared", *SLOW])
def test_a_split_directory_trains_every_system_and_is_evaluated_on_its_queries(tiny, tmp_path, word):
    train(tiny(word), tmp_path, progress=False)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    encoder = next(record for record in records if record["stage"] == "encoder" and "loss" in record)
    assert ("loss_attribute_triplet" in encoder) == (word == "adde_m")
    assert (encoder["w_rev"] > 0) == (word in ("shared", "pairwise"))
    memory = [record["step"] for record in records if record["stage"] == "memory" and "loss" in record]
    assert memory[-1] == 7, "30 of the 40 triplets, in batches of 4"
    metrics = evaluate(tmp_path, progress=False)
    queries = (pathlib.Path(tiny(word).data.root) / "splits" / "ref_test.txt").read_text().splitlines()
    assert metrics["queries"] == len(queries)
    assert metrics["gallery"] == 48


@pytest.mark.long
def test_strength_and_weights_are_chosen_on_the_validation_part(tiny, tmp_path):
    config = tiny("sane")
    config.train.validation_fraction = 0.3
    train(config, tmp_path, progress=False)
    metrics = evaluate(tmp_path, progress=False)
    rates = metrics["strengths_on_validation"]
    assert metrics["strength"] == float(max(rates, key=rates.get))
    assert (metrics["weights"], metrics["weights_on_validation"]) == (None, {})
    name, other, *_ = metrics["attribute_accuracy"]["per_attribute"]
    given = {"strength": "2", "exclude_query": False, "weights": f"{name}=0"}
    metrics = evaluate(tmp_path, protocol=given, progress=False)
    assert (metrics["strength"], metrics["weights"][name]) == (2.0, 0.0)
    report = (tmp_path / "report" / "report.md").read_text()
    weight = f"{metrics['weights'][other]:.3g}"
    assert f"Weights of the attributes in the distance: {name} 0, {other} {weight}" in report
    metrics = evaluate(tmp_path, protocol={"weights": "validation"}, progress=False)
    assert np.mean(np.square(list(metrics["weights"].values()))) == pytest.approx(1)
    rates = metrics["weights_on_validation"]
    assert rates.get("chosen", 1) >= rates["equal"]


@pytest.mark.long
def test_without_a_validation_part_no_strength_can_be_chosen(tiny, tmp_path):
    train(tiny("shared"), tmp_path, progress=False)
    with pytest.raises(DataError, match="protocol.strength=validation has no query to choose by"):
        evaluate(tmp_path, protocol={"strength": "validation"}, progress=False)


def test_removals_and_several_changes_can_be_asked_for(tiny, split_directory, tmp_path):
    shutil.copytree(split_directory / "splits", tmp_path / "splits")
    for name in QUERY_FILES:
        (tmp_path / "splits" / name).unlink()
    config = tiny("shared")
    config.data.splits = str(tmp_path / "splits")

    def asked(**protocol):
        override(config, "protocol", {"kinds": ("swap", "add"), "num_changes": 1, **protocol})
        protocol = build_protocol(config)
        return len(queries_of(builders.open_catalogue(config), "test", protocol, config.seed))

    queries = {kind: asked(kinds=(kind,)) for kind in ("swap", "add", "remove")}
    assert min(queries.values()) > 0
    assert asked() == queries["swap"] + queries["add"]
    assert asked(kinds=("swap", "add", "remove")) == sum(queries.values())
    assert 0 < asked(num_changes=2) != asked()


# The losses that metrics.jsonl has of each word.
VARIANTS = {
    "compact": ["loss_compactness"],
    "independent": ["loss_conditional_dependence"],
    "decorrelated": [],
}


@pytest.mark.long
@pytest.mark.parametrize("word", variants.VARIANTS)
def test_every_variant_is_trained_fine_tuned_and_evaluated(make_tiny_config, small_backbone, tmp_path, word):
    config = variants.apply(make_tiny_config(), word)
    config.model.backbone = small_backbone
    config.stages = ("encoder", "memory")
    config.memory.update({"triplets": 14, "batch_size": 4, "epochs": 1})
    config.train.epochs = 1
    train(config, tmp_path / "run", progress=False)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [record for record in map(json.loads, lines) if "loss_cls" in record]
    encoder = [record for record in steps if record["stage"] == "encoder"]
    assert {record["stage"] for record in steps} == {"encoder", "memory"}
    for record in encoder:
        assert record["w_rev"] == 0
        assert [name for name in record if name.startswith("loss_")] == [
            "loss_cls",
            "loss_rev",
            *VARIANTS[word],
        ]
    metrics = evaluate(tmp_path / "run", progress=False)
    assert metrics["stage"] == "memory"
    assert 0 <= metrics["hit_rate"]["1"] <= 1
    if config.model.unit_features:
        with pytest.raises(WeightsError, match="`unit_features` must be off .config: model.unit_features.$"):
            export_run(tmp_path / "run", tmp_path / "out", suffix=".pth")
        assert not (tmp_path / "out").exists()
