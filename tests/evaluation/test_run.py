import copy
import functools
import json
import os
import pathlib
import shutil
import threading

import jax
import numpy as np
import pytest

from gradrev_jax.core import metrics
from gradrev_jax.errors import CheckpointError, ConfigError, DataError, WorkdirError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation import scores as scores_of_queries
from gradrev_jax.evaluation.comparison.document import comparison_markdown
from gradrev_jax.evaluation.comparison.numbers import compare_systems
from gradrev_jax.evaluation.comparison.systems import pair_runs, read_systems
from gradrev_jax.evaluation.opening import gallery_pictures
from gradrev_jax.evaluation.scores import read_scores
from gradrev_jax.runs import builders, pixels, workdir
from gradrev_jax.runs.checkpoints import PARAMS, Checkpoints
from gradrev_jax.training.run import train

GALLERY, STEPS, KS = 80, 54, (1, 5, 10, 20, 40)
RETRIEVAL = ("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others")


def evaluate(directory, **settings):
    return evaluation.evaluate(directory, progress=False, **settings)


class Run:
    """A run, and what its model says of a part in one batch: in float64, and without any of our code."""

    def __init__(self, directory, config, params, memory, metrics):
        self.directory, self.config, self.params, self.memory = directory, config, params, memory
        self.metrics = metrics
        self.catalogue = builders.open_catalogue(config)
        self.schema = self.catalogue.schema
        self.encoder = builders.build_encoder(config, self.schema)
        self.outputs = functools.cache(self._outputs)

    def _outputs(self, part):
        """Features, logits and labels of a part."""
        scaled = np.asarray(pixels.open_images(self.catalogue, part, self.config)) / 255
        images = ((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)
        output = jax.jit(self.encoder.apply)(self.params, jax.numpy.asarray(images))
        return *(np.asarray(leaf, np.float64) for leaf in output), self.catalogue.part_labels(part)

    def copy(self, folder):
        """The same run in a folder of its own."""
        shutil.copytree(self.directory, folder)
        made = copy.copy(self)
        made.directory = folder
        return made


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_tiny_config):
    """A run trained and evaluated once, and one with a memory besides."""
    config = make_tiny_config()
    config.data.count = 200
    config.protocol.ks = KS
    # 54 steps in one epoch: enough for the prototypes to differ, so that manipulating changes the result.
    config.train.update({"epochs": 1, "batch_size": 2, "learning_rate": 3e-3})
    config.reversal.weighting = "off"
    folder = tmp_path_factory.mktemp("made")
    params = train(config, folder / "run", progress=False).params
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SHOWN_QUERIES", 1)
        metrics = evaluate(folder / "run")
    run = Run(folder / "run", config, params, None, metrics)
    # As if a memory had been fine-tuned, and the encoder with it.
    config = config.copy_and_resolve_references()
    config.stages = ("encoder", "memory")
    shutil.copytree(folder / "run", folder / "tuned")
    workdir.write_json(folder / "tuned" / workdir.CONFIG, config.to_dict())
    rng = np.random.default_rng(0)
    tuned = jax.tree.map(lambda leaf: leaf * np.float32(1.01), jax.device_get(params))
    shape = (run.schema.num_values, run.schema.num_attributes, config.model.feature_dim)
    memory = np.zeros(shape, np.float32)
    for value, n in enumerate(run.schema.attribute_of):
        memory[value, n] = rng.normal(size=shape[2])
    with Checkpoints(folder / "tuned" / "checkpoints" / "memory") as checkpoints:
        checkpoints.save(10, {PARAMS: {"encoder": tuned, "memory": memory}}, score=0.5)
    return run, Run(folder / "tuned", config, tuned, memory, None)


@pytest.fixture
def run(made, tmp_path, blank_pictures):
    return made[0].copy(tmp_path / "run")


@pytest.fixture
def tuned(made, tmp_path, blank_pictures):
    return made[1].copy(tmp_path / "tuned")


def prototypes(run):
    """(attribute, value) -> mean feature over the train and validation parts, for values that have one."""
    members = {}
    for part in ("train", "validation"):
        features, _, labels = run.outputs(part)
        for feature, row in zip(features, labels.tolist(), strict=True):
            for n, value in enumerate(row):
                if value >= 0:
                    members.setdefault((n, value), []).append(feature[n])
    return {key: np.mean(rows, axis=0) for key, rows in members.items()}


def all_queries(labels, schema):
    """(image, attribute, value, target) of every change that gives the labels of some image."""
    rows = [tuple(row) for row in labels.tolist()]
    present = set(rows)
    for image, row in enumerate(rows):
        for n, size in enumerate(schema.sizes):
            for value in range(size):
                target = (*row[:n], value, *row[n + 1 :])
                if value != row[n] and target in present:
                    yield image, n, value, target


