import json
import pathlib
import shutil

import numpy as np
import pytest

from gradrev_jax import Retriever
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.serving import export
from gradrev_jax.serving.export import export_model
from gradrev_jax.serving.hub_metadata import CardChoices
from gradrev_jax.training.run import train


@pytest.fixture(scope="module")
def shop_model(shop_run, tmp_path_factory):
    """A model that was exported from an evaluated run."""
    return export_model(shop_run, tmp_path_factory.mktemp("shared") / "model", progress=False)


def assert_same_search(model, run, **options):
    """A model must answer as the run that it was exported from."""
    a, b = (Retriever.open(each, progress=False, **options) for each in (model, run))
    assert_rounded(a._gallery.blocks, b._gallery.blocks)
    assert_rounded(a._space.fitted.memory, b._space.fitted.memory)
    assert_rounded(a._probabilities, b._probabilities)
    name = a.schema.names[0]
    for row in range(4):
        value = a.schema.values[0][(row + 1) % a.schema.sizes[0]]
        assert_same_found(*(each.item(row).change(**{name: value}).search(k=7) for each in (a, b)))
    photo = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    assert_same_found(*(each.photo(photo).search(k=7) for each in (a, b)))


def assert_rounded(found, expected):
    """Some versions of XLA add in another order where parameters come from another file: 2.9e-5 was seen."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def assert_same_found(found, expected):
    assert found.rows.tolist() == expected.rows.tolist()
    assert_rounded(found.distances, expected.distances)


def assert_same_metrics(model, expected, folder):
    """A model must be measured exactly as its run; but it does not know what was trained on."""
    metrics = evaluate(shutil.copytree(model, folder / "copy"), progress=False)
    assert "is a model to share" in metrics.pop("catalogue_changes")[0]
    assert expected.pop("catalogue_changes") == []
    assert json.loads(json.dumps(metrics)) == expected


def reported(run, report="report"):
    return json.loads((run / report / "metrics.json").read_text())


@pytest.mark.long
def test_a_model_answers_as_its_run(shop_model, shop_run):
    assert_same_search(shop_model, shop_run)
    assert_same_search(shop_model, shop_run, parts=("train", "test"))


@pytest.mark.long
def test_a_model_is_measured_as_its_run(shop_model, shop_run, tmp_path):
    assert_same_metrics(shop_model, reported(shop_run), tmp_path)


@pytest.mark.long
def test_a_frozen_backbone_a_memory_and_a_class_for_missing_labels_are_shared(
    small_model, small_run, tmp_path
):
    assert_same_search(small_model, small_run)
    assert_same_metrics(small_model, reported(small_run), tmp_path)


@pytest.mark.long
def test_a_stage_may_be_shared_alone(small_run, tmp_path):
    model = export_model(small_run, tmp_path / "shared", stage="encoder", progress=False)
    assert json.loads((model / "config.json").read_text())["stages"] == ["encoder"]
    evaluate(small_run, stage="encoder", progress=False)
    assert_same_metrics(model, reported(small_run, "report_encoder"), tmp_path)


def test_what_is_exported_may_be_searched_in_another_way(small_run, tmp_path):
    model = export_model(
        small_run, tmp_path / "model", protocol={"representation": "posterior"}, progress=False
    )
    assert "was not evaluated" in (model / "README.md").read_text()
    found = Retriever.open(model, progress=False)
    expected = Retriever.open(small_run, protocol={"representation": "posterior"}, progress=False)
    assert_rounded(found._gallery.blocks, expected._gallery.blocks)
    with pytest.raises(ConfigError, match=r"so protocol.edit cannot be given; give it to gradrev-export"):
        Retriever.open(model, protocol={"edit": "add"}, progress=False)


def test_a_model_holds_the_checkpoint_that_it_was_exported_from(small_model):
    with pytest.raises(
        WorkdirError, match=r"is a model of step \d+ of memory alone; there is no '1234' of mem"
    ):
        evaluate(small_model, step="1234", progress=False)
    with pytest.raises(WorkdirError, match=r"there is no '1234' of memory"):
        Retriever.open(small_model, step="1234", progress=False)


def test_it_cannot_be_trained(shop_model, tiny_config):
    with pytest.raises(WorkdirError, match="is a model to share, without the checkpoints"):
        train(tiny_config, shop_model, progress=False)


def test_no_word_of_the_machine_and_no_name_of_an_image_is_in_it(small_model, small_run):
    model = [path for path in small_model.iterdir() if path.is_file()]
    words = (str(small_run.parents[1]), str(pathlib.Path.home()), small_run.name + "/", "garment 1")
    for path in model:
        content = path.read_bytes()
        assert not [word for word in words if word.encode() in content], path
        assert path.stat().st_mode & 0o777 == 0o644
    assert {path.name for path in model} == {
        *("model.safetensors", "config.json", "schema.json", "README.md"),
        *("hit_rate.png", "cross_accuracy.png"),
    }


def test_the_card_has_the_numbers_of_the_report(shop_model, shop_run):
    card = (shop_model / "README.md").read_text()
    metrics = reported(shop_run)
    low, high = metrics["intervals"]["hit_rate"]["5"]
    percents = [f"{100 * each:.2f}" for each in (metrics["hit_rate"]["5"], low, high)]
    assert "| 5 | {} ({} to {}) |".format(*percents) in card
    for name, value in metrics["attribute_accuracy"]["per_attribute"].items():
        assert f"| {name} | {100 * value:.2f} |" in card
    assert "32 train, 4 validation, 24 test images" in card
    assert "![" in card


def test_the_hub_reads_its_metadata(shop_run, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    choices = CardChoices("apache-2.0", "someone/shop", photographs=True)
    model = export_model(shop_run, tmp_path / 'a "model": b', card=choices, progress=False)
    card = hub.ModelCard.load(model / "README.md")
    data = card.data.to_dict()
    assert (data["license"], data["datasets"], data["library_name"]) == (
        "apache-2.0",
        ["someone/shop"],
        "gradrev_jax",
    )
    metrics = reported(shop_run)
    results = {each.metric_name: each.metric_value for each in card.data.eval_results}
    assert results["hit_rate@5"] == round(100 * metrics["hit_rate"]["5"], 2)
    assert card.data.model_name == 'a "model": b'
    assert (model / "retrieved.png").exists() == (shop_run / "report" / "retrieved.png").exists()


@pytest.mark.long
def test_a_card_says_where_there_is_no_report(paper_run, tmp_path):
    model = export_model(paper_run, tmp_path / "model", progress=False)
    card = (model / "README.md").read_text()
    assert "was not evaluated in the form in which it is shared" in card
    assert "model-index" not in card
    assert not list(model.glob("*.png"))


def test_a_taken_folder_stays_as_it_is(shop_run, shop_model, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(WorkdirError, match="exists already; give a folder that does not"):
            export_model(shop_run, out, progress=False)
    with pytest.raises(WorkdirError, match="is a model already; copy the folder"):
        export_model(shop_model, tmp_path / "again", progress=False)


def test_nothing_is_left_of_an_export_that_fails(small_run, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_card", fail)
    with pytest.raises(WorkdirError, match="model cannot be written: No space left"):
        export_model(small_run, tmp_path / "model", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("representation", sorted(REPRESENTATIONS))
def test_every_representation_is_shared(small_run, tmp_path, representation):
    protocol = {"representation": representation, "weights": "color=2,sleeve=0.5", "strength": "0.8"}
    model = export_model(small_run, tmp_path / "model", protocol=protocol, progress=False)
    found = Retriever.open(model, progress=False)
    expected = Retriever.open(small_run, protocol=protocol, progress=False)
    np.testing.assert_array_equal(found._gallery.blocks, expected._gallery.blocks)
    change = {found.schema.names[1]: found.schema.values[1][0]}
    assert_same_found(*(each.item(3).change(**change).search(k=9) for each in (found, expected)))


@pytest.mark.long
def test_a_model_of_embeddings_reads_those_that_are_given(make_tiny_config, tmp_path):
    config = make_tiny_config()
    vectors = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    names = [f"garment {row}" for row in range(60)]
    np.savez(tmp_path / "mine.npz", names=names, embeddings=vectors)
    np.savez(tmp_path / "wide.npz", names=names, embeddings=np.tile(vectors, 2))
    config.model.update({"backbone": "embeddings", "width": 1.0})
    config.data.embeddings = str(tmp_path / "mine.npz")
    config.train.epochs = 1
    train(config, tmp_path / "run", progress=False)
    model = export_model(tmp_path / "run", tmp_path / "model", progress=False)
    assert (model / "embeddings.json").exists()
    with pytest.raises(ConfigError, match="data.embeddings is not set"):
        Retriever.open(model, progress=False)
    found = Retriever.open(model, data={"embeddings": str(tmp_path / "mine.npz")}, progress=False)
    expected = Retriever.open(tmp_path / "run", progress=False)
    np.testing.assert_array_equal(found._gallery.blocks, expected._gallery.blocks)
    with pytest.raises(
        WorkdirError, match="the embeddings have 24 numbers per image, and .* was trained on 12"
    ):
        Retriever.open(model, data={"embeddings": str(tmp_path / "wide.npz")}, progress=False)
    (model / "embeddings.json").unlink()
    with pytest.raises(WorkdirError, match=r"mean is \(12,\) F32; the config and the attributes need \(24"):
        Retriever.open(model, data={"embeddings": str(tmp_path / "wide.npz")}, progress=False)


def test_a_report_that_is_not_there_is_said_before_anything_is_encoded(shop_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "encode_run", None)  # it must not be called
    with pytest.raises(WorkdirError, match="has no report_nosuch; it has report"):
        export_model(shop_run, tmp_path / "model", card=CardChoices(report="nosuch"), progress=False)
    assert not (tmp_path / "model").exists()
