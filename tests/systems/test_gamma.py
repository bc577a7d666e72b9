import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import catalogue, variants
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.edit_losses import edit_losses
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.errors import ConfigError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.shards import BatchShard
from gradrev_jax.models.token_editor import TokenEditor
from gradrev_jax.runs import builders
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.restore import restore
from gradrev_jax.runs.shared_config import check_types
from gradrev_jax.runs.workdir import read_config
from gradrev_jax.systems import gamma
from gradrev_jax.systems.memory_loss import MemoryWeights
from gradrev_jax.systems.objective import MemoryTargets, StepContext
from gradrev_jax.training.run import train

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=5, backbone="embeddings", dropout=0.5)
EDITOR = TokenEditor(SCHEMA, width=8, heads=2, layers=1)
LABELS = np.array(
    [
        [[0, 1], [1, -1], [2, 0], [0, 0]],
        [[1, 1], [1, 0], [0, 0], [0, 1]],
        [[2, 0], [0, 1], [1, -1], [1, 1]],
    ],
    np.int32,
)
INDICATORS = np.array([[-1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, -1, 0, 0], [0, 0, 0, -1, 1]], np.int8)
TARGETS = MemoryTargets(jnp.asarray(LABELS), jnp.asarray(INDICATORS))
WEIGHTS = MemoryWeights(classification=0.3, semi_hard=0.7, margin=1.1, consistency=0.9, off_block=0.2)
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(12, 6)), jnp.float32)


def random_like(shapes, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)


@functools.cache
def params():
    """An encoder, prototypes with entries outside their blocks, and an editor that adds to their edit."""
    example = jnp.zeros((1, 2, 5)), jnp.zeros((1, 5)), jnp.zeros((5, 2, 5))
    shapes = {
        "encoder": jax.eval_shape(ENCODER.init, jax.random.key(0), INPUTS),
        "memory": {
            "prototypes": example[2],
            "editor": jax.eval_shape(EDITOR.init, jax.random.key(0), *example)["params"],
        },
    }
    return random_like(shapes, 1)


def loss(params, inputs=INPUTS, targets=TARGETS, shard=None, encoder=ENCODER, **settings):
    objective = gamma.EditorObjective(EDITOR, WEIGHTS, **settings)
    return objective.loss(encoder, params, inputs, targets, StepContext(jax.random.key(0), shard=shard))


@pytest.mark.long
@pytest.mark.parametrize("missing", ["ignore", "value"])
def test_the_loss_weighs_the_terms_of_an_edit(missing):
    encoder = ENCODER.clone(missing=missing)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), INPUTS)
    own = {**params(), "encoder": random_like(shapes, 2)}
    total, parts = jax.jit(functools.partial(loss, encoder=encoder, margin=0.4))(own)
    features = jax.jit(encoder.apply)(own["encoder"], INPUTS).features.reshape(3, 4, 2, 5)
    memory = own["memory"]
    edited = jax.jit(gamma.edit, static_argnums=0)(EDITOR, memory, features[0], INDICATORS)
    terms = edit_losses(
        features,
        edited,
        LABELS,
        memory["prototypes"],
        SCHEMA,
        functools.partial(encoder.apply, own["encoder"], method="classify"),
        missing=missing,
        margin=0.4,
    )
    np.testing.assert_allclose(parts.metrics[1:], terms, rtol=1e-5)
    np.testing.assert_allclose(total, np.dot(dataclasses.astuple(WEIGHTS), terms), rtol=1e-5)
    assert parts.metrics.loss == total
    assert [field.name for field in dataclasses.fields(WEIGHTS)] == list(terms._fields)


@pytest.mark.long
def test_only_the_editor_and_its_prototypes_have_a_gradient():
    gradient, parts = jax.jit(jax.grad(loss, has_aux=True))(params())
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["encoder"]))
    largest = jax.tree.map(lambda leaf: float(jnp.abs(leaf).max()), gradient["memory"])
    for block in ("change_0", "memory_0"):  # a bias of all keys shifts all scores alike
        largest["editor"][block]["attention"]["key"].pop("bias")
    assert min(jax.tree.leaves(largest)) > 1e-6
    jax.tree.map(np.testing.assert_array_equal, parts.variables, params())


@pytest.mark.long
def test_a_hard_block_has_no_gradient_outside():
    gradient, parts = jax.jit(jax.grad(functools.partial(loss, block="hard"), has_aux=True))(params())
    for v, n in enumerate(SCHEMA.attribute_of):
        assert (gradient["memory"]["prototypes"][v, 1 - n] == 0).all()
        assert jnp.abs(gradient["memory"]["prototypes"][v, n]).max() > 0
    assert parts.metrics.loss_off_block == 0


@pytest.mark.long
def test_padding_changes_nothing():
    whole, _ = loss(params())
    padded = jnp.concatenate([INPUTS, INPUTS[:4]])
    np.testing.assert_allclose(
        loss(params(), padded, shard=BatchShard(jnp.arange(16), 12))[0], whole, rtol=1e-6
    )


def config_of(**fields):
    config = catalogue.get_config("embeddings,gamma")
    config.update_from_flattened_dict({"gamma.width": 8, "gamma.heads": 2, "gamma.layers": 1, **fields})
    return config


def begin(config):
    return gamma.SYSTEM.second_stage.begin(config, ENCODER, params()["memory"]["prototypes"])