def normalised(feature, how):
    if how == "attribute":
        feature = feature / np.linalg.norm(feature, axis=-1, keepdims=True)
    return feature.ravel() / np.linalg.norm(feature)


def oracle(run, *, ks=KS, normalize="global", exclude_query=False, manipulated=True):
    """Queries asked, and their hit_rate and precision by k, in float64 and without any of our code."""
    memory = prototypes(run)
    features, _, labels = run.outputs("test")
    rows = np.stack([normalised(feature, normalize) for feature in features])
    matches = []
    for image, n, value, target in all_queries(labels, run.schema):
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
    assert metrics["prototypes_without_images"] == []
    assert metrics == json.loads((run.directory / "report" / "metrics.json").read_text())
    by_k = {str(k) for k in KS}
    for tables in (metrics, metrics["baselines"]["no_manipulation"]):
        for name in RETRIEVAL:
            assert set(tables[name]) == by_k
            assert all(0 <= value <= 1 for value in tables[name].values())
    names = list(run.schema.names)
    assert set(metrics["attribute_accuracy"]) == {"macro", "micro", "per_attribute"}
    assert list(metrics["attribute_accuracy"]["per_attribute"]) == names
    assert metrics["cross_accuracy"]["attributes"] == names
    assert metrics["gallery"] == GALLERY
    assert metrics["step"] == STEPS
    assert metrics["protocol"]["ks"] == list(KS)
    report = {path.name for path in (run.directory / "report").iterdir()}
    assert {"report.md", "hit_rate.png", "cross_accuracy.png", "training.png"} <= report


def test_every_query_and_every_image_is_kept(run):
    scores = read_scores(run.directory / "report" / "queries.npz")
    assert scores.neighbors.shape == (run.metrics["queries"], 10)
    assert scores.ks.tolist() == list(KS)
    assert tuple(scores.by_metric)[: len(RETRIEVAL)] == RETRIEVAL
    assert all(name.startswith("near") for name in tuple(scores.by_metric)[len(RETRIEVAL) :])  # nuisances
    for column, k in enumerate(KS):
        for name in RETRIEVAL:
            values = scores.by_metric[name][:, column]
            assert values.dtype == np.float32
            assert values.mean(dtype=float) == pytest.approx(run.metrics[name][str(k)], abs=1e-6)
            low, high = run.metrics["intervals"][name][str(k)]
            assert low <= run.metrics[name][str(k)] <= high
    schema = run.schema
    _, _, labels = run.outputs("test")
    np.testing.assert_array_equal(scores.labels, labels)
    asked = list(all_queries(labels, schema))
    assert sorted(zip(scores.reference.tolist(), map(tuple, scores.targets.tolist()), strict=True)) == sorted(
        (image, target) for image, _, _, target in asked
    )
    hits = (labels[scores.neighbors[:, :5]] == scores.targets[:, None]).all(axis=-1).any(axis=1)
    np.testing.assert_array_equal(scores.by_metric["hit_rate"][:, 1], hits)
    for n, name in enumerate(schema.names):
        known = scores.correct[:, n] >= 0
        np.testing.assert_array_equal(known, labels[:, n] >= 0)
        accuracy = run.metrics["attribute_accuracy"]["per_attribute"][name]
        assert scores.correct[known, n].mean() == pytest.approx(accuracy)
    for mean, (low, high) in run.metrics["intervals"]["attribute_accuracy"].items():
        assert low < run.metrics["attribute_accuracy"][mean] < high


