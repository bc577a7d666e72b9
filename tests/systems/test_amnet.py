"""AMNet beside the equations as loops in float64, and whole as a run."""

import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import variants
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TEST
from gradrev_jax.errors import ConfigError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.comparison.numbers import compare_systems
from gradrev_jax.evaluation.comparison.systems import read_systems
from gradrev_jax.evaluation.encoding import encode_run
from gradrev_jax.evaluation.opening import open_run
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.workdir import METRICS
from gradrev_jax.serving.export import export_model
from gradrev_jax.serving.retriever import Retriever
from gradrev_jax.systems.amnet.edit import Memory, asked_values, edit_features
from gradrev_jax.systems.amnet.losses import EditedObjective, EntangledObjective
from gradrev_jax.systems.amnet.model import EntangledEncoder
from gradrev_jax.systems.amnet.system import begin
from gradrev_jax.systems.objective import ENCODER, MEMORY, MemoryTargets, StepContext
from gradrev_jax.training import opening
from gradrev_jax.training.run import train
from gradrev_jax.training.torch_runs import export_run

SCHEMA = AttributeSchema(("color", "size", "kind"), (("blue", "red", "green"), ("s", "m"), ("x", "y")))
J, D, H, B = SCHEMA.num_values, 5, 7, 6
ENCODER_MODEL = EntangledEncoder(SCHEMA, feature_dim=D, backbone="embeddings", tap="raw", dropout=0.0)


def make_memory(rng):
    prototypes, keep, change = rng.normal(size=(J, D)), rng.normal(size=(D, D)), rng.normal(size=(D, D))
    return Memory(*(jnp.asarray(x, jnp.float32) for x in (prototypes, keep, change)))


def make_indicators(rng, count=B):
    """One change per attribute at most: nothing, an addition, a removal, or a swap."""
    rows = np.zeros((count, J), np.int32)
    for row in rows:
        for offset, size in zip(SCHEMA.offsets, SCHEMA.sizes, strict=True):
            new, old = rng.permutation(size)[:2]
            row[offset + new] = rng.integers(0, 2)
            row[offset + old] = -rng.integers(0, 2)
    return rows


def slow_edit(feature, indicator, memory):
    """f' = W1 f + W2 r, one number after the other."""
    answer = np.zeros(D)
    for offset, size in zip(SCHEMA.offsets, SCHEMA.sizes, strict=True):
        added = [v for v in range(offset, offset + size) if indicator[v] > 0]
        removed = [v for v in range(offset, offset + size) if indicator[v] < 0]
        for v in added:
            answer += memory.prototypes[v]
        if not added:
            for v in removed:
                answer -= memory.prototypes[v]
    return np.array(
        [
            sum(feature[i] * memory.keep[i, o] for i in range(D))
            + sum(answer[i] * memory.change[i, o] for i in range(D))
            for o in range(D)
        ]
    )


def slow_cross_entropy(logits, labels):
    """The mean over labelled images per attribute, summed over attributes."""
    total = 0.0
    for n, (offset, size) in enumerate(zip(SCHEMA.offsets, SCHEMA.sizes, strict=True)):
        losses = []
        for row, label in zip(logits, labels[:, n], strict=True):
            if label >= 0:
                own = row[offset : offset + size]
                losses.append(np.log(np.exp(own - own.max()).sum()) + own.max() - own[label])
        total += np.mean(losses) if losses else 0.0
    return total