@pytest.mark.long
def test_stage_2_starts_from_the_prototypes_and_from_eq_7(rng):
    start = begin(config_of())
    features = jnp.asarray(rng.normal(size=(4, 2, 5)), jnp.float32)
    edit = gamma.SYSTEM.second_stage.make_edit(config_of(), ENCODER)
    edited = edit({"encoder": None, "memory": start}, features, jnp.asarray(INDICATORS))
    np.testing.assert_array_equal(start["prototypes"], params()["memory"]["prototypes"])
    np.testing.assert_array_equal(edited, manipulate(features, INDICATORS, start["prototypes"]))
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, params()["memory"])


def test_what_is_random_at_the_start_comes_from_the_seed():
    first, again, other = begin(config_of()), begin(config_of()), begin(config_of(seed=5))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first["editor"]["values"] != other["editor"]["values"]).all()


def test_the_edit_of_a_run_is_that_of_its_loss(rng):
    features = jnp.asarray(rng.normal(size=(4, 2, 5)), jnp.float32)
    edit = gamma.SYSTEM.second_stage.make_edit(config_of(), ENCODER)
    expected = gamma.edit(EDITOR, params()["memory"], features, INDICATORS)
    np.testing.assert_array_equal(edit(params(), features, jnp.asarray(INDICATORS)), expected)
    assert np.abs(expected - manipulate(features, INDICATORS, params()["memory"]["prototypes"])).max() > 0.1


@pytest.mark.long
def test_it_learns_an_edit_that_no_memory_has(rng):
    """Here a garment's color says which way its size moves, so that every sum of prototypes is half wrong."""
    features = jnp.asarray(rng.normal(size=(64, 2, 5)), jnp.float32)
    way = jnp.sign(features[:, 0, :1])
    indicators = jnp.tile(jnp.array([0, 0, 0, -1, 1]), (64, 1))
    wanted = features.at[:, 1].add(2 * way * jnp.ones(5))
    optimizer = optax.adam(0.02)

    def error(memory):
        return ((gamma.edit(EDITOR, memory, features, indicators) - wanted) ** 2).mean()

    @jax.jit
    def step(memory, state):
        updates, state = optimizer.update(jax.grad(error)(memory), state)
        return optax.apply_updates(memory, updates), state

    memory = begin(config_of())
    state = optimizer.init(memory)
    for _ in range(100):
        memory, state = step(memory, state)
    # The best memory adds the mean difference.
    best = (jnp.var(wanted - features, axis=0)).mean()
    assert error(memory) < 0.1 * best


def problems(**fields):
    config = config_of(**fields)
    config.data.root = config.data.embeddings = "somewhere"
    with pytest.raises(ConfigError) as raised:
        check(config)
    return str(raised.value)


def test_fields_that_do_not_fit_are_named():
    assert "gamma.width = 9: a multiple of gamma.heads, which is 2" in problems(**{"gamma.width": 9})
    assert "memory.reversal = True: False" in problems(**{"memory.reversal": True})
    assert "gamma.layers = 0: at least 1" in problems(**{"gamma.layers": 0})


@pytest.mark.parametrize(
    "words", ["gamma", "cpu,adde_m,gamma", "pretrained,gamma", "gamma,paper", "gamma,sane"]
)
def test_the_word_edits_features_on_any_backbone(words):
    config = catalogue.get_config(words)
    config.data.root = "somewhere"
    check(config)
    assert config.stages == ("encoder", "memory")
    assert config.protocol.representation == "features"
    assert config.protocol.edit == "add"
    if words != "gamma,sane":
        assert config.protocol.strength == "1"


def test_a_run_of_a_version_without_it_is_read_with_its_defaults(tiny_config, tmp_path):
    earlier = tiny_config.to_dict()
    del earlier["gamma"]
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    config = read_config(tmp_path)
    assert config["gamma"] == {"width": 128, "heads": 4, "layers": 2}
    check_types(config, tmp_path)


@pytest.mark.long
def test_a_run_is_trained_continued_and_evaluated(tiny_config, small_backbone, tmp_path):
    config = variants.apply(tiny_config, "gamma")
    config.model.backbone = small_backbone
    config.update_from_flattened_dict({"gamma.width": 8, "gamma.heads": 2, "gamma.layers": 1})
    config.train.update({"epochs": 1, "weight_decay": 0.1, "validation_fraction": 0.4})
    config.memory.update({"triplets": 16, "batch_size": 4, "epochs": 1, "learning_rate": 1e-2})
    train(config, tmp_path, progress=False)
    config.memory.epochs = 2
    state = train(config, tmp_path, progress=False)
    assert state.step == 8

    encoder = builders.build_encoder(config, builders.open_catalogue(config).schema)
    size = config.data.image_size
    first = restore(tmp_path, "encoder", encoder, size, "best")
    last = restore(
        tmp_path,
        "memory",
        encoder,
        size,
        "latest",
        beside_encoder=builders.second_stage_shapes(config, encoder),
    )
    jax.tree.map(np.testing.assert_array_equal, first.params, last.params)
    assert np.abs(last.memory["editor"]["edit"]["kernel"]).max() > 0
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    steps = [record for record in lines if record["stage"] == "memory" and "loss_semi_hard" in record]
    assert all(np.isfinite(record["loss"]) for record in steps)
    assert "loss_rev" not in steps[0]

    metrics = evaluate(tmp_path, progress=False)
    assert metrics["edit"] == "learned"
    assert metrics["stage"] == "memory"
    plain = evaluate(tmp_path, stage="encoder", progress=False)
    assert plain["edit"] == "add"
    assert metrics["baselines"]["no_manipulation"] == plain["baselines"]["no_manipulation"]
