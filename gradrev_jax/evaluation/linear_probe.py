"""Logistic probes of many attributes on one feature, for several sets of fitting images at once.

All heads of a feature are one weight [r, F, J]: r inputs, F sets of fitting images, J values. They are fitted
together by conjugate gradients whose steps are Newton's along the line. The logits are linear in the weights,
so a step needs one product forward and one backward, and the line search needs none.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.evaluation.probe_data import Folds, ProbeInputs, Scored

# The strengths of L2 that are tried, strongest first, each from the solution of the one before; besides them,
# "infinite": the base alone.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
PATH_STEPS = 5  # of conjugate gradients per strength
REFIT_STEPS = 15
LARGEST_LOGIT = 60.0  # exp of it, summed over any number of values, is finite in float32
CURVATURE = 0.1  # the typical p (1 - p), by which the preconditioner balances the loss and the penalty

_multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Heads(NamedTuple):
    """Represents fitted heads of one feature.

    Attributes:
      weights: the weights, [r, F, J].
      logits: the logits of all images, the base included, [m, F, J].
    """

    weights: Float[Array, "r F J"]
    logits: Float[Array, "m F J"]


class Objective(NamedTuple):
    """Represents what heads of one feature minimise: mean cross-entropy + strength / 2 * penalised squares.

    Attributes:
      x: the inputs, [m, r].
      penalty: the factor of each input's squared weights, [r]; 0 for the intercept.
      moment: the second moment of each input, [r].
      one_hot: the labels, [m, J]; zeros where not labelled.
      share: the share that each image has in the mean, [m, F, N]; 0 if it is not for fitting.
      strength: the strength of L2, [F, N].
      free: whether the heads are fitted at all, [F, N]; others keep their weights.
    """

    x: Float[Array | np.ndarray, "m r"]
    penalty: Float[Array | np.ndarray, " r"]
    moment: Float[Array | np.ndarray, " r"]
    one_hot: Float[Array, "m J"]
    share: Float[Array, "m F N"]
    strength: Float[Array, "F N"]
    free: Bool[Array, "F N"]


class _Descent(NamedTuple):
    """Represents the state of conjugate gradients; numbers [F, N] belong to one head each."""

    heads: Heads
    direction: Float[Array, "r F J"]
    gradient: Float[Array, "r F J"]
    slope: Float[Array, "F N"]
    step: Float[Array, "F N"]
    loss: Float[Array, "F N"]


def fit_heads(start: Heads, objective: Objective, schema: AttributeSchema, steps: int) -> Heads:
    """Minimises the objective of every head by preconditioned conjugate gradients.

    A step that raises a head's loss is shortened to a quarter in the next, so the loss does not rise.

    Args:
      start: the heads to start from; the logits have to be those of the weights.
      objective: what to minimise.
      schema: the attributes.
      steps: the number of steps.
    """
    to_values, to_attributes = schema.membership.T, schema.membership
    strength = _multiply(objective.strength, to_values)
    free = _multiply(objective.free.astype(jnp.float32), to_values)
    decay = objective.penalty[:, None, None] * strength
    scale = free / (CURVATURE * objective.moment[:, None, None] + decay + 1e-9)
    weighted_one_hot = objective.one_hot[:, None] * _multiply(objective.share, to_values)

    def by_head(x: Float[Array | np.ndarray, "k F J"]) -> Float[Array, "F N"]:
        return _multiply(x.sum(axis=0), to_attributes)

    def advance(_: Int[Array, ""], state: _Descent) -> _Descent:
        weights, logits = state.heads
        exponentials, normalizer = _exponentials(logits, schema)
        ratio = objective.share / normalizer
        probability = exponentials * _multiply(ratio, to_values)
        log_likelihood = by_head(weighted_one_hot * logits)
        loss = (objective.share * jnp.log(normalizer)).sum(axis=0) - log_likelihood
        loss += 0.5 * by_head(decay * weights**2)
        gradient = _transposed_product(objective.x, probability - weighted_one_hot) + decay * weights
        good = loss <= state.loss + 1e-6 * jnp.abs(state.loss)
        scaled = scale * gradient
        slope = by_head(gradient * scaled)
        turn = by_head((gradient - state.gradient) * scaled) / jnp.maximum(state.slope, 1e-30)
        turn = _multiply(jnp.maximum(turn, 0.0), to_values)
        conjugate = turn * state.direction - scaled
        descends = _multiply((by_head(gradient * conjugate) < 0).astype(jnp.float32), to_values)
        conjugate = jnp.where(descends > 0, conjugate, -scaled)
        kept = _multiply(good.astype(jnp.float32), to_values) > 0
        direction = jnp.where(kept, conjugate, state.direction)
        change = _product(objective.x, direction)
        mean = _multiply(probability * change, to_attributes)
        variance = (mean**2 / jnp.maximum(objective.share, 1e-30)).sum(axis=0)
        curvature = by_head(probability * change**2) - variance + by_head(decay * direction**2)
        newton = -by_head(gradient * direction) / jnp.maximum(curvature, 1e-30)
        move = _multiply(jnp.where(good, newton, -0.75 * state.step), to_values)
        return _Descent(
            Heads(weights + move * direction, logits + move * change),
            direction,
            jnp.where(kept, gradient, state.gradient),
            jnp.where(good, slope, state.slope),
            jnp.where(good, newton, 0.25 * state.step),
            jnp.where(good, loss, state.loss),
        )

    zeros, none = jnp.zeros_like(start.weights), jnp.zeros_like(objective.strength)
    first = _Descent(start, zeros, zeros, none, none, jnp.full_like(none, jnp.inf))
    return jax.lax.fori_loop(0, steps, advance, first).heads


def cross_entropies(
    logits: Float[Array, "m F J"], one_hot: Float[Array, "m J"], schema: AttributeSchema
) -> Float[Array, "m F N"]:
    """Computes the cross-entropy of each image and attribute; of no meaning where it is not labelled."""
    _, normalizer = _exponentials(logits, schema)
    return jnp.log(normalizer) - _multiply(one_hot[:, None] * logits, schema.membership)


class _Choice(NamedTuple):
    """Represents the best heads so far of each fold and attribute, by the loss on the inner fold."""

    loss: Float[Array, "T N"]
    strength: Float[Array, "T N"]
    weights: Float[Array, "r T J"]


def score_linear(inputs: ProbeInputs, folds: Folds, schema: AttributeSchema) -> Scored:
    """Fits the linear probes of one feature, and scores every test image by those that never saw it.

    The strength of L2 is chosen for each fold and attribute by the log-loss on another fold, with probes that
    saw neither of the two. With it, the probes are fitted again to all images outside of the fold.

    Args:
      inputs: the inputs and the labels of one feature.
      folds: which images probes are fitted to, and scored on.
      schema: the attributes.
    """
    one_hot = schema.one_hot(inputs.labels)
    labelled = (jnp.asarray(inputs.labels) >= 0).astype(jnp.float32)
    base = inputs.base[inputs.own]
    pairs = folds.without_pair.shape[1]
    every = jnp.ones((pairs, schema.num_attributes))
    objective = Objective(
        inputs.x,
        inputs.penalty,
        inputs.moment,
        one_hot,
        shares(labelled, folds.without_pair),
        every,
        every > 0,
    )
    choice = _choose(objective, base[:, :pairs], shares(labelled, folds.inner), folds, schema)
    free = jnp.isfinite(choice.strength)
    objective = objective._replace(
        share=shares(labelled, folds.without_fold), strength=jnp.where(free, choice.strength, 1.0), free=free
    )
    heads = Heads(choice.weights, base[:, pairs:] + _product(inputs.x, choice.weights))
    heads = fit_heads(heads, objective, schema, REFIT_STEPS)
    logits = jnp.take_along_axis(heads.logits, folds.fold[:, None, None], axis=1)
    own_loss = cross_entropies(logits, one_hot, schema)[:, 0]
    base_logits = jnp.take_along_axis(base[:, pairs:], folds.fold[:, None, None], axis=1)
    base_loss = cross_entropies(base_logits, one_hot, schema)[:, 0]
    return Scored(own_loss, base_loss, predictions(logits[:, 0], schema), choice.loss, choice.strength)


def _choose(
    objective: Objective,
    base: Float[Array, "m P J"],
    inner: Float[Array, "m T N"],
    folds: Folds,
    schema: AttributeSchema,
) -> _Choice:
    """Fits heads at all strengths, and returns those with the least loss on each inner fold."""
    weights = jnp.zeros((objective.x.shape[1], *base.shape[1:]))

    def inner_loss(heads: Heads) -> Float[Array, "T N"]:
        losses = cross_entropies(heads.logits, objective.one_hot, schema)[:, folds.pair_of]
        return (inner * losses).sum(axis=0)

    def tighten(carry: tuple[Heads, _Choice], strength: Float[Array, ""]) -> tuple:
        heads, best = carry
        strengths = jnp.full_like(objective.strength, strength)
        heads = fit_heads(heads, objective._replace(strength=strengths), schema, PATH_STEPS)
        loss = inner_loss(heads)
        better = loss < best.loss
        of_values = _multiply(better.astype(jnp.float32), schema.membership.T) > 0
        best = _Choice(
            jnp.where(better, loss, best.loss),
            jnp.where(better, strength, best.strength),
            jnp.where(of_values, heads.weights[:, folds.pair_of], best.weights),
        )
        return (heads, best), None

    heads = Heads(weights, base)
    loss = inner_loss(heads)
    nothing = _Choice(loss, jnp.full_like(loss, jnp.inf), weights[:, folds.pair_of])
    (_, best), _ = jax.lax.scan(tighten, (heads, nothing), jnp.asarray(STRENGTHS))
    return best


def predictions(logits: Float[Array, "m J"], schema: AttributeSchema) -> Int[Array, "m N"]:
    """Returns the value of each attribute with the largest logit; ties go to the lower value."""
    return jnp.stack(
        [
            logits[:, offset : offset + size].argmax(axis=1)
            for offset, size in zip(schema.offsets, schema.sizes, strict=True)
        ],
        axis=1,
    )


def shares(labelled: Float[Array, "m N"], fits: Float[Array | np.ndarray, "m F"]) -> Float[Array, "m F N"]:
    """Returns the share that each image has in the mean loss of each attribute."""
    counted = labelled[:, None] * fits[:, :, None]
    return counted / jnp.maximum(counted.sum(axis=0), 1)


def _exponentials(
    logits: Float[Array, "m F J"], schema: AttributeSchema
) -> tuple[Float[Array, "m F J"], Float[Array, "m F N"]]:
    """Returns the exponentials of logits and their sums by attribute; logits are bounded, not shifted.

    The bases are log-probabilities and the weights are penalised, so no logit comes near the bound, and a
    shift by each attribute's maximum would cost as much as the rest of a step.
    """
    exponentials = jnp.exp(jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))
    return exponentials, _multiply(exponentials, schema.membership)


def _product(x: Float[Array | np.ndarray, "m r"], weights: Float[Array, "r F J"]) -> Float[Array, "m F J"]:
    """Multiplies inputs with all heads in one product."""
    return _multiply(x, weights.reshape(len(weights), -1)).reshape(len(x), *weights.shape[1:])


def _transposed_product(
    x: Float[Array | np.ndarray, "m r"], errors: Float[Array, "m F J"]
) -> Float[Array, "r F J"]:
    return _multiply(x.T, errors.reshape(len(errors), -1)).reshape(x.shape[1], *errors.shape[1:])
