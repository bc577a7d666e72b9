"""Small MLP probes of many attributes on one feature, beside the linear ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.optimizers import learning_rate_schedule, make_optimizer
from gradrev_jax.evaluation.linear_probe import (
    base_of_images,
    labels_by_value,
    predictions,
    select_sets,
    shares,
)
from gradrev_jax.evaluation.logistic_heads import cross_entropies
from gradrev_jax.evaluation.probe_data import Folds, ProbeInputs, ProbeOutcome

HIDDEN = 128
RESTARTS = 2
EPOCHS = 12
BATCH = 256
FEWEST_BATCHES = 9  # per epoch, so that few images are trained on long enough
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-2


class _Networks(NamedTuple):
    """Represents one network per pair of folds (P) and restart (R); the first layer is one product."""

    hidden: Float[Array, "P R H r"]
    output: Float[Array, "P R J H"]
    bias: Float[Array, "P R J 1"]


class _Training(NamedTuple):
    """Represents networks and the state of their optimizer."""

    networks: _Networks
    optimizer: optax.OptState


class _Progress(NamedTuple):
    """Represents networks in training, and the outcome of the best choice so far."""

    training: _Training
    best: ProbeOutcome


def score_mlp(
    inputs: ProbeInputs, linear: ProbeOutcome, folds: Folds, seed: Int[Array, ""], schema: AttributeSchema
) -> ProbeOutcome:
    """Trains MLPs of one hidden layer on one feature, and scores every test image by one that never saw it.

    A network leaves out a pair of folds. To score one of them, the epoch and the restart are chosen, for each
    attribute, by the log-loss on the other. The linear probe is among the candidates, and is kept where no
    network is better.

    Args:
      inputs: the inputs and the labels of one feature.
      linear: the scores of the linear probes.
      folds: which images probes are fitted to, and scored on.
      seed: the seed of the first weights and of the batches.
      schema: the attributes.
    """
    rows, pairs = len(inputs.labels), folds.without_pair.shape[1]
    one_hot, labelled = labels_by_value(inputs.labels, schema)
    base = base_of_images(inputs)[:, :pairs]
    share = shares(labelled, folds.without_pair) * rows
    inner = shares(labelled, folds.inner)
    batches = min(max(FEWEST_BATCHES, rows // BATCH), rows)
    size = rows // batches
    schedule = learning_rate_schedule(
        LEARNING_RATE, kind="cosine", decay_rate=1.0, decay_steps=1, total_steps=batches * EPOCHS
    )
    optimizer = make_optimizer(schedule, weight_decay=WEIGHT_DECAY)

    def loss(networks: _Networks, batch: Int[Array, " B"]) -> Float[Array, ""]:
        logits = base[:, :, batch][:, :, None] + _apply(networks, inputs.x[batch])
        flat = logits.reshape(schema.num_values, -1, len(batch))
        losses = cross_entropies(flat, one_hot[:, batch], schema)
        return (jnp.repeat(share[..., batch], RESTARTS, axis=1) * losses).sum() / len(batch)

    def update(training: _Training, batch: Int[Array, " B"]) -> tuple[_Training, None]:
        networks, state = training
        updates, state = optimizer.update(jax.grad(loss)(networks, batch), state, networks)
        return _Training(optax.apply_updates(networks, updates), state), None

    def epoch(progress: _Progress, key: Array) -> tuple[_Progress, None]:
        order = jax.random.permutation(key, rows)[: batches * size].reshape(batches, size)
        training, _ = jax.lax.scan(update, progress.training, order)
        logits, best = base[:, :, None] + _apply(training.networks, inputs.x), progress.best
        for restart in range(RESTARTS):
            best = _better(best, logits[:, :, restart], one_hot, inner, folds, schema)
        return _Progress(training, best), None

    first, *keys = jax.random.split(jax.random.key(seed), EPOCHS + 1)
    networks = _start(first, inputs.x.shape[1], pairs, schema)
    start = _Progress(_Training(networks, optimizer.init(networks)), linear)
    return jax.lax.scan(epoch, start, jnp.stack(keys))[0].best


def _better(
    best: ProbeOutcome,
    logits: Float[Array, "J P m"],
    one_hot: Float[Array, "J m"],
    inner: Float[Array, "N T m"],
    folds: Folds,
    schema: AttributeSchema,
) -> ProbeOutcome:
    """Returns the scores of networks where their loss on the inner fold is less, and the best else."""
    losses = cross_entropies(logits, one_hot, schema)
    inner_loss = (inner * losses[:, folds.pair_of]).sum(axis=-1).T
    wins = inner_loss < best.inner_loss
    of_images = wins[folds.fold]
    pair = jnp.asarray(folds.pair_of)[folds.fold]
    return best._replace(
        loss=jnp.where(of_images, select_sets(losses, pair).T, best.loss),
        predicted=jnp.where(of_images, predictions(select_sets(logits, pair), schema).T, best.predicted),
        inner_loss=jnp.where(wins, inner_loss, best.inner_loss),
    )


def _start(key: Array, width: int, pairs: int, schema: AttributeSchema) -> _Networks:
    """Returns networks whose outputs are 0, so that training starts at the base."""
    hidden = jax.random.normal(key, (width, 1, RESTARTS, HIDDEN)) / np.sqrt(width)
    return _Networks(
        jnp.broadcast_to(jnp.moveaxis(hidden, 0, -1), (pairs, RESTARTS, HIDDEN, width)),
        jnp.zeros((pairs, RESTARTS, schema.num_values, HIDDEN)),
        jnp.zeros((pairs, RESTARTS, schema.num_values, 1)),
    )


def _apply(networks: _Networks, x: Float[Array | np.ndarray, "m r"]) -> Float[Array, "J P R m"]:
    hidden = networks.hidden
    hidden = jax.nn.relu(hidden.reshape(-1, x.shape[1]) @ x.T).reshape(*hidden.shape[:-1], len(x))
    return jnp.moveaxis(networks.output @ hidden + networks.bias, 2, 0)
