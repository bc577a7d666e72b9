"""Fits linear probes of all attributes to one feature; the strength of L2 is chosen on a separate fold."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.evaluation.logistic_heads import (
    Heads,
    ProbeProblem,
    cross_entropies,
    fit_heads,
    product,
    where_heads,
)
from gradrev_jax.evaluation.probe_data import Folds, ProbeInputs, ProbeOutcome

# The strengths of L2 that are tried, strongest first; each fit starts from the solution of the one before.
# An infinite strength, which leaves the base alone, is tried before all of them.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
PATH_STEPS = 5  # of conjugate gradients per strength
REFIT_STEPS = 15


class _Choice(NamedTuple):
    """Represents the best heads so far of each fold and attribute, by the loss on the inner fold."""

    loss: Float[Array, "N T"]
    strength: Float[Array, "N T"]
    weights: Float[Array, "J T r"]


class _Path(NamedTuple):
    """Represents the heads at the last of the strengths that were tried, and the best at any of them."""

    heads: Heads
    best: _Choice


def score_linear(inputs: ProbeInputs, folds: Folds, schema: AttributeSchema) -> ProbeOutcome:
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
    problem = ProbeProblem(
        inputs.x,
        inputs.penalty,
        inputs.moment,
        one_hot,
        share=shares(labelled, folds.without_pair),
        strength=jnp.ones((schema.num_attributes, pairs)),
        free=jnp.ones((schema.num_attributes, pairs), bool),
    )
    choice = _choose(problem, base[:, :pairs], shares(labelled, folds.inner), folds, schema)
    free = jnp.isfinite(choice.strength)
    problem = problem._replace(
        share=shares(labelled, folds.without_fold), strength=jnp.where(free, choice.strength, 1.0), free=free
    )
    heads = Heads(choice.weights, base[:, pairs:] + product(choice.weights, inputs.x.T))
    heads = fit_heads(heads, problem, schema, REFIT_STEPS)
    logits, base_logits = (select_sets(x, folds.fold) for x in (heads.logits, base[:, pairs:]))
    return ProbeOutcome(
        cross_entropies(logits[:, None], one_hot, schema)[:, 0].T,
        cross_entropies(base_logits[:, None], one_hot, schema)[:, 0].T,
        predictions(logits, schema).T,
        choice.loss.T,
        choice.strength.T,
    )


def _choose(
    problem: ProbeProblem,
    base: Float[Array, "J P m"],
    inner: Float[Array, "N T m"],
    folds: Folds,
    schema: AttributeSchema,
) -> _Choice:
    """Fits heads at all strengths, and returns those with the least loss on each inner fold."""
    weights = jnp.zeros((*base.shape[:2], problem.x.shape[1]))

    def inner_loss(heads: Heads) -> Float[Array, "N T"]:
        losses = cross_entropies(heads.logits, problem.one_hot, schema)[:, folds.pair_of]
        return (inner * losses).sum(axis=-1)

    def loosen(path: _Path, strength: Float[Array, ""]) -> tuple[_Path, None]:
        heads, best = path
        strengths = jnp.full_like(problem.strength, strength)
        heads = fit_heads(heads, problem._replace(strength=strengths), schema, PATH_STEPS)
        loss = inner_loss(heads)
        better = loss < best.loss
        best = _Choice(
            jnp.where(better, loss, best.loss),
            jnp.where(better, strength, best.strength),
            where_heads(better, heads.weights[:, folds.pair_of], best.weights, schema),
        )
        return _Path(heads, best), None

    heads = Heads(weights, base)
    loss = inner_loss(heads)
    nothing = _Choice(loss, jnp.full_like(loss, jnp.inf), weights[:, folds.pair_of])
    path, _ = jax.lax.scan(loosen, _Path(heads, nothing), jnp.asarray(STRENGTHS))
    return path.best


def labels_by_value(
    labels: Int[Array | np.ndarray, "m N"], schema: AttributeSchema
) -> tuple[Float[Array, "J m"], Float[Array, "N m"]]:
    """Returns labels one-hot, zeros where there is none, and whether there is one, 0/1."""
    return schema.one_hot(labels).T, (jnp.asarray(labels) >= 0).astype(jnp.float32).T


def base_of_images(inputs: ProbeInputs) -> Float[Array, "J F m"]:
    """Returns each image's log-probabilities from its own label alone."""
    return jnp.asarray(inputs.base).T[..., inputs.own]


def select_sets(numbers: Float[Array, "k F m"], sets: Int[Array | np.ndarray, " m"]) -> Float[Array, "k m"]:
    """Selects the numbers of each image that belong to one set of fitting images.

    Args:
      numbers: the numbers of each image, by each of F sets.
      sets: the set to select for each image.
    """
    return jnp.take_along_axis(numbers, sets[None, None], axis=1)[:, 0]


def predictions(logits: Float[Array, "J m"], schema: AttributeSchema) -> Int[Array, "N m"]:
    """Returns the value of each attribute with the largest logit; ties go to the lower value."""
    return schema.likeliest(logits.T).T


def shares(labelled: Float[Array, "N m"], fits: Float[Array | np.ndarray, "m F"]) -> Float[Array, "N F m"]:
    """Returns the share that each image has in the mean loss of each attribute."""
    counted = labelled[:, None] * fits.T
    return counted / jnp.maximum(counted.sum(axis=-1, keepdims=True), 1)
