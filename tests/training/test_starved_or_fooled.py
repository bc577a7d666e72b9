"""A planted leak: the printed reversal fools its classifiers, and the repaired one removes the leak."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.training.adversarial_step import AdversarialTraining, make_adversarial_update
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.update import make_update

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=8, backbone="embeddings", tap="raw", dropout=0.0)
OPTIMIZER = optax.adam(1e-3)
STEPS, BATCH = 1500, 64


def draw(seed, count=2048):
    """Vectors from which either attribute can be read, and labels that go together in part."""
    rng = np.random.default_rng(seed)
    colour, size = rng.integers(0, 3, count), rng.integers(0, 2, count)
    size = np.where(rng.random(count) < 0.4, colour == 0, size)
    centres = np.random.default_rng(7).normal(size=(5, 16))
    vectors = centres[colour] + centres[3 + size] + rng.normal(size=(count, 16))
    return vectors.astype(np.float32), np.stack([colour, size], axis=1).astype(np.int32)


VECTORS, LABELS = draw(0)
FRESH_VECTORS, FRESH_LABELS = draw(1)


def trained(update, state):
    """The parameters after all steps, on random batches."""
    vectors, labels = jnp.asarray(VECTORS)[:, None], jnp.asarray(LABELS)

    def step(state, key):
        rows = jax.random.randint(key, (BATCH,), 0, len(vectors))
        return update(state, vectors[rows], labels[rows])[0], None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    return run(state, jax.random.split(jax.random.key(3), STEPS)).params


@functools.cache
def outputs(system):
    """Features and logits of the images that were trained on, and of fresh ones."""
    state = init_state(ENCODER, OPTIMIZER, input_size=16, seed=0)
    if system == "repaired":
        objective = EncoderObjective(weighting="fixed", beta=0.3)
        adversaries = Adversaries(SCHEMA, hidden=32)
        training = AdversarialTraining(
            adversaries, conditionals(count_pairs(LABELS, SCHEMA), SCHEMA), optax.adam(1e-2)
        )
        state = training.begin(state, feature_dim=8, seed=0)
        update = make_adversarial_update(
            training, ENCODER, OPTIMIZER, objective, seed=0, total_steps=1, mirror=False
        )
    else:
        objective = EncoderObjective(weighting="balanced" if system == "shared" else "off")
        update = make_update(ENCODER, OPTIMIZER, objective, seed=0, total_steps=1, mirror=False)
    params = trained(update, state)
    return [ENCODER.apply(params, jnp.asarray(vectors)) for vectors in (VECTORS, FRESH_VECTORS)]


def own_accuracy(system):
    logits = np.asarray(outputs(system)[1].logits)
    said = np.column_stack([logits[:, 0, :3].argmax(axis=1), logits[:, 1, 3:].argmax(axis=1)])
    return (said == FRESH_LABELS).mean(axis=0)


def leakage(system, j, n):
    """The share of attribute n, beyond the own label, that a fresh linear classifier reads in feature j.

    Fitted for each own label apart; its cross-entropy on fresh images against that of plain frequencies.
    """
    seen, fresh = (np.asarray(output.features, np.float64)[:, j] for output in outputs(system))
    centre, spread = seen.mean(axis=0), seen.std(axis=0)
    read = there = 0.0
    for own in range(SCHEMA.sizes[j]):
        train, test = LABELS[:, j] == own, FRESH_LABELS[:, j] == own
        labels, others = LABELS[train, n], FRESH_LABELS[test, n]
        log_p = fresh_classifier((seen[train] - centre) / spread, labels, (fresh[test] - centre) / spread)
        there -= np.log(np.bincount(labels) / len(labels))[others].sum()
        read -= log_p[np.arange(len(others)), others].sum()
    return 1 - read / there


def fresh_classifier(x, labels, asked):
    one_hot = np.eye(labels.max() + 1)[labels]
    shape = (x.shape[1] + 1, one_hot.shape[1])
    x, asked = (np.column_stack([each, np.ones(len(each))]) for each in (x, asked))

    def loss(flat):
        log_p = log_softmax(x @ flat.reshape(shape), axis=1)
        gradient = x.T @ (np.exp(log_p) - one_hot) / len(x) + 2e-3 * flat.reshape(shape)
        return -(log_p * one_hot).sum() / len(x) + 1e-3 * (flat**2).sum(), gradient.ravel()

    fitted = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x
    return log_softmax(asked @ fitted.reshape(shape), axis=1)


@pytest.mark.slow
def test_the_printed_reversal_fools_and_the_repaired_one_starves():
    accuracies = {system: own_accuracy(system) for system in ("no_reversal", "shared", "repaired")}
    leaks = {
        system: np.mean([leakage(system, 0, 1), leakage(system, 1, 0)])
        for system in ("no_reversal", "shared", "repaired")
    }
    logits = np.asarray(outputs("shared")[1].logits)
    read_of_size = (logits[:, 0, 3:].argmax(axis=1) == FRESH_LABELS[:, 1]).mean()
    majority = np.bincount(FRESH_LABELS[:, 1]).max() / len(FRESH_LABELS)
    assert read_of_size < majority, "the classifiers that it is played against read nothing"
    assert leaks["shared"] > 0.9 * leaks["no_reversal"] > 0.3, "but a fresh one does"
    assert leaks["repaired"] < 0.25 * leaks["no_reversal"]
    assert (accuracies["repaired"] > accuracies["no_reversal"] - 0.01).all()
    assert (accuracies["repaired"] > 0.95).all()
