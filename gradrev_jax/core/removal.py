"""Measures the leakage that adversaries read in features beyond their own labels (the repaired reversal).

A pathway (j, n) is feature j read for attribute n. Chance is what the label of attribute j alone tells of
attribute n, counted in the training part: a feature that has to tell a dress from a shirt also tells the
gender, and that is none of its fault. ``removal_losses`` are 0 at chance, and stop there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.label_counts import label_slots
from gradrev_jax.core.losses import Labels, Logits, check_logits, other_attributes, sum_by_attribute
from gradrev_jax.core.vectors import at_least_float32


def _divergence(
    log_p: Float[Array, "B N J"], log_prior: Float[Array, "B N J"], labels: Labels, schema: AttributeSchema
) -> Float[Array, "B N N"]:
    """Computes KL(prior || adversary): 0 at chance alone, and steepest where the adversary is surest."""
    return sum_by_attribute(jnp.exp(log_prior) * (log_prior - log_p), schema)


def _clipped(
    log_p: Float[Array, "B N J"], log_prior: Float[Array, "B N J"], labels: Labels, schema: AttributeSchema
) -> Float[Array, "B N N"]:
    """Computes the reversed cross-entropy, no further than chance: how far the label is above its prior."""
    above = sum_by_attribute((log_p - log_prior) * schema.one_hot(labels)[:, None], schema)
    return jnp.where(above > 0, above, 0.0)  # maximum() would halve the gradient at chance


# What features minimise, by name.
REMOVAL_TARGETS: dict[str, Callable[..., Float[Array, "B N N"]]] = {"clipped": _clipped, "prior": _divergence}


def removal_losses(
    logits: Logits,
    labels: Labels,
    prior: Float[Array | np.ndarray, "S J"],
    schema: AttributeSchema,
    *,
    target: str = "clipped",
) -> Float[Array, "N N"]:
    r"""Computes the loss of features to an adversary that reads them, per pathway (j, n), in nats.

    With p the adversary's probabilities and T the row of the prior for the own label y_j:

    .. math::
        \text{clipped:} \quad \max\left(0, \log p_{y_n} - \log T_{y_n}\right), \qquad
        \text{prior:} \quad \mathrm{KL}(T \parallel p)

    Both are bounded below by 0, at chance, so that nothing is gained by an adversary that is reliably wrong.
    Their gradient passes through the adversary's logits, and is not reversed: features descend.

    Args:
      logits: those of the adversaries, [B, N, J]; ``logits[b, j, w]`` is read from feature j.
      labels: [B, N], -1 = not labelled; the mean of a pathway goes over the samples labelled for n.
      prior: as ``label_counts.conditionals`` returns it.
      schema: the attributes.
      target: one of ``REMOVAL_TARGETS``.

    Returns:
      [N, N], row = feature, column = attribute; the diagonal is 0.

    Raises:
      ValueError: an unknown target; shapes that disagree, or a label outside its attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> prior = np.full((6, 4), 0.5)
      >>> logits = jnp.zeros((1, 2, 4)).at[0, 0, 2].set(jnp.log(3.0))  # size "s" with 3/4, from the colour
      >>> losses = removal_losses(logits, np.array([[0, 0]]), prior, schema)
      >>> print(np.asarray(losses).round(4))  # log(3/4) - log(1/2)
      [[0.     0.4055]
       [0.     0.    ]]
    """
    if target not in REMOVAL_TARGETS:
        raise ValueError(f"target must be one of {', '.join(REMOVAL_TARGETS)}, got {target!r}")
    check_logits(logits, labels, schema)
    labels = jnp.asarray(sanitize_labels(labels, schema))
    logits = at_least_float32(logits)
    log_prior = jnp.log(jnp.asarray(prior, logits.dtype))[label_slots(labels, schema)]
    by_sample = REMOVAL_TARGETS[target](_log_probabilities(logits, schema), log_prior, labels, schema)
    labelled = (labels != NOT_LABELLED)[:, None, :]
    losses = jnp.where(labelled, by_sample, 0.0).sum(axis=0) / jnp.maximum(labelled.sum(axis=0), 1)
    return losses * other_attributes(schema.num_attributes)


def _log_probabilities(logits: Float[Array, "B N J"], schema: AttributeSchema) -> Float[Array, "B N J"]:
    """Computes the logarithm of the softmax over the values of each attribute."""
    maxima = jax.lax.stop_gradient(logits)[..., schema.slice_index].max(axis=-1)
    shifted = logits - maxima[..., schema.attribute_of]
    normalizer = jnp.log(sum_by_attribute(jnp.exp(shifted), schema))
    membership = schema.membership.T.astype(logits.dtype)
    return shifted - jnp.matmul(normalizer, membership, precision=jax.lax.Precision.HIGHEST)
