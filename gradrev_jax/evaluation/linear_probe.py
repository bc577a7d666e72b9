"""Logistic probes of many attributes on one feature, for several sets of fitting images at once.

All heads of a feature are one weight [J, F, r]: J values, F sets of fitting images, r inputs. They are fitted
together by conjugate gradients whose steps are Newton's along the line. The logits are linear in the weights,
so a step needs one product forward and one backward, and the line search needs none. Images are the last axis
of all that there is per image, so that sums over the values of an attribute add up whole rows.
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
      weights: the weights, [J, F, r].
      logits: the logits of all images, the base included, [J, F, m].
    """

    weights: Float[Array, "J F r"]
    logits: Float[Array, "J F m"]


class Objective(NamedTuple):
    """Represents what heads of one feature minimise: mean cross-entropy + strength / 2 * penalised squares.

    Attributes:
      x: the inputs, [m, r].
      penalty: the factor of each input's squared weights, [r]; 0 for the intercept.
      moment: the second moment of each input, [r].
      one_hot: the labels, [J, m]; zeros where not labelled.
      share: the share that each image has in the mean, [N, F, m]; 0 if it is not for fitting.
      strength: the strength of L2, [N, F].
      free: whether the heads are fitted at all, [N, F]; others keep their weights.
    """

    x: Float[Array | np.ndarray, "m r"]
    penalty: Float[Array | np.ndarray, " r"]
    moment: Float[Array | np.ndarray, " r"]
    one_hot: Float[Array, "J m"]
    share: Float[Array, "N F m"]
    strength: Float[Array, "N F"]
    free: Bool[Array, "N F"]


class _Descent(NamedTuple):
    """Represents the state of conjugate gradients; numbers [N, F] belong to one head each."""

    heads: Heads
    direction: Float[Array, "J F r"]
    gradient: Float[Array, "J F r"]
    slope: Float[Array, "N F"]
    step: Float[Array, "N F"]
    loss: Float[Array, "N F"]


def fit_heads(start: Heads, objective: Objective, schema: AttributeSchema, steps: int) -> Heads:
    """Minimises the objective of every head by preconditioned conjugate gradients.

    A step that raises a head's loss is shortened to a quarter in the next, so the loss does not rise.

    Args:
      start: the heads to start from; the logits have to be those of the weights.
      objective: what to minimise.
      schema: the attributes.
      steps: the number of steps.
    """
    to_values = functools.partial(_to_values, schema=schema)
    decay = to_values(objective.strength)[..., None] * objective.penalty
    free = to_values(objective.free.astype(jnp.float32))[..., None]
    scale = free / (CURVATURE * objective.moment + decay + 1e-9)
    weighted_one_hot = objective.one_hot[:, None] * to_values(objective.share)

    def by_head(x: Float[Array, "J F k"]) -> Float[Array, "N F"]:
        return _sum_values(x.sum(axis=-1), schema)

    def advance(_: Int[Array, ""], state: _Descent) -> _Descent:
        weights, logits = state.heads
        exponentials, normalizer = _exponentials(logits, schema)
        probability = exponentials * to_values(objective.share / normalizer)
        loss = (objective.share * jnp.log(normalizer)).sum(axis=-1) - by_head(weighted_one_hot * logits)
        loss += 0.5 * by_head(decay * weights**2)
        gradient = _product(probability - weighted_one_hot, objective.x) + decay * weights
        good = loss <= state.loss + 1e-6 * jnp.abs(state.loss)
        scaled = scale * gradient
        slope = by_head(gradient * scaled)
        turn = by_head((gradient - state.gradient) * scaled) / jnp.maximum(state.slope, 1e-30)
        conjugate = to_values(jnp.maximum(turn, 0.0))[..., None] * state.direction - scaled
        descends = to_values((by_head(gradient * conjugate) < 0).astype(jnp.float32))[..., None]
        conjugate = jnp.where(descends > 0, conjugate, -scaled)
        kept = to_values(good.astype(jnp.float32))[..., None] > 0
        direction = jnp.where(kept, conjugate, state.direction)
        change = _product(direction, objective.x.T)
        changed = probability * change
        variance = (_sum_values(changed, schema) ** 2 / jnp.maximum(objective.share, 1e-30)).sum(axis=-1)
        curvature = by_head(changed * change) - variance + by_head(decay * direction**2)
        newton = -by_head(gradient * direction) / jnp.maximum(curvature, 1e-30)
        move = to_values(jnp.where(good, newton, -0.75 * state.step))[..., None]
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
    logits: Float[Array, "J F m"], one_hot: Float[Array, "J m"], schema: AttributeSchema
) -> Float[Array, "N F m"]:
    """Computes the cross-entropy of each image and attribute; of no meaning where it is not labelled."""
    _, normalizer = _exponentials(logits, schema)
    return jnp.log(normalizer) - _sum_values(one_hot[:, None] * logits, schema)


class _Choice(NamedTuple):
    """Represents the best heads so far of each fold and attribute, by the loss on the inner fold."""

    loss: Float[Array, "N T"]
    strength: Float[Array, "N T"]
    weights: Float[Array, "J T r"]


