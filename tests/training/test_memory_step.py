import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.losses import classification_loss, reversal_loss
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.systems.memory_loss import MemoryObjective, MemoryWeights
from gradrev_jax.systems.objective import MemoryTargets, StepContext
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.memory_step import make_memory_step
from gradrev_jax.training.update import TrainState

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=5, backbone="small", dropout=0.0)
COLOURS = np.random.default_rng(0).integers(0, 256, (3, 4, 2, 2, 3), dtype=np.uint8)
PIXELS = COLOURS.repeat(32, axis=2).repeat(32, axis=3)  # four quarters of one colour each
LABELS = np.array(
    [
        [[0, 1], [1, -1], [2, 0], [0, 0]],
        [[1, 1], [1, 0], [0, 0], [0, 1]],
        [[2, 0], [0, 1], [1, -1], [1, 1]],
    ],
    np.int32,
)
WEIGHTS = MemoryWeights()
INDICATORS = np.array([[-1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, -1, 0, 0], [0, 0, 0, -1, 1]], np.int8)


@pytest.fixture(scope="module")
def params():
    encoder = init_state(ENCODER, optax.sgd(1.0), input_size=64, seed=0).params
    memory = jax.random.normal(jax.random.key(3), (5, 2, 5)) / 3
    return {"encoder": encoder, "memory": memory}


def inputs():
    return normalize_images(PIXELS.reshape(-1, 64, 64, 3))


def total_loss(params, weights, **settings):
    return MemoryObjective(weights=weights, **settings).loss(
        ENCODER,
        params,
        inputs(),
        MemoryTargets(jnp.asarray(LABELS), jnp.asarray(INDICATORS)),
        StepContext(jax.random.key(0)),
    )


@functools.cache
def compiled(settings):
    """(params, weights as a tuple) -> the loss and its metrics, and the gradient of params."""

    def loss_and_gradient(params, weights):
        loss = functools.partial(total_loss, weights=MemoryWeights(*weights), **dict(settings))
        (total, parts), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return total, parts.metrics, gradient

    return jax.jit(loss_and_gradient)


def compute(params, weights=WEIGHTS, **settings):
    return compiled(tuple(settings.items()))(params, dataclasses.astuple(weights))


def loss(params, **settings):
    total, metrics, _ = compute(params, **settings)
    return total, metrics


def cross_entropy(feature, row, kernel, bias):
    """Of each attribute of one image's features, read by its own classifier; NaN where not labelled."""
    terms = []
    for n, value in enumerate(row):
        scores = feature[n] @ kernel + bias
        block = scores[SCHEMA.offsets[n] : SCHEMA.offsets[n] + SCHEMA.sizes[n]]
        terms.append(np.nan if value < 0 else np.log(np.exp(block).sum()) - block[value])
    return terms


def normal(feature):
    flat = feature.reshape(-1)
    return flat / np.linalg.norm(flat)


def semi_hard(embeddings, rows):
    losses = []
    for a in range(len(rows)):
        to = ((embeddings - embeddings[a]) ** 2).sum(axis=1)
        negatives = [to[i] for i in range(len(rows)) if rows[i] != rows[a]]
        for p in range(len(rows)):
            if p != a and rows[p] == rows[a] and negatives:
                farther = [distance for distance in negatives if distance > to[p]]
                losses.append(max(0, to[p] - (min(farther) if farther else max(negatives)) + 0.5))
    return np.mean(losses)


@pytest.mark.long
def test_every_term_against_loops(params):
    """All five terms of METHOD's stage 2, written out image by image in float64."""
    images = inputs().reshape(-1, 64, 64, 3)
    features = np.asarray(jax.jit(ENCODER.apply)(params["encoder"], images).features, float).reshape(
        3, 4, 2, 5
    )
    memory = np.asarray(params["memory"], float)
    heads = params["encoder"]["params"]["heads"]
    kernel, bias = (np.asarray(heads[name], float) for name in ("kernel", "bias"))
    reference, positive, negative = features
    edited = reference + np.stack(
        [sum(i * m for i, m in zip(row, memory, strict=True)) for row in INDICATORS.tolist()]
    )
    read = [(reference, LABELS[0]), (positive, LABELS[1]), (negative, LABELS[2]), (edited, LABELS[1])]
    loss_cls = 0.0
    for group, rows in read:
        terms = np.array([cross_entropy(f, row, kernel, bias) for f, row in zip(group, rows, strict=True)])
        loss_cls += np.nanmean(terms, axis=0).sum()
    triplet = [
        max(
            0,
            np.linalg.norm(normal(e) - normal(p)) - np.linalg.norm(normal(e) - normal(n)) + 0.5,
        )
        for e, p, n in zip(edited, positive, negative, strict=True)
    ]
    consistency = 0.0
    for group, rows in ((edited, LABELS[1]), (reference, LABELS[0]), (negative, LABELS[2])):
        for f, row in zip(group, rows, strict=True):
            made = sum(memory[SCHEMA.offsets[n] + v] for n, v in enumerate(row) if v >= 0)
            consistency += np.abs(made - f).mean() / 4
    batch = np.stack([normal(f) for f in (*reference, *edited, *negative)])
    classes = [tuple(row) for row in (*LABELS[0].tolist(), *LABELS[1].tolist(), *LABELS[2].tolist())]
    off_block = sum(np.abs(memory[v, 1 - n]).sum() for v, n in enumerate([0, 0, 0, 1, 1]))

    total, metrics = loss(params)
    np.testing.assert_allclose(metrics.loss_cls, loss_cls, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss_margin, np.mean(triplet), rtol=1e-4)
    np.testing.assert_allclose(metrics.loss_consistency, consistency, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss_semi_hard, semi_hard(batch, classes), rtol=1e-4)
    np.testing.assert_allclose(metrics.loss_off_block, off_block, rtol=1e-5)
    expected = 0.2 * loss_cls + semi_hard(batch, classes) + np.mean(triplet) + consistency + 0.4 * off_block
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    assert metrics.loss == total
    assert metrics.loss_rev == metrics.w_rev == 0


