"""Logistic heads of many attributes on one feature, fitted together for several sets of images.

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

LARGEST_LOGIT = 60.0  # exp of it, summed over any number of values, is finite in float32
CURVATURE = 0.1  # the typical p (1 - p), by which the preconditioner balances the loss and the penalty
LOSS_ROUNDING = 1e-6  # a loss that rises by no more than this fraction of it has not risen
SHORTENED = 0.25  # the fraction of a step that is kept if it has raised the loss
TINY = 1e-30  # in place of a divisor of 0

_multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Heads(NamedTuple):
    """Represents fitted heads of one feature.

    Attributes:
      weights: the weights, [J, F, r].
      logits: the logits of all images, the base included, [J, F, m].
    """

    weights: Float[Array, "J F r"]
    logits: Float[Array, "J F m"]


class ProbeProblem(NamedTuple):
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


class _Factors(NamedTuple):
    """Represents what no step changes: factors of the weights, and of the logits.

    Attributes:
      decay: twice the factor of each weight's square in the loss, [J, F, r].
      preconditioner: the factor of each weight's gradient, [J, F, r]; 0 for heads that keep their weights.
      target: the factor of each logit in the loss, negated, [J, F, m]: the one-hot labels times their share.
    """

    decay: Float[Array, "J F r"]
    preconditioner: Float[Array, "J F r"]
    target: Float[Array, "J F m"]


class _Evaluated(NamedTuple):
    """Represents the loss at some weights, its gradient, and the probabilities there, times their share."""

    loss: Float[Array, "N F"]
    gradient: Float[Array, "J F r"]
    probability: Float[Array, "J F m"]


class _Descent(NamedTuple):
    """Represents the state of conjugate gradients; numbers [N, F] belong to one head each.

    Attributes:
      heads: the heads after the last step, which may turn out to have been too long.
      direction: the direction of that step.
      step: its length, as a factor of the direction.
      loss: the loss at the last weights that were accepted.
      gradient: the gradient there.
      square_norm: the squared length of that gradient, preconditioned.
    """

    heads: Heads
    direction: Float[Array, "J F r"]
    step: Float[Array, "N F"]
    loss: Float[Array, "N F"]
    gradient: Float[Array, "J F r"]
    square_norm: Float[Array, "N F"]


def fit_heads(start: Heads, problem: ProbeProblem, schema: AttributeSchema, steps: int) -> Heads:
    """Minimises the loss of every head by preconditioned conjugate gradients.

    A step that raises a head's loss is shortened to a quarter in the next. The last step is not checked.

    Args:
      start: the heads to start from; the logits have to be those of the weights.
      problem: what to minimise.
      schema: the attributes.
      steps: the number of steps.
    """
    decay = _to_values(problem.strength, schema)[..., None] * problem.penalty
    free = _to_values(problem.free.astype(jnp.float32), schema)[..., None]
    factors = _Factors(
        decay,
        # 1e-9: inputs that are all 0 may have neither a moment nor a penalty.
        preconditioner=free / (CURVATURE * problem.moment + decay + 1e-9),
        target=problem.one_hot[:, None] * _to_values(problem.share, schema),
    )

    def advance(_: Int[Array, ""], last: _Descent) -> _Descent:
        here = _evaluate(last.heads, problem, factors, schema)
        accepted = here.loss <= last.loss + LOSS_ROUNDING * jnp.abs(last.loss)
        conjugate, square_norm = _conjugate(here.gradient, last, factors, schema)
        direction = where_heads(accepted, conjugate, last.direction, schema)
        direction_logits = product(direction, problem.x.T)
        newton_step = _newton_step(here, direction, direction_logits, problem, factors, schema)
        # A rejected step goes most of the way back, along the direction in which it came.
        move = jnp.where(accepted, newton_step, (SHORTENED - 1) * last.step)
        move = _to_values(move, schema)[..., None]
        weights, logits = last.heads
        return _Descent(
            Heads(weights + move * direction, logits + move * direction_logits),
            direction,
            step=jnp.where(accepted, newton_step, SHORTENED * last.step),
            loss=jnp.where(accepted, here.loss, last.loss),
            gradient=where_heads(accepted, here.gradient, last.gradient, schema),
            square_norm=jnp.where(accepted, square_norm, last.square_norm),
        )

    zeros, none = jnp.zeros_like(start.weights), jnp.zeros_like(problem.strength)
    first = _Descent(
        start, zeros, step=none, loss=jnp.full_like(none, jnp.inf), gradient=zeros, square_norm=none
    )
    return jax.lax.fori_loop(0, steps, advance, first).heads


def _evaluate(heads: Heads, problem: ProbeProblem, factors: _Factors, schema: AttributeSchema) -> _Evaluated:
    """Computes the loss of each head and its gradient."""
    weights, logits = heads
    exponentials, normalizer = _exponentials(logits, schema)
    probability = exponentials * _to_values(problem.share / normalizer, schema)
    loss = (problem.share * jnp.log(normalizer)).sum(axis=-1) - _by_head(factors.target * logits, schema)
    loss += 0.5 * _by_head(factors.decay * weights**2, schema)
    gradient = product(probability - factors.target, problem.x) + factors.decay * weights
    return _Evaluated(loss, gradient, probability)


def _conjugate(
    gradient: Float[Array, "J F r"], last: _Descent, factors: _Factors, schema: AttributeSchema
) -> tuple[Float[Array, "J F r"], Float[Array, "N F"]]:
    """Returns the direction after a step that was accepted, and the squared length of the gradient."""
    scaled = factors.preconditioner * gradient
    square_norm = _by_head(gradient * scaled, schema)
    # The formula of Polak and Ribière; where it is negative, 0 starts anew from the gradient.
    beta = _by_head((gradient - last.gradient) * scaled, schema) / jnp.maximum(last.square_norm, TINY)
    conjugate = _to_values(jnp.maximum(beta, 0.0), schema)[..., None] * last.direction - scaled
    descends = _by_head(gradient * conjugate, schema) < 0
    return where_heads(descends, conjugate, -scaled, schema), square_norm


def _newton_step(
    here: _Evaluated,
    direction: Float[Array, "J F r"],
    direction_logits: Float[Array, "J F m"],
    problem: ProbeProblem,
    factors: _Factors,
    schema: AttributeSchema,
) -> Float[Array, "N F"]:
    """Returns the factor of the direction at which the loss would be least if it were quadratic."""
    expected = here.probability * direction_logits
    square_of_mean = _sum_values(expected, schema) ** 2 / jnp.maximum(problem.share, TINY)
    curvature = _by_head(expected * direction_logits, schema) - square_of_mean.sum(axis=-1)
    curvature += _by_head(factors.decay * direction**2, schema)
    return -_by_head(here.gradient * direction, schema) / jnp.maximum(curvature, TINY)


def cross_entropies(
    logits: Float[Array, "J F m"], one_hot: Float[Array, "J m"], schema: AttributeSchema
) -> Float[Array, "N F m"]:
    """Computes the cross-entropy of each image and attribute; of no meaning where it is not labelled."""
    _, normalizer = _exponentials(logits, schema)
    return jnp.log(normalizer) - _sum_values(one_hot[:, None] * logits, schema)


def where_heads(
    chosen: Bool[Array, "N F"],
    these: Float[Array, "J F k"],
    others: Float[Array, "J F k"],
    schema: AttributeSchema,
) -> Float[Array, "J F k"]:
    """Returns the numbers of ``these`` for the values of the chosen heads, of ``others`` for all further."""
    is_of_chosen = _to_values(chosen.astype(jnp.float32), schema)[..., None] > 0
    return jnp.where(is_of_chosen, these, others)


def _by_head(numbers: Float[Array, "J F k"], schema: AttributeSchema) -> Float[Array, "N F"]:
    """Returns sums over all numbers of each head."""
    return _sum_values(numbers.sum(axis=-1), schema)


def _sum_values(numbers: Float[Array, "J ..."], schema: AttributeSchema) -> Float[Array, "N ..."]:
    """Returns sums over the values of each attribute."""
    return product(schema.membership.T, numbers)


def _to_values(numbers: Float[Array, "N ..."], schema: AttributeSchema) -> Float[Array, "J ..."]:
    """Returns for each value the numbers of its attribute."""
    return product(schema.membership, numbers)


def _exponentials(
    logits: Float[Array, "J F m"], schema: AttributeSchema
) -> tuple[Float[Array, "J F m"], Float[Array, "N F m"]]:
    """Returns the exponentials of logits and their sums by attribute; logits are bounded, not shifted.

    The bases are log-probabilities and the weights are penalised, so no logit comes near the bound, and a
    shift by each attribute's maximum would cost as much as the rest of a step.
    """
    exponentials = jnp.exp(jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))
    return exponentials, _sum_values(exponentials, schema)


def product(left: Float[Array | np.ndarray, "... k"], right: Float[Array | np.ndarray, "k ..."]) -> Array:
    """Multiplies with all further axes of either side in one product."""
    rows, columns = left.reshape(-1, left.shape[-1]), right.reshape(len(right), -1)
    return _multiply(rows, columns).reshape(*left.shape[:-1], *right.shape[1:])