def score_linear(inputs: ProbeInputs, folds: Folds, schema: AttributeSchema) -> Scored:
    """Fits the linear probes of one feature, and scores every test image by those that never saw it.

    The strength of L2 is chosen for each fold and attribute by the log-loss on another fold, with probes that
    saw neither of the two. With it, the probes are fitted again to all images outside of the fold.

    Args:
      inputs: the inputs and the labels of one feature.
      folds: which images probes are fitted to, and scored on.
      schema: the attributes.
    """
    one_hot, labelled = labels_by_value(inputs.labels, schema)
    base = base_of_images(inputs)
    pairs = folds.without_pair.shape[1]
    every = jnp.ones((schema.num_attributes, pairs))
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
    heads = Heads(choice.weights, base[:, pairs:] + _product(choice.weights, inputs.x.T))
    heads = fit_heads(heads, objective, schema, REFIT_STEPS)
    logits, base_logits = (of_fold(x, folds.fold) for x in (heads.logits, base[:, pairs:]))
    return Scored(
        cross_entropies(logits[:, None], one_hot, schema)[:, 0].T,
        cross_entropies(base_logits[:, None], one_hot, schema)[:, 0].T,
        predictions(logits, schema).T,
        choice.loss.T,
        choice.strength.T,
    )


def _choose(
    objective: Objective,
    base: Float[Array, "J P m"],
    inner: Float[Array, "N T m"],
    folds: Folds,
    schema: AttributeSchema,
) -> _Choice:
    """Fits heads at all strengths, and returns those with the least loss on each inner fold."""
    weights = jnp.zeros((*base.shape[:2], objective.x.shape[1]))

    def inner_loss(heads: Heads) -> Float[Array, "N T"]:
        losses = cross_entropies(heads.logits, objective.one_hot, schema)[:, folds.pair_of]
        return (inner * losses).sum(axis=-1)

    def tighten(carry: tuple[Heads, _Choice], strength: Float[Array, ""]) -> tuple:
        heads, best = carry
        strengths = jnp.full_like(objective.strength, strength)
        heads = fit_heads(heads, objective._replace(strength=strengths), schema, PATH_STEPS)
        loss = inner_loss(heads)
        better = loss < best.loss
        of_values = _to_values(better.astype(jnp.float32), schema)[..., None] > 0
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


def labels_by_value(
    labels: Int[Array | np.ndarray, "m N"], schema: AttributeSchema
) -> tuple[Float[Array, "J m"], Float[Array, "N m"]]:
    """Returns labels one-hot, zeros where there is none, and whether there is one, 0/1."""
    return schema.one_hot(labels).T, (jnp.asarray(labels) >= 0).astype(jnp.float32).T


def base_of_images(inputs: ProbeInputs) -> Float[Array, "J F m"]:
    """Returns what is known of each image's values without the feature, as log-probabilities."""
    return jnp.asarray(inputs.base).T[..., inputs.own]


def of_fold(numbers: Float[Array, "k F m"], positions: Int[Array | np.ndarray, " m"]) -> Float[Array, "k m"]:
    """Returns of several sets of fitting images the numbers of one for each image."""
    return jnp.take_along_axis(numbers, positions[None, None], axis=1)[:, 0]


def predictions(logits: Float[Array, "J m"], schema: AttributeSchema) -> Int[Array, "N m"]:
    """Returns the value of each attribute with the largest logit; ties go to the lower value."""
    return jnp.stack(
        [
            logits[offset : offset + size].argmax(axis=0)
            for offset, size in zip(schema.offsets, schema.sizes, strict=True)
        ]
    )


def shares(labelled: Float[Array, "N m"], fits: Float[Array | np.ndarray, "m F"]) -> Float[Array, "N F m"]:
    """Returns the share that each image has in the mean loss of each attribute."""
    counted = labelled[:, None] * fits.T
    return counted / jnp.maximum(counted.sum(axis=-1, keepdims=True), 1)


def _sum_values(numbers: Float[Array, "J ..."], schema: AttributeSchema) -> Float[Array, "N ..."]:
    """Returns sums over the values of each attribute."""
    return _product(schema.membership.T, numbers)


def _to_values(numbers: Float[Array, "N ..."], schema: AttributeSchema) -> Float[Array, "J ..."]:
    """Returns for each value the numbers of its attribute."""
    return _product(schema.membership, numbers)


def _exponentials(
    logits: Float[Array, "J F m"], schema: AttributeSchema
) -> tuple[Float[Array, "J F m"], Float[Array, "N F m"]]:
    """Returns the exponentials of logits and their sums by attribute; logits are bounded, not shifted.

    The bases are log-probabilities and the weights are penalised, so no logit comes near the bound, and a
    shift by each attribute's maximum would cost as much as the rest of a step.
    """
    exponentials = jnp.exp(jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))
    return exponentials, _sum_values(exponentials, schema)


def _product(left: Float[Array | np.ndarray, "... k"], right: Float[Array | np.ndarray, "k ..."]) -> Array:
    """Multiplies with all further axes of either side in one product."""
    rows, columns = left.reshape(-1, left.shape[-1]), right.reshape(len(right), -1)
    return _multiply(rows, columns).reshape(*left.shape[:-1], *right.shape[1:])
