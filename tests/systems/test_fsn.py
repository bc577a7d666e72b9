import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import garments, variants
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.triplet_losses import attribute_triplet_loss, semi_hard_triplet_loss
from gradrev_jax.errors import ConfigError
from gradrev_jax.evaluation.opening import open_run
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.runs import builders
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.metrics_log import read_records
from gradrev_jax.systems.fsn.losses import LocalizedObjective
from gradrev_jax.systems.fsn.model import FashionSearchNet
from gradrev_jax.systems.objective import StepContext
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.run import train
from gradrev_jax.weights.alexnet import backbone_to_torch
from gradrev_jax.weights.writer import write_state_dict
from tests import slow_fsn

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = FashionSearchNet(SCHEMA, feature_dim=5, width=1 / 32, dropout=0.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 63, 63, 3), dtype=np.uint8)
LABELS = np.array([[0, 1], [1, -1], [0, 1], [0, 0], [-1, 1], [1, 0]], np.int32)
CHECKPOINT = {"step": "latest", "stage": None, "protocol": {}, "data": {}, "progress": False}
TERMS = {"attribute_triplet": 0.2, "label_triplet": 0.7}


@pytest.fixture(scope="module")
def params():
    start = init_state(ENCODER, optax.sgd(1.0), input_size=63, seed=0).params
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape).astype(np.float32), start)


OBJECTIVE = LocalizedObjective(w_cls=0.5, w_localization=0.3, term_weights=TERMS, localization_share=0.3)


def loss_of(params, progress=1.0, padding=0):
    images = jnp.concatenate([normalize_images(PIXELS), jnp.ones((padding, 63, 63, 3))])
    shard = BatchShard(jnp.arange(len(images)), size=len(PIXELS)) if padding else None
    loss, parts = OBJECTIVE.loss(
        ENCODER,
        params,
        images,
        jnp.asarray(LABELS),
        StepContext(jax.random.key(0), progress, shard),
    )
    return loss, parts.metrics


@functools.cache
def compiled():  # once, because that is what takes time
    return jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def gradient(params, progress=1.0):
    (loss, metrics), found = compiled()(params, progress)
    return loss, metrics, found


def cross_entropy(logits, schema):
    """The mean of the labelled images of each attribute, summed, from the logits of its own values alone."""
    total = 0.0
    for n, (start, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
        losses = [
            np.log(np.exp(row[start : start + size]).sum()) - row[start + label]
            for row, label in zip(logits[n], LABELS[:, n], strict=True)
            if label >= 0
        ]
        total += np.mean(losses)
    return total


@pytest.mark.long
def test_the_loss_of_a_batch_and_its_parts_against_one_image_at_a_time(params):
    loss, metrics, _ = gradient(params)
    slow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    features, logits, localization = slow_fsn.forward(slow, np.asarray(normalize_images(PIXELS)), SCHEMA)
    loss_cls = cross_entropy(logits.swapaxes(0, 1), SCHEMA)
    loss_localization = cross_entropy([localization] * 2, SCHEMA)
    whole = features.reshape(len(features), -1)
    terms = {
        "attribute_triplet": attribute_triplet_loss(features, LABELS),
        "label_triplet": semi_hard_triplet_loss(whole / np.linalg.norm(whole, axis=1, keepdims=True), LABELS),
    }
    assert terms["label_triplet"] > 0
    np.testing.assert_allclose(metrics.loss_cls, loss_cls, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss_localization, loss_localization, rtol=1e-5)
    for name, term in terms.items():
        np.testing.assert_allclose(metrics.terms[name], term, rtol=1e-5)
    expected = 0.5 * loss_cls + 0.3 * loss_localization + sum(TERMS[name] * terms[name] for name in TERMS)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.attribute_weights, np.exp(slow["log_weights"]), rtol=1e-6)


@pytest.mark.long
def test_at_first_the_localising_classifiers_may_be_trained_alone(params):
    loss, metrics, alone = gradient(params, progress=0.29)
    np.testing.assert_allclose(loss, 0.3 * metrics.loss_localization, rtol=1e-6)
    assert metrics.loss_cls > 0
    for name in ("branches", "heads", "log_weights"):
        assert not any(leaf.any() for leaf in jax.tree.leaves(alone["params"][name]))
    jax.tree.map(np.testing.assert_array_equal, gradient(params, progress=0.3), gradient(params))


def test_padding_changes_nothing(params):
    padded = jax.jit(functools.partial(loss_of, padding=2))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), padded, gradient(params)[:2])


def test_it_learns_its_batch(params):
    first = gradient(params)[1]
    for _ in range(80):
        _, last, slope = gradient(params)
        params = jax.tree.map(lambda leaf, g: np.asarray(leaf) - 2e-3 * np.sign(g), params, slope)
    assert last.loss_cls < 0.5 * first.loss_cls
    assert last.loss_localization < 0.9 * first.loss_localization


