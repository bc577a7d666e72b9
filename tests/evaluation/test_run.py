import json
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import CheckpointError, ConfigError, DataError, WorkdirError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.scores import RETRIEVAL, read_scores
from gradrev_jax.runs import builders, pixels
from gradrev_jax.runs.checkpoints import PARAMS, Checkpoints
from gradrev_jax.training.run import train

GALLERY, KS = 80, (1, 5, 10, 20, 40)


def evaluate(directory, **settings):
    return evaluation.evaluate(directory, progress=False, **settings)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Folder, parameters and result of a run, trained and evaluated once."""
    finished = {}

    def once(config):
        key = config.to_json()
        if key not in finished:
            directory = tmp_path_factory.mktemp("evaluated")
            params = train(config, directory, progress=False).params
            finished[key] = directory, params, evaluate(directory)
        return finished[key]

    return once


@pytest.fixture
def run(tiny_config, evaluated, tmp_path, monkeypatch):
    """A copy of that run, to do with as a test likes."""
    tiny_config.data.count = 200
    tiny_config.protocol.ks = KS
    # 54 steps in one epoch: enough for the prototypes to differ, so that manipulating changes the result.
    tiny_config.train.update({"epochs": 1, "batch_size": 2, "learning_rate": 3e-3})
    tiny_config.reversal.weighting = "off"
    directory, params, metrics = evaluated(tiny_config)
    shutil.copytree(directory, tmp_path / "run")
    monkeypatch.setattr(evaluation, "SHOWN_QUERIES", 1)  # drawing them all takes longer than the rest
    return types.SimpleNamespace(
        directory=tmp_path / "run", config=tiny_config, params=params, metrics=metrics
    )


def encoder_outputs(run, part):
    """Features, logits and labels of a part, its images in one batch, in float64."""
    catalogue = builders.open_catalogue(run.config)
    scaled = np.asarray(pixels.open_images(catalogue, part, run.config)) / 255
    images = ((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)
    output = builders.build_encoder(run.config, catalogue.schema).apply(run.params, jax.numpy.asarray(images))
    return *(np.asarray(leaf, np.float64) for leaf in output), catalogue.part_labels(part)


def prototypes(run):
    """(attribute, value) -> mean feature over the train and validation parts, for values that have one."""
    members = {}
    for part in ("train", "validation"):
        features, _, labels = encoder_outputs(run, part)
        for feature, row in zip(features, labels.tolist(), strict=True):
            for n, value in enumerate(row):
                if value >= 0:
                    members.setdefault((n, value), []).append(feature[n])
    return {key: np.mean(rows, axis=0) for key, rows in members.items()}


def all_queries(labels, schema):
    """(image, attribute, value, target) of every change that gives the labels of some image."""
    rows = [tuple(row) for row in labels.tolist()]
    for image, row in enumerate(rows):
        for n, size in enumerate(schema.sizes):
            for value in range(size):
                target = (*row[:n], value, *row[n + 1 :])
                if value != row[n] and target in set(rows):
                    yield image, n, value, target


def normalised(feature, how):
    if how == "attribute":
        feature = feature / np.linalg.norm(feature, axis=-1, keepdims=True)
    return feature.ravel() / np.linalg.norm(feature)


def oracle(run, *, ks=KS, normalize="global", exclude_query=False, manipulated=True):
    """Queries asked, and their hit_rate and precision by k, in float64 and without any of our code."""
    memory = prototypes(run)
    features, _, labels = encoder_outputs(run, "test")
    rows = np.stack([normalised(feature, normalize) for feature in features])
    matches = []
    for image, n, value, target in all_queries(labels, builders.open_catalogue(run.config).schema):
        edited = features[image].copy()
        if manipulated:
            edited[n] += memory[n, value]
            if labels[image, n] >= 0:
                edited[n] -= memory[n, int(labels[image, n])]
        distance = ((rows - normalised(edited, normalize)) ** 2).sum(axis=1)
        order = [
            row
            for row in np.argsort(distance, kind="stable").tolist()
            if not (exclude_query and row == image)
        ]
        matches.append([tuple(labels[row].tolist()) == target for row in order])
    return {
        "queries": len(matches),
        "hit_rate": {str(k): np.mean([any(row[:k]) for row in matches]) for k in ks},
        "precision": {str(k): np.mean([sum(row[:k]) / k for row in matches]) for k in ks},
    }


def assert_retrieval(metrics, expected):
    for name in ("hit_rate", "precision"):
        assert metrics[name] == pytest.approx(expected[name], abs=1e-12), name


def save_another(run, step, accuracy):
    """One more checkpoint, of a model that says the same of every image."""
    params = jax.tree.map(np.zeros_like, run.params)
    params["params"]["mlp_out"]["bias"] += 1
    with Checkpoints(run.directory / "checkpoints" / "encoder") as checkpoints:
        checkpoints.save(step, {PARAMS: params}, score=accuracy)


def test_the_report_holds_what_was_promised_and_what_is_returned(run):
    metrics = run.metrics
    assert metrics == json.loads((run.directory / "report" / "metrics.json").read_text())
    by_k = {str(k) for k in KS}
    for tables in (metrics, metrics["baselines"]["no_manipulation"]):
        for name in ("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others"):
            assert set(tables[name]) == by_k
            assert all(0 <= value <= 1 for value in tables[name].values())
    names = list(builders.open_catalogue(run.config).schema.names)
    assert set(metrics["attribute_accuracy"]) == {"macro", "micro", "per_attribute"}
    assert list(metrics["attribute_accuracy"]["per_attribute"]) == names
    assert metrics["cross_accuracy"]["attributes"] == names
    assert metrics["gallery"] == GALLERY
    assert metrics["step"] == 54
    assert metrics["protocol"]["ks"] == list(KS)
    report = {path.name for path in (run.directory / "report").iterdir()}
    assert {"report.md", "hit_rate.png", "cross_accuracy.png", "training.png"} <= report


def test_every_query_and_every_image_is_kept(run):
    scores = read_scores(run.directory / "report" / "queries.npz")
    assert scores.neighbors.shape == (run.metrics["queries"], 10)
    assert scores.ks.tolist() == list(KS)
    for column, k in enumerate(KS):
        for name in RETRIEVAL:
            values = getattr(scores, name)[:, column]
            assert values.dtype == np.float32
            assert values.mean(dtype=float) == pytest.approx(run.metrics[name][str(k)], abs=1e-6)
            low, high = run.metrics["intervals"][name][str(k)]
            assert low <= run.metrics[name][str(k)] <= high
    schema = builders.open_catalogue(run.config).schema
    _, _, labels = encoder_outputs(run, "test")
    np.testing.assert_array_equal(scores.labels, labels)
    asked = list(all_queries(labels, schema))
    assert sorted(zip(scores.reference.tolist(), map(tuple, scores.targets.tolist()), strict=True)) == sorted(
        (image, target) for image, _, _, target in asked
    )
    hits = (labels[scores.neighbors[:, :5]] == scores.targets[:, None]).all(axis=-1).any(axis=1)
    np.testing.assert_array_equal(scores.hit_rate[:, 1], hits)
    for n, name in enumerate(schema.names):
        known = scores.correct[:, n] >= 0
        np.testing.assert_array_equal(known, labels[:, n] >= 0)
        accuracy = run.metrics["attribute_accuracy"]["per_attribute"][name]
        assert scores.correct[known, n].mean() == pytest.approx(accuracy)
    for mean, (low, high) in run.metrics["intervals"]["attribute_accuracy"].items():
        assert low < run.metrics["attribute_accuracy"][mean] < high


@pytest.mark.parametrize(
    "protocol",
    [{}, {"exclude_query": True}, {"normalize": "attribute"}, {"ks": (2, 79), "exclude_query": True}],
)
def test_retrieval_equals_the_oracle(run, protocol):
    metrics = evaluate(run.directory, protocol=protocol) if protocol else run.metrics
    expected = oracle(run, **protocol)
    assert metrics["queries"] == expected["queries"] > 50
    assert_retrieval(metrics, expected)
    assert any(0 < value < 1 for value in expected["hit_rate"].values())
    baseline = oracle(run, **protocol, manipulated=False)
    assert_retrieval(metrics["baselines"]["no_manipulation"], baseline)
    assert baseline["precision"] != expected["precision"]


def test_accuracies_equal_the_oracle(run):
    _, logits, labels = encoder_outputs(run, "test")
    _, _, train_labels = encoder_outputs(run, "train")
    schema = builders.open_catalogue(run.config).schema
    right, majority = np.zeros((6, 6)), np.zeros(6)
    known = [[m for m in range(GALLERY) if labels[m, n] >= 0] for n in range(6)]
    for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
        for j in range(6):
            right[j, n] = sum(logits[m, j, start : start + size].argmax() == labels[m, n] for m in known[n])
        commonest = max(range(size), key=train_labels[:, n].tolist().count)
        majority[n] = sum(labels[m, n] == commonest for m in known[n])
    labelled = np.array([len(rows) for rows in known])
    np.testing.assert_allclose(run.metrics["cross_accuracy"]["matrix"], right / labelled)
    for name, correct in (("attribute_accuracy", right.diagonal()), ("majority_accuracy", majority)):
        assert list(run.metrics[name]["per_attribute"].values()) == pytest.approx(correct / labelled)
        assert run.metrics[name]["macro"] == pytest.approx(np.mean(correct / labelled))
        assert run.metrics[name]["micro"] == pytest.approx(correct.sum() / labelled.sum())


def test_evaluating_twice_gives_identical_numbers(run):
    written = (run.directory / "report" / "metrics.json").read_bytes()
    assert evaluate(run.directory) == run.metrics
    assert (run.directory / "report" / "metrics.json").read_bytes() == written


def test_the_checkpoint_asked_for_is_evaluated(run):
    save_another(run, 55, accuracy=0.0)
    best, latest, numbered = (evaluate(run.directory, step=step) for step in ("best", "latest", "54"))
    assert [best["step"], latest["step"], numbered["step"]] == [54, 55, 54]
    assert best == numbered == run.metrics
    assert latest["attribute_accuracy"] != best["attribute_accuracy"]
    assert latest["ndcg_target"] == latest["baselines"]["no_manipulation"]["ndcg_target"]
    with pytest.raises(WorkdirError, match=r"no checkpoint '3'; there are 54, 55, best, latest"):
        evaluate(run.directory, step="3")


def test_an_encoder_that_is_dead_cannot_be_evaluated(run):
    with Checkpoints(run.directory / "checkpoints" / "encoder") as checkpoints:
        checkpoints.save(56, {PARAMS: jax.tree.map(np.zeros_like, run.params)}, score=0.0)
    with pytest.raises(DataError, match="features are zero in row 0.*evaluate another of its checkpoints"):
        evaluate(run.directory, step="56")


def test_a_number_of_references_can_be_asked_for(run):
    few = evaluate(run.directory, protocol={"num_references": 3})
    assert 3 <= few["queries"] < run.metrics["queries"]


def test_the_fine_tuned_memory_and_encoder_are_evaluated(run):
    run.config.stages = ("encoder", "memory")
    run.config.memory.update({"triplets": 40, "batch_size": 4, "epochs": 1, "learning_rate": 1e-3})
    tuned = train(run.config, run.directory, progress=False).params
    metrics = evaluate(run.directory)
    assert (metrics["stage"], metrics["step"]) == ("memory", 10)
    run.params = tuned["encoder"]
    memory = np.asarray(tuned["memory"], np.float64)
    features, _, labels = encoder_outputs(run, "test")
    schema = builders.open_catalogue(run.config).schema
    hits = []
    for image, n, value, target in all_queries(labels, schema):
        edited = features[image] + memory[schema.offsets[n] + value]
        if labels[image, n] >= 0:
            edited = edited - memory[schema.offsets[n] + labels[image, n]]
        query = edited.reshape(-1) / np.linalg.norm(edited)
        rows = features.reshape(len(features), -1)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        nearest = np.argsort(((rows - query) ** 2).sum(axis=1), kind="stable")[:5]
        hits.append(any(tuple(labels[row].tolist()) == tuple(target) for row in nearest))
    assert metrics["hit_rate"]["5"] == pytest.approx(np.mean(hits), abs=0.5 / len(hits))


def test_the_prototypes_alone_get_a_report_of_their_own(run):
    run.config.stages = ("encoder", "memory")
    run.config.memory.update({"triplets": 40, "batch_size": 4, "epochs": 1, "learning_rate": 1e-3})
    train(run.config, run.directory, progress=False)
    tuned = evaluate(run.directory)
    alone = evaluate(run.directory, stage="encoder")
    assert (tuned["stage"], alone["stage"]) == ("memory", "encoder")
    assert alone == run.metrics
    assert json.loads((run.directory / "report" / "metrics.json").read_text()) == tuned
    folder = run.directory / "report_encoder"
    assert json.loads((folder / "metrics.json").read_text()) == alone
    assert (folder / "report.md").read_text().startswith("# run, encoder alone\n")
    assert evaluate(run.directory, stage="memory") == tuned


def test_a_stage_that_the_run_does_not_have(run):
    with pytest.raises(WorkdirError, match=r"has no stage 'memory'; its stages are encoder$"):
        evaluate(run.directory, stage="memory")


def test_values_that_no_training_image_has_are_named(run):
    assert run.metrics["prototypes_without_images"] == []
    schema = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
    labels = np.array([[0, 1], [-1, 1], [2, -1]])
    assert evaluation._absent_values(labels, schema) == ["color: green", "size: s"]


def test_a_run_is_evaluated_from_its_own_folder_with_its_data_elsewhere(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.directory)
    cache = tmp_path / "elsewhere"
    metrics = evaluate(pathlib.Path("."), data={"cache_dir": str(cache)})
    assert metrics == run.metrics
    assert any(cache.iterdir())
    assert (run.directory / "report" / "report.md").read_text().startswith(f"# {run.directory.name}\n")
    with pytest.raises(ConfigError, match="data.count belongs to the run"):
        evaluate(run.directory, data={"count": 5})
    with pytest.raises(ConfigError, match="data.count belongs to the run"):
        evaluation.gallery_images(run.directory, data={"count": 5})


def test_a_k_beyond_the_gallery_is_refused_with_both_numbers(run):
    with pytest.raises(ConfigError, match=r"the 81 nearest, but the gallery .* has 80 images"):
        evaluate(run.directory, protocol={"ks": (1, 81)})
    assert run.metrics == json.loads((run.directory / "report" / "metrics.json").read_text())


def test_an_invalid_protocol_is_named(run):
    with pytest.raises(ConfigError, match="protocol.normalize = 'l2': one of global, attribute, none"):
        evaluate(run.directory, protocol={"normalize": "l2"})


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(WorkdirError, match="is not a run of train.py: it has no config.json"):
        evaluate(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_checkpoint(run):
    folder = run.directory / "checkpoints" / "encoder"
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="does not exist; train first"):
        evaluate(run.directory)
    folder.mkdir()
    with pytest.raises(WorkdirError, match="has no checkpoint of encoder yet"):
        evaluate(run.directory)


def test_a_changed_catalogue_is_refused(run):
    path = run.directory / "schema.json"
    schema = json.loads(path.read_text())
    schema["values"][1][0] = "colour of another catalogue"
    path.write_text(json.dumps(schema))
    with pytest.raises(WorkdirError, match="not those that .*run was started with .*gone: color: colour"):
        evaluate(run.directory)


def test_a_catalogue_that_allows_no_query_is_an_error(run, monkeypatch):
    found = builders.open_catalogue(run.config)
    only_one = np.broadcast_to(found.labels[:1], found.labels.shape)
    monkeypatch.setattr(
        builders,
        "open_catalogue",
        lambda config: type(found)(found.schema, found.images, np.array(only_one), found.parts),
    )
    with pytest.raises(DataError, match="no query can be asked"):
        evaluate(run.directory)


def test_a_folder_may_be_a_string(tmp_path):
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        evaluate(str(tmp_path))
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        evaluation.gallery_images(str(tmp_path))
