"""Batches at the edge of what losses are defined for, through the compiled steps of every system."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import expected_labels
from gradrev_jax.core.decorrelation import decorrelation
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.memory_loss import MemoryObjective
from gradrev_jax.systems.objective import MemoryTargets
from gradrev_jax.training.adversarial_step import AdversarialTraining, make_adversarial_update
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.update import TrainState, all_finite, make_update

pytestmark = pytest.mark.usefixtures("small_backbone")

SCHEMA = AttributeSchema(
    ("color", "size", "brand"), (("blue", "green", "red"), ("s", "m"), ("the only one",))
)
BATCH, ADAM = 6, optax.adam(1e-2)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([[0, 1, 0], [1, -1, 0], [2, 0, -1], [0, 0, 0], [-1, 1, 0], [1, 1, 0]], np.int32)
ALL_BLACK = np.zeros_like(PIXELS)


def without(*attributes):
    labels = LABELS.copy()
    labels[:, list(attributes)] = -1
    return labels


EDGES = {
    "some labels missing": (PIXELS, LABELS),
    "no label of an attribute": (PIXELS, without(0)),
    "labels of one attribute alone": (PIXELS, without(0, 2)),
    "no label at all": (PIXELS, without(0, 1, 2)),
    "one image again and again": (PIXELS[:1].repeat(BATCH, 0), LABELS[:1].repeat(BATCH, 0)),
    "nothing but black": (ALL_BLACK, LABELS),
}
TABLES = {
    "expected": expected_labels(LABELS, SCHEMA),
    "decorrelation": decorrelation(LABELS, SCHEMA, largest=5.0),
}
SYSTEMS = {
    "balanced": ({}, {}),
    "pairwise": ({"heads": "pairwise"}, {"beta": 10.0}),
    "fixed": ({}, {"weighting": "fixed", "beta": 10.0}),
    "schedule": ({}, {"weighting": "schedule"}),
    "triplets": ({}, {"weighting": "off", "term_weights": {"attribute_triplet": 0.2, "label_triplet": 1.0}}),
    "compact": ({"unit_features": True}, {"weighting": "off", "term_weights": {"compactness": 1.0}}),
    "independent": (
        {"unit_features": True},
        {
            "weighting": "off",
            "term_weights": {"conditional_dependence": 10.0},
            "expected": TABLES["expected"],
        },
    ),
    "decorrelated": ({}, {"decorrelation": TABLES["decorrelation"]}),
    "repaired": ({}, {"weighting": "fixed", "beta": 0.3}),
}


def encoder_of(name, dtype=jnp.float32):
    fields = SYSTEMS[name][0]
    return AttributeEncoder(SCHEMA, feature_dim=5, backbone="small", dtype=dtype, **fields)


def stage_one(name, dtype=jnp.float32):
    """The update of a system, and its first state."""
    encoder, objective = encoder_of(name, dtype), EncoderObjective(**SYSTEMS[name][1])
    state = init_state(encoder, ADAM, input_size=8, seed=0)
    if name != "repaired":
        return make_update(encoder, ADAM, objective, seed=0, total_steps=10), state
    prior = conditionals(count_pairs(LABELS, SCHEMA), SCHEMA)
    training = AdversarialTraining(Adversaries(SCHEMA, copies=2, hidden=8), prior, ADAM)
    update = make_adversarial_update(training, encoder, ADAM, objective, seed=0, total_steps=10)
    return update, training.begin(state, feature_dim=5, seed=0)


def without_nans(update, state, images, targets):
    """Whether two steps on each of several batches stay finite, the second from where the first has led."""

    def steps(images, targets):
        def step(state, _):
            state, metrics = update(state, images, targets, None)
            return state, all_finite((state, metrics))

        return jax.lax.scan(step, state, length=2)[1]

    return np.asarray(jax.jit(jax.vmap(steps))(images, targets))


def assert_finite_at_the_edges(name, dtype, size=BATCH):
    images, labels = (np.stack(each)[:, :size] for each in zip(*EDGES.values(), strict=True))
    finite = without_nans(*stage_one(name, dtype), images, labels)
    assert finite.shape == (len(EDGES), 2)
    assert finite.all(), [edge for edge, each in zip(EDGES, finite, strict=True) if not each.all()]


LIKE_OTHERS = ("fixed", "schedule", "decorrelated", "compact")  # nearly the programs of others


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LIKE_OTHERS)) for name in SYSTEMS]
)
def test_every_system_stays_finite_at_the_edges(name):
    assert_finite_at_the_edges(name, jnp.float32)


@pytest.mark.long
def test_a_batch_of_one_in_bfloat16_is_trained_on():
    assert_finite_at_the_edges("independent", jnp.bfloat16, size=1)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, BATCH])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_stays_finite_at_the_edges_in_bfloat16(name, size):
    assert_finite_at_the_edges(name, jnp.bfloat16, size)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "dtype", "size"),
    [
        ("balanced", jnp.float32, 2),
        pytest.param("pairwise", jnp.float32, 1, marks=pytest.mark.long),
        pytest.param("compact", jnp.bfloat16, 2, marks=pytest.mark.long),
        pytest.param("balanced", jnp.bfloat16, 1, marks=pytest.mark.long),
    ],
)
def test_the_memory_stays_finite_at_the_edges(name, dtype, size):
    encoder = encoder_of(name, dtype)
    params = init_state(encoder, ADAM, input_size=8, seed=0).params
    memory = jnp.zeros((SCHEMA.num_values, SCHEMA.num_attributes, 5))  # of values without an image
    update = make_update(encoder, ADAM, MemoryObjective(reversal=True), seed=0, total_steps=10)
    state = TrainState.begin({"encoder": params, "memory": memory}, ADAM)
    images = np.stack([images[: 3 * size] for images, _ in EDGES.values()])
    labels = np.stack([labels[: 3 * size].reshape(3, size, -1) for _, labels in EDGES.values()])
    indicators = np.asarray(SCHEMA.one_hot(labels[:, 1]) - SCHEMA.one_hot(labels[:, 0])).astype(np.int32)
    assert without_nans(update, state, images, MemoryTargets(labels, indicators)).all()