def slow_forward(variables, x):
    """The features and logits of vectors, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def dense(x, layer):
        return x @ params[layer]["kernel"] + params[layer]["bias"]

    features = dense(np.maximum(dense(x, "mlp_hidden"), 0), "mlp_out")
    return features, dense(features, "heads"), lambda f: dense(f, "heads")


def slow_memory_loss(params, x, labels, indicators, objective):
    features, logits, classify = slow_forward(params[ENCODER], np.asarray(x, np.float64))
    memory = Memory(*(np.asarray(part, np.float64) for part in params[MEMORY]))
    features, logits = features.reshape(3, B, D), logits.reshape(3, B, J)
    edited = np.array([slow_edit(f, i, memory) for f, i in zip(features[0], indicators, strict=True)])
    loss_cls = sum(slow_cross_entropy(logits[k], labels[k]) for k in range(3))
    loss_cls += slow_cross_entropy(classify(edited), labels[1])

    def unit(x):
        return x / np.linalg.norm(x)

    margins = []
    for a, p, n in zip(edited, features[1], features[2], strict=True):
        near, far = np.linalg.norm(unit(a) - unit(p)), np.linalg.norm(unit(a) - unit(n))
        margins.append(max(0.0, near - far + objective.margin))
    return objective.classification * loss_cls + objective.margin_weight * np.mean(margins), loss_cls


@pytest.fixture
def stage_2(rng):
    """Parameters of stage 2, vectors and targets; some labels are missing."""
    x = jnp.asarray(rng.normal(size=(3 * B, H)), jnp.float32)
    variables = ENCODER_MODEL.init(jax.random.key(0), x[:1])
    variables = {**variables, "params": jax.tree.map(lambda p: p + 0.05, variables["params"])}
    labels = np.stack([rng.integers(-1, size, (3, B)) for size in SCHEMA.sizes], axis=-1).astype(np.int32)
    params = {ENCODER: variables, MEMORY: make_memory(rng)}
    return params, x, MemoryTargets(labels, make_indicators(rng))


def loss_of(objective, params, x, targets, shard=None):
    return objective.loss(ENCODER_MODEL, params, x, targets, StepContext(jax.random.key(1), shard=shard))


def test_the_edit_is_that_of_loops(rng):
    memory, indicators = make_memory(rng), make_indicators(rng, 40)
    features = rng.normal(size=(40, 1, D)).astype(np.float32)
    found = edit_features(jnp.asarray(features), jnp.asarray(indicators), memory, SCHEMA)
    exact = Memory(*(np.asarray(part, np.float64) for part in memory))
    expected = [slow_edit(f[0], i, exact) for f, i in zip(features, indicators, strict=True)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_a_value_that_is_replaced_is_not_mentioned_and_one_that_is_removed_is(rng):
    swap, removal = np.zeros((2, J), np.int32)
    swap[[0, 1]] = -1, 1
    removal[0] = -1
    asked = asked_values(jnp.asarray([swap, removal]), SCHEMA).tolist()
    assert asked == [[0, 1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0]]


def test_before_its_first_step_stage_2_leaves_features_as_they_are(rng):
    prototypes = jnp.asarray(rng.normal(size=(J, 1, D)), jnp.float32)
    memory = begin(ConfigDict(), ENCODER_MODEL, prototypes)
    features = jnp.asarray(rng.normal(size=(B, 1, D)), jnp.float32)
    edited = edit_features(features, jnp.asarray(make_indicators(rng)), memory, SCHEMA)
    np.testing.assert_array_equal(edited, features)
    np.testing.assert_array_equal(memory.prototypes, prototypes[:, 0])


@pytest.mark.long
def test_the_features_and_logits_are_those_of_float64(rng, stage_2):
    params, x, _ = stage_2
    output = ENCODER_MODEL.apply(params[ENCODER], x)
    features, logits, classify = slow_forward(params[ENCODER], np.asarray(x, np.float64))
    np.testing.assert_allclose(output.features[:, 0], features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.logits[:, 0], logits, rtol=1e-5, atol=1e-5)
    again = ENCODER_MODEL.apply(params[ENCODER], output.features, method="classify")
    np.testing.assert_allclose(again[:, 0], classify(features), rtol=1e-5, atol=1e-5)
    described = ENCODER_MODEL.apply(params[ENCODER], x, method="full_output")
    np.testing.assert_array_equal(described.embedding, x)
    np.testing.assert_array_equal(described.features, output.features)


@pytest.mark.parametrize("missing", ["none", "some", "all of one attribute"])
def test_the_loss_of_stage_1_is_that_of_loops(rng, stage_2, missing):
    params, x, targets = stage_2
    labels = np.abs(targets.labels[0]) if missing == "none" else targets.labels[0].copy()
    if missing == "all of one attribute":
        labels[:, 1] = -1
    total, parts = loss_of(EntangledObjective(weight=0.5), params[ENCODER], x[:B], jnp.asarray(labels))
    features, logits, _ = slow_forward(params[ENCODER], np.asarray(x[:B], np.float64))
    expected = slow_cross_entropy(logits, labels)
    np.testing.assert_allclose([total, parts.metrics.loss_cls], [expected / 2, expected], rtol=1e-5)
    norm = np.linalg.norm(features, axis=1).mean()
    np.testing.assert_allclose(parts.metrics.feature_norm, norm, rtol=1e-5)


def test_the_loss_of_stage_2_is_that_of_loops(stage_2):
    params, x, targets = stage_2
    objective = EditedObjective(classification=0.3, margin_weight=2.0, margin=0.8)
    total, parts = loss_of(objective, params, x, targets)
    expected, loss_cls = slow_memory_loss(params, x, targets.labels, targets.indicators, objective)
    np.testing.assert_allclose([total, parts.metrics.loss_cls], [expected, loss_cls], rtol=1e-5)
    assert set(objective.record(parts.metrics, SCHEMA)) == {"loss_cls", "loss_margin"}


@pytest.mark.long
@pytest.mark.parametrize("freeze", [False, True])
def test_the_gradients_of_stage_2_are_finite_differences(rng, stage_2, freeze):
    """Along random directions, of the loops in float64."""
    params, x, targets = stage_2
    objective = EditedObjective(freeze_encoder=freeze)
    assert objective.frozen == ((ENCODER,) if freeze else ())
    gradient = jax.grad(lambda params: loss_of(objective, params, x, targets)[0])(params)
    if freeze:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient[ENCODER]))

    def along(part, step, direction):
        moved = jax.tree.map(lambda p, d: np.asarray(p, np.float64) + step * d, params[part], direction)
        given = params | {part: moved}
        return slow_memory_loss(given, x, targets.labels, targets.indicators, objective)[0]

    for part in (MEMORY,) if freeze else (ENCODER, MEMORY):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params[part])
        slope = (along(part, 1e-5, direction) - along(part, -1e-5, direction)) / 2e-5
        products = jax.tree.map(lambda g, d: np.sum(np.asarray(g, np.float64) * d), gradient[part], direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-4)


@pytest.mark.long
def test_the_parts_of_a_batch_have_the_loss_of_the_whole(stage_2):
    """As on several devices: each encodes some of the images, and the loss is that of all."""
    params, x, targets = stage_2
    objective = EditedObjective()

    def on_device(rows):
        shard = BatchShard(rows, 3 * B, "device")
        total, parts = loss_of(objective, params, x[rows], targets, shard)
        return total, parts.metrics

    total, metrics = jax.vmap(on_device, axis_name="device")(jnp.arange(3 * B).reshape(3, B))
    whole, parts = loss_of(objective, params, x, targets)
    np.testing.assert_allclose(total, [whole] * 3, rtol=1e-6)
    np.testing.assert_allclose(metrics.loss_margin, [parts.metrics.loss_margin] * 3, rtol=1e-6)


@pytest.fixture
def config(tiny_config, small_backbone):
    variants.apply(tiny_config, "amnet")
    tiny_config.model.backbone = small_backbone
    tiny_config.amnet.feature_dim = 6
    return tiny_config


def test_what_makes_no_sense_for_one_feature_is_refused_before_anything_is_opened(config):
    check(config)
    config.stages = (ENCODER, MEMORY)
    check(config)
    config.reversal.update({"weighting": "fixed", "adversaries": 3})
    config.train.attribute_triplet_weight = 0.2
    config.memory.weights.consistency = 1.0
    with pytest.raises(ConfigError) as error:
        check(config)
    assert str(error.value).count("because the system 'amnet' has one feature for all") == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edit": "replace"}, "has no block for each attribute; give add or validation"),
        ({"weights": "category=2"}, "protocol.weights cannot give numbers.*give none or validation"),
        ({"representation": "erased"}, "needs a feature of its own for every attribute.*hybrid"),
    ],
)
def test_a_protocol_that_the_system_has_not_is_refused_before_an_image_is_read(
    config, tmp_path, monkeypatch, fields, message
):
    monkeypatch.setattr(opening, "open_inputs", lambda *_, **__: pytest.fail("images are read"))
    config.protocol.update(fields)
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_is_learned_is_not_replaced_either(config, tmp_path):
    config.stages = (ENCODER, MEMORY)
    config.protocol.edit = "replace"
    with pytest.raises(ConfigError, match="edits by what it has learned; give add or validation"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(make_tiny_config, small_backbone, tmp_path_factory):
    """The config, the folder and the last state of a run of both stages."""
    config = make_tiny_config()
    variants.apply(config, "amnet")
    config.model.backbone, config.amnet.feature_dim = small_backbone, 6
    config.stages = (ENCODER, MEMORY)
    config.data.count = 240
    config.train.update({"epochs": 1, "learning_rate": 3e-3, "validation_fraction": 0.5})
    config.memory.update({"triplets": 40, "batch_size": 8, "epochs": 1})
    folder = tmp_path_factory.mktemp("amnet") / "run"
    return config, folder, train(config, folder, progress=False)


@pytest.mark.long
def test_both_stages_are_trained_and_their_losses_logged(trained):
    _, folder, state = trained
    assert set(state.params) == {ENCODER, MEMORY}
    assert np.any(state.params[MEMORY].change), "W2 starts at zero and is trained"
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert any("feature_norm" in record for record in records)
    assert any("loss_margin" in record for record in records)
    assert any("validation_hit_rate" in record for record in records)


def test_a_run_that_has_ended_is_as_it_was_left(trained):
    config, folder, state = trained
    again = train(config, folder, progress=False)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)


@pytest.fixture
def blank_report(monkeypatch):
    """No pictures, which take longer than all else."""
    monkeypatch.setattr(evaluation, "write_run_report", lambda *arguments: None)


@pytest.mark.long
def test_an_evaluation_searches_with_the_learned_edit(trained, blank_report):
    """Beside a search that edits and compares one query after the other."""
    _, folder, _ = trained
    report = evaluate(folder, protocol={"baselines": ("posterior", "erased")}, progress=False)
    assert report["edit"] == "learned"
    assert set(report["baselines"]) == {"no_manipulation", "posterior"}, "nothing to erase from one feature"
    rows = np.array(report["cross_accuracy"]["matrix"])
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[0], rows.shape), "all read one feature")

    run = open_run(folder, step="best", stage=None, protocol={}, data={}, progress=False)
    labels, queries = run.catalogue.part_labels(TEST), run.queries
    features = encode_run(run, progress=False).gallery.features[:, 0].astype(np.float64)
    memory = jax.tree.map(lambda part: np.asarray(part, np.float64), run.edits[0].params[MEMORY])
    hits = []
    for row, indicator, target in zip(queries.reference, queries.indicators, queries.targets, strict=True):
        q = np.maximum(indicator, 0)  # all queries swap or add
        edited = features[row] @ memory.keep + (q @ memory.prototypes) @ memory.change
        near = features / np.linalg.norm(features, axis=1, keepdims=True)
        distances = np.linalg.norm(near - edited / np.linalg.norm(edited), axis=1)
        found = labels[np.argsort(distances, kind="stable")[:5]]
        hits.append((found == target).all(axis=1).any())
    assert report["hit_rate"]["5"] == pytest.approx(np.mean(hits), abs=1.5 / len(hits))


@pytest.mark.long
def test_each_stage_is_chosen_for_reported_and_compared_like_any_other(trained, tmp_path):
    _, folder, _ = trained
    words = dict.fromkeys(("strength", "normalize", "edit", "weights"), "validation")
    chosen = {**words, "leakage": True}
    reports = {
        stage: evaluate(folder, stage=stage, protocol=chosen, progress=False) for stage in (ENCODER, MEMORY)
    }
    assert {stage: report["edit"] for stage, report in reports.items()} == {ENCODER: "add", MEMORY: "learned"}
    for report in reports.values():
        assert 0 <= report["hit_rate"]["1"] <= report["hit_rate"]["5"] <= 1
        assert set(report["strengths_on_validation"]) >= {"0.5", "1"}
        assert set(report["ways_on_validation"]) == {
            f"{normalize}, {report['edit']}" for normalize in ("global", "attribute", "none")
        }
        assert report["weights"] is None, "one block has nothing to be weighed against"
        assert len(report["leakage"]["attributes"]) == len(report["cross_accuracy"]["attributes"])
    shutil.copytree(folder, tmp_path / "again")
    systems, schema = read_systems([f"amnet={folder}", f"again={tmp_path / 'again'}"])
    comparison = compare_systems(systems, schema)
    names = {system["name"] for system in comparison["systems"]}
    assert names >= {"amnet", "amnet, prototypes alone", "again"}


def test_its_classifiers_posteriors_are_served_for_photographs_too(trained):
    _, folder, _ = trained
    shop = Retriever.open(folder, protocol={"representation": "posterior", "edit": "replace"}, progress=False)
    photo = Image.open(io.BytesIO(shop.picture(0, 64)))
    attribute, values = shop.schema.names[0], shop.schema.values[0]
    found = shop.photo(photo).change(**{attribute: values[0]}).search(k=3)
    assert len(found) == 3


def test_what_prototypes_of_attributes_are_needed_for_is_refused(trained, tmp_path):
    _, folder, _ = trained
    message = "can be evaluated but not served; give --protocol.representation=posterior or hybrid"
    with pytest.raises(ConfigError, match=message):
        export_model(folder, tmp_path / "model", progress=False)
    with pytest.raises(ConfigError, match=message):
        Retriever.open(folder, progress=False)
    with pytest.raises(ConfigError, match="model.system = 'amnet': files of PyTorch"):
        export_run(folder, tmp_path / "torch", suffix=".pth")
    assert not list(tmp_path.iterdir())