def test_each_weight_weighs_its_own_term(params):
    _, metrics = loss(params)
    terms = {
        "classification": metrics.loss_cls,
        "semi_hard": metrics.loss_semi_hard,
        "margin": metrics.loss_margin,
        "consistency": metrics.loss_consistency,
        "off_block": metrics.loss_off_block,
    }
    nothing = dict.fromkeys(terms, 0.0)
    for name, term in terms.items():
        total, _ = loss(params, weights=MemoryWeights(**{**nothing, name: 3.0}))
        np.testing.assert_allclose(total, 3 * term, rtol=1e-5)
    assert {field.name for field in dataclasses.fields(MemoryWeights)} == set(terms)


def gradients(params, **settings):
    return compute(params, **settings)[2]


@pytest.mark.long
def test_a_hard_block_has_no_gradient_outside(params):
    gradient = np.asarray(gradients(params, block="hard")["memory"])
    for v, n in enumerate([0, 0, 0, 1, 1]):
        assert (gradient[v, 1 - n] == 0).all()
        assert np.abs(gradient[v, n]).max() > 0
    assert loss(params, block="hard")[1].loss_off_block == 0


@pytest.mark.long
def test_a_frozen_encoder_has_no_gradient_and_its_memory_the_same(params):
    frozen, both = gradients(params, freeze_encoder=True), gradients(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(frozen["encoder"]))
    np.testing.assert_allclose(frozen["memory"], both["memory"], atol=1e-6)
    assert MemoryObjective(freeze_encoder=True).frozen == ("encoder",)
    assert MemoryObjective().frozen == ()


@pytest.mark.long
def test_the_reversal_adds_its_balanced_share(params):
    plain, _ = loss(params)
    total, metrics = loss(params, reversal=True, beta=0.3)
    own = jax.jit(ENCODER.apply)(params["encoder"], inputs().reshape(-1, 64, 64, 3))
    rows = LABELS.reshape(-1, 2)
    cls = float(classification_loss(own.logits, rows, SCHEMA))
    rev = float(reversal_loss(own.logits, rows, SCHEMA))
    np.testing.assert_allclose(metrics.loss_rev, rev, rtol=1e-5)
    np.testing.assert_allclose(metrics.w_rev, 0.3 * 0.2 * cls / rev, rtol=1e-5)
    np.testing.assert_allclose(total, plain + 0.3 * 0.2 * cls, rtol=1e-5)
    share = metrics.w_rev * metrics.loss_rev / (0.2 * metrics.loss_cls)
    assert share == pytest.approx(0.3 / 4, rel=0.15), "the classification term is the sum of four means"


OPTIMIZER = optax.adam(1e-2)


@functools.cache
def memory_step(seed, mirror):
    return make_memory_step(ENCODER, OPTIMIZER, seed=seed, total_steps=12, mirror=mirror)


def run(params, steps, seed=0, state=None, mirror=True):
    copy = jax.tree.map(jnp.array, params)
    state = state or TrainState.begin(copy, OPTIMIZER)
    step = memory_step(seed, mirror)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, PIXELS, LABELS, INDICATORS)
        losses.append(float(metrics.loss))
    return state, losses


@pytest.mark.long
def test_it_learns_its_batch_as_a_pure_function_of_seed_and_step(params):
    together, losses = run(params, 12)
    assert losses[-1] < 0.8 * losses[0]
    halfway, _ = run(params, 6)
    apart, _ = run(params, 6, state=jax.tree.map(jnp.array, halfway))
    jax.tree.map(np.testing.assert_array_equal, together, apart)
    assert together.step == 12


@pytest.mark.long
def test_where_nothing_is_mirrored_or_dropped_the_seed_changes_nothing(params):
    plain, again = (run(params, 1, seed=seed, mirror=False)[1] for seed in (0, 1))
    assert plain == again
    assert run(params, 1, seed=0)[1] != run(params, 1, seed=1)[1]