@pytest.mark.long
@pytest.mark.parametrize(
    "protocol",
    [
        {},
        {"exclude_query": True},
        {"normalize": "attribute"},
        {"ks": (2, GALLERY - 1), "exclude_query": True},
    ],
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
    _, logits, labels = run.outputs("test")
    _, _, train_labels = run.outputs("train")
    schema = run.schema
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


@pytest.fixture
def further_metric(monkeypatch):
    """A retrieval metric of one more name; evaluation is told nothing of it."""

    def scores(neighbor_labels, target_labels, changed, ks):
        first = (neighbor_labels[:, 0] == target_labels).mean(axis=1)
        further = {"first_right": np.stack([first] * len(ks), axis=1)}
        return metrics.retrieval_scores(neighbor_labels, target_labels, changed, ks) | further

    for module in (evaluation, scores_of_queries):
        monkeypatch.setattr(module, "retrieval_scores", scores)


def test_a_further_metric_is_in_every_report(run, further_metric, tmp_path):
    run.copy(tmp_path / "earlier")  # evaluated before there was that metric
    metrics = evaluate(run.directory, protocol={"ks": (1, 30)})
    assert list(metrics["baselines"]["no_manipulation"]) == [*RETRIEVAL, "first_right"]
    value = metrics["first_right"]["30"]
    assert (
        metrics["first_right"]["1"] == value != metrics["baselines"]["no_manipulation"]["first_right"]["30"]
    )
    low, high = metrics["intervals"]["first_right"]["30"]
    assert 0 < low < value < high < 1
    assert f"| first_right | {100 * value:.2f} | {100 * value:.2f} |" in (
        run.directory / "report" / "report.md"
    ).read_text(encoding="utf-8")
    comparison = compare_systems(*read_systems([str(run.directory)]))
    found = comparison["systems"][0]["metrics"]["first_right@30"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx((value, low, high), abs=1e-6)
    assert "| system | precision@30 | first_right@30 |" in comparison_markdown(
        comparison, [], no_queries="", note=None
    )
    both = compare_systems(*read_systems([str(run.directory), str(tmp_path / "earlier")]))
    assert all("first_right@1" not in system["metrics"] for system in both["systems"])
    assert all("precision@1" in system["metrics"] for system in both["systems"])


@pytest.mark.long
def test_the_checkpoint_asked_for_is_evaluated(run):
    save_another(run, STEPS + 1, accuracy=0.0)
    best, latest, numbered = (evaluate(run.directory, step=step) for step in ("best", "latest", str(STEPS)))
    assert [best["step"], latest["step"], numbered["step"]] == [STEPS, STEPS + 1, STEPS]
    assert best == numbered == run.metrics
    assert latest["attribute_accuracy"] != best["attribute_accuracy"]
    assert latest["ndcg_target"] == latest["baselines"]["no_manipulation"]["ndcg_target"]
    with pytest.raises(WorkdirError, match=r"no checkpoint '3'; there are 54, 55, best, latest"):
        evaluate(run.directory, step="3")


def test_an_encoder_that_is_dead_cannot_be_evaluated(run):
    with Checkpoints(run.directory / "checkpoints" / "encoder") as checkpoints:
        checkpoints.save(STEPS + 2, {PARAMS: jax.tree.map(np.zeros_like, run.params)}, score=0.0)
    advice = (
        "features are zero in row 0.*evaluate another of its checkpoints.*"
        r"\(config: train.learning_rate, train.clip_norm\)"
    )
    with pytest.raises(DataError, match=advice):
        evaluate(run.directory, step="56")


@pytest.mark.long
def test_a_memory_and_its_prototypes_alone_get_a_report_each(run, tuned):
    metrics = evaluate(tuned.directory)
    assert (metrics["stage"], metrics["step"]) == ("memory", 10)
    memory = np.asarray(tuned.memory, np.float64)
    features, _, labels = tuned.outputs("test")
    rows = features.reshape(len(features), -1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    hits = []
    for image, n, value, target in all_queries(labels, tuned.schema):
        edited = features[image] + memory[tuned.schema.offsets[n] + value]
        if labels[image, n] >= 0:
            edited = edited - memory[tuned.schema.offsets[n] + labels[image, n]]
        query = edited.reshape(-1) / np.linalg.norm(edited)
        nearest = np.argsort(((rows - query) ** 2).sum(axis=1), kind="stable")[:5]
        hits.append(any(tuple(labels[row].tolist()) == tuple(target) for row in nearest))
    assert metrics["hit_rate"]["5"] == pytest.approx(np.mean(hits), abs=0.5 / len(hits))
    alone = evaluate(tuned.directory, stage="encoder")
    assert alone == run.metrics
    assert json.loads((tuned.directory / "report" / "metrics.json").read_text()) == metrics
    folder = tuned.directory / "report_encoder"
    assert json.loads((folder / "metrics.json").read_text()) == alone
    assert (folder / "report.md").read_text().startswith("# tuned, encoder alone\n")


# The strength is that of the baseline where no validation image can be asked for.
POSTERIOR = {"representation": "posterior", "edit": "replace", "strength": "2"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.long
def test_a_report_of_its_own_stands_beside_that_of_the_run_and_is_compared_with_it(run):
    """The baseline of a name is the run evaluated as the name says."""
    before = contents(run.directory / "report")
    metrics = evaluate(run.directory, report="posterior", protocol=POSTERIOR)
    folder = run.directory / "report_posterior"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert contents(run.directory / "report") == before
    assert metrics["protocol"]["representation"] == metrics["representation"] == "posterior"
    assert (metrics["normalize"], metrics["edit"], metrics["look"]) == ("none", "replace", None)
    with_baseline = evaluate(run.directory, report="plain", protocol={"baselines": ("posterior",)})
    of_baseline = with_baseline["baselines"].pop("posterior")
    assert of_baseline == {name: metrics[name] for name in RETRIEVAL}
    assert of_baseline["hit_rate"] != run.metrics["hit_rate"]
    same = {name for name in run.metrics if name != "protocol"}
    assert {name: with_baseline[name] for name in same} == {name: run.metrics[name] for name in same}

    systems, schema = read_systems([str(run.directory), f"its posteriors={folder}"])
    assert pair_runs(*systems) == [0]
    assert pair_runs(*reversed(systems)) == [0]
    assert [system.name for system in systems] == [run.directory.name, "its posteriors"]
    assert systems[1].runs[0].config["protocol.representation"] == "posterior"
    compared = compare_systems(systems, schema)
    by_system = [system["metrics"]["hit_rate@10"]["value"] for system in compared["systems"]]
    assert by_system == pytest.approx([run.metrics["hit_rate"]["10"], metrics["hit_rate"]["10"]])
    differ = compared["fields_that_differ"]["protocol.representation"]
    assert differ == {run.directory.name: ["features"], "its posteriors": ["posterior"]}
    assert read_systems([str(folder)])[0][0].name == "report_posterior"


def test_a_run_that_may_not_be_written_to_is_refused_before_anything_is_computed(run, monkeypatch):
    """It was refused when the report was to be written, after all that takes long."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(evaluation, "open_run", lambda *arguments, **options: pytest.fail("it is opened"))
    with pytest.raises(WorkdirError, match="gets the report, but this user may not write to it; evaluate a"):
        evaluate(run.directory)


@pytest.mark.parametrize(
    ("name", "why"),
    [("encoder", "that of a stage"), ("encoder_x", "stage"), ("../x", "no slash"), ("", "no slash")],
)
def test_a_report_cannot_have_a_name_that_stands_for_another_folder(run, name, why):
    before = sorted(run.directory.parent.rglob("*"))
    with pytest.raises(ConfigError, match=f"the name of a report must .*{why}.*, got {name!r}"):
        evaluate(run.directory, report=name)
    assert sorted(run.directory.parent.rglob("*")) == before


def test_a_stage_that_the_run_does_not_have(run):
    with pytest.raises(WorkdirError, match=r"has no stage 'memory'; its stages are encoder$"):
        evaluate(run.directory, stage="memory")


@pytest.mark.long
def test_evaluating_again_with_the_data_elsewhere_gives_identical_numbers(run, tmp_path, monkeypatch):
    written = (run.directory / "report" / "metrics.json").read_bytes()
    monkeypatch.chdir(run.directory)
    cache = tmp_path / "elsewhere"
    assert evaluate(pathlib.Path("."), data={"cache_dir": str(cache)}) == run.metrics
    assert any(cache.iterdir())
    assert (run.directory / "report" / "metrics.json").read_bytes() == written
    assert (run.directory / "report" / "report.md").read_text().startswith(f"# {run.directory.name}\n")


def test_what_makes_a_catalogue_cannot_be_changed(run):
    with pytest.raises(ConfigError, match="data.count belongs to the run"):
        evaluate(run.directory, data={"count": 5})
    with pytest.raises(ConfigError, match="data.count belongs to the run"):
        gallery_pictures(run.directory, data={"count": 5})


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
    found = run.catalogue
    only_one = np.broadcast_to(found.labels[:1], found.labels.shape)
    monkeypatch.setattr(
        builders,
        "open_catalogue",
        lambda *given: type(found)(found.schema, found.images, np.array(only_one), found.parts),
    )
    with pytest.raises(DataError, match="no query can be asked"):
        evaluate(run.directory)


def test_an_evaluation_that_is_interrupted_searches_for_no_further_baseline(run, monkeypatch):
    begun, may_end, searched = threading.Semaphore(0), threading.Event(), []

    def search(name, inputs):
        searched.append(name)
        begun.release()
        assert may_end.wait(10)

    def interrupt(*arguments):
        assert begun.acquire(timeout=10)
        threading.Timer(0.2, may_end.set).start()  # when the scoring has ended
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "search_baseline", search)
    monkeypatch.setattr(evaluation, "score_queries", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run.directory, report="interrupted", protocol={"baselines": ("random", "oracle")})
    assert searched == ["random"]
    assert not (run.directory / "report_interrupted").exists()


def test_a_folder_may_be_a_string(tmp_path):
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        evaluate(str(tmp_path))
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        gallery_pictures(str(tmp_path))