def test_the_config_says_what_is_built_and_minimised():
    config = garments.get_config("fsn")
    config.model.update({"feature_dim": 7, "width": 0.5, "dropout": 0.1})
    config.fsn.update({"threshold": 0.3, "grid": 2, "hidden": 64, "weights": "equal"})
    config.fsn.update({"localization_weight": 0.5, "localization_share": 0.25})
    config.data.missing = "value"
    encoder = builders.build_encoder(config, SCHEMA)
    fields = {"width": 0.5, "dropout": 0.1, "threshold": 0.3, "grid": 2, "hidden": 64, "weights": "equal"}
    assert encoder == FashionSearchNet(SCHEMA, feature_dim=7, missing="value", **fields)
    objective = builders.system_of(config).encoder_objective(config, encoder, LABELS)
    terms = {"attribute_triplet": 1.0, "label_triplet": 1.0}
    assert objective == LocalizedObjective(1.0, 0.5, terms, localization_share=0.25)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("model.backbone", "efficientnet_lite0", "'alexnet', because the system 'fsn' has nothing else"),
        ("model.freeze_backbone", True, "False, because"),
        ("model.heads", "pairwise", "'shared', because"),
        ("model.unit_features", True, "False, because"),
        ("reversal.weighting", "balanced", "'off', because"),
        ("reversal.adversaries", 2, "0, because"),
        ("train.conditional_dependence_weight", 1.0, "0, because"),
        ("train.decorrelate", 5.0, "0, because"),
        ("train.patience", 5, "unset, or more than the 5 epochs of fsn.localization_share"),
        ("model.tap", "fc7", "unset, because the system 'fsn' reads maps of convolutions"),
        ("fsn.threshold", 1.0, "at least 0 and below 1"),
        ("fsn.weights", "learnt", "one of learned, equal; did you mean learned?"),
    ],
)
def test_what_makes_no_sense_is_refused(field, value, problem):
    config = garments.get_config("fsn")
    config.fsn.localization_share = 0.25
    check(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError) as error:
        check(config)
    assert f"{field} = {value!r}: {problem}" in str(error.value)


def test_a_training_that_ends_before_the_branches_begin_is_refused():
    config = garments.get_config("fsn")
    config.train.update({"epochs": 4, "batch_size": 2, "max_steps": 3})
    config.fsn.localization_share = 0.25
    encoder, build = builders.build_encoder(config, SCHEMA), builders.system_of(config).encoder_objective
    with pytest.raises(ConfigError, match="train.max_steps = 3: unset, or at least 4, .* 12 steps") as error:
        build(config, encoder, LABELS)  # 3 steps an epoch
    assert "fsn.localization_share" in str(error.value)
    for steps in (4, 0, None):  # 0 leaves the encoder as it is
        config.train.max_steps = steps
        assert build(config, encoder, LABELS).localization_share == 0.25
    config.train.max_steps = 1
    config.fsn.localization_share = 0.0
    build(config, encoder, LABELS)


def test_images_may_be_as_small_as_its_convolutions_take():
    config = garments.get_config("fsn")
    config.data.image_size = 31
    check(config)
    config.model.width = 1 / 32
    parameter_shapes(builders.build_encoder(config, SCHEMA), 31)
    config.data.image_size = 30
    with pytest.raises(ConfigError, match="data.image_size = 30: at least 31$"):
        check(config)


@pytest.fixture
def convolutions(tmp_path):
    """A file of torchvision's convolutions, 32 times narrower, and the same in the layout of the model."""
    shapes = jax.eval_shape(ENCODER.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(0)
    layers = jax.tree.map(
        lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes["params"]["backbone"]
    )
    path = tmp_path / "convolutions.safetensors"
    write_state_dict(path, {name: np.asarray(leaf) for name, leaf in backbone_to_torch(layers).items()})
    return path, layers


@pytest.mark.long
def test_a_whole_run_from_pretrained_convolutions(make_tiny_config, convolutions, tmp_path):
    """What it starts from, that it goes on as if it had not stopped, and that its report shows the boxes."""
    path, layers = convolutions
    config = variants.apply(make_tiny_config(), "fsn")
    config.model.pretrained = str(path)
    config.train.learning_rate = 0.0
    train(config, tmp_path / "still", progress=False)
    at_start = open_run(tmp_path / "still", **CHECKPOINT).params["params"]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, at_start, layers)

    config.train.learning_rate = 1e-3
    train(config, tmp_path / "whole", progress=False)
    config.train.epochs, config.train.max_steps = 2, 4
    train(config, tmp_path / "parts", progress=False)
    config.train.max_steps = None
    train(config, tmp_path / "parts", progress=False)
    ends = [open_run(tmp_path / name, **CHECKPOINT).params for name in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    record = read_records(tmp_path / "whole" / "metrics.jsonl")[0]
    assert {"loss_cls", "loss_localization", "loss_attribute_triplet", "loss_label_triplet"} <= set(record)
    assert list(record["attribute_weights"]) == "category color length neckline pattern sleeve".split()

    metrics = evaluate(tmp_path / "whole", progress=False)
    assert metrics["edit"] == "replace"
    report = tmp_path / "whole" / "report"
    assert json.loads((report / "metrics.json").read_text()) == metrics
    assert "![Attention](attention.png)" in (report / "report.md").read_text(encoding="utf-8")
    assert (report / "attention.png").stat().st_size > 10_000
