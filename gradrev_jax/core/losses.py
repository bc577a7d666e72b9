"""The losses of the paper (Eqs. 1, 2, 3 and 5), with missing labels masked out.

Only -1 means not labelled. Other labels outside their attribute's values raise a ValueError or, if they are
traced, as in a jitted step, count as not labelled.

``logits[b, j, v]`` is the logit of value v from its attribute's classifier, when that reads feature j. The
pathway (j, n) is feature j read by classifier n: a cross-entropy over the slice of J that belongs to
attribute n, against the label of attribute n.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.gradient_reversal import ganin_schedule
from gradrev_jax.core.vectors import at_least_float32

# The smallest L_rev that Eq. 5 divides by: float32 hardly resolves smaller cross-entropies.
SMALLEST_LOSS = 1e-6

Labels = Int[Array | np.ndarray, "B N"]
Logits = Float[Array | np.ndarray, "B N J"]


def pathway_losses(
    logits: Logits,
    labels: Labels,
    schema: AttributeSchema,
    weights: Float[Array | np.ndarray, "B N"] | None = None,
) -> Float[Array, "N N"]:
    """Computes the mean cross-entropy of every pathway, feature j (row) read by classifier n (column).

    The mean goes over the samples that are labelled for attribute n; without any it is 0, never NaN. Computed
    in float32 or higher, whatever the logits' dtype.

    Args:
      logits: [B, N, J]; -inf rules a value out. The loss of a sample whose label is ruled out is infinite,
        and has no gradient. NaN in a sample makes its gradient NaN, even if it has no label.
      labels: [B, N], the index of the value within its attribute, -1 = not labelled.
      schema: the attributes.
      weights: [B, N], the factor of each sample's cross-entropy in all pathways of classifier n, before the
        mean; None: 1.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or a label outside its attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> losses = pathway_losses(jnp.zeros((3, 2, 4)), np.array([[0, 1], [1, -1], [0, -1]]), schema)
      >>> print(np.asarray(losses).round(4))  # log(2) everywhere: two values, uniform prediction
      [[0.6931 0.6931]
       [0.6931 0.6931]]
    """
    check_logits(logits, labels, schema)
    logits = at_least_float32(logits)
    labels = jnp.asarray(sanitize_labels(labels, schema))
    # Subtracting each slice's maximum keeps exp from overflowing; it needs no gradient.
    maxima = jax.lax.stop_gradient(logits)[..., schema.slice_index].max(axis=-1)
    maxima = jnp.where(maxima == -jnp.inf, 0, maxima)  # of a slice in which every value is ruled out
    logits = logits - maxima[..., schema.attribute_of]
    # Finite, because the products below would turn 0 times -inf into NaN.
    ruled_out = jnp.finfo(logits.dtype).min / 2
    logits = jnp.maximum(logits, ruled_out)
    normalizer = sum_by_attribute(jnp.exp(logits), schema)
    log_normalizer = jnp.log(jnp.maximum(normalizer, jnp.finfo(logits.dtype).tiny))
    label_logit = sum_by_attribute(logits * schema.one_hot(labels)[:, None, :], schema)
    loss = jnp.where(label_logit <= ruled_out, jnp.inf, log_normalizer - label_logit)
    labelled = (labels != NOT_LABELLED)[:, None, :]
    if weights is not None:
        _check_weights(weights, labels)
        factor = jnp.where(labelled, weights[:, None, :], 1.0)
        # A sample of weight 0 does not count, even where its label was ruled out: 0 times infinity is NaN.
        loss = jnp.where(factor == 0, 0.0, loss) * factor
    cross_entropy = jnp.where(labelled, loss, 0.0)
    return cross_entropy.sum(axis=0) / jnp.maximum(labelled.sum(axis=0), 1)


def other_attributes(n: int) -> Float[Array, "N N"]:
    """Returns 1 for each pathway between different attributes, and 0 for each attribute's own.

    Args:
      n: the number of attributes, N.
    """
    return 1 - jnp.eye(n)


def split_pathways(pathways: Float[Array, "N N"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Divides the losses of all pathways into L_cls, the trace (Eq. 1), and L_rev, the rest (Eq. 2).

    Args:
      pathways: [N, N], as ``pathway_losses`` returns them.

    Example:
      >>> loss_cls, loss_rev = split_pathways(jnp.array([[1.0, 20.0], [300.0, 4000.0]]))
      >>> float(loss_cls), float(loss_rev)
      (4001.0, 320.0)
    """
    others = other_attributes(len(pathways)).astype(pathways.dtype)
    return jnp.trace(pathways), (pathways * others).sum()


def classification_loss(logits: Logits, labels: Labels, schema: AttributeSchema) -> Float[Array, ""]:
    r"""Computes the cross-entropy of each feature on its own attribute, summed over attributes (Eq. 1).

    .. math::
        L_{cls} = \sum_n \mathrm{CE}(C_n(f_n), y_n)

    Args:
      logits: [B, N, J].
      labels: [B, N], -1 = not labelled; the mean of an attribute goes over its labelled samples.
      schema: the attributes.

    Returns:
      Scalar, in nats; 0 if nothing is labelled.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or a label outside its attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> loss = classification_loss(jnp.zeros((1, 2, 4)), np.array([[0, 1]]), schema)
      >>> round(float(loss), 4)  # 2 log(2)
      1.3863
    """
    loss_cls, _ = split_pathways(pathway_losses(logits, labels, schema))
    return loss_cls


def reversal_loss(logits: Logits, labels: Labels, schema: AttributeSchema) -> Float[Array, ""]:
    r"""Computes the cross-entropy of each feature on all **other** attributes, summed over pathways (Eq. 2).

    .. math::
        L_{rev} = \sum_n \sum_{j \ne n} \mathrm{CE}(C_n(R_\lambda(f_j)), y_n)

    It is positive: the minus sign of Eq. 2 is that of ``reverse_gradient``, through which these logits must
    have been computed, as in ``AttributeEncoder``. There are N(N-1) pathways.

    Args:
      logits: [B, N, J].
      labels: [B, N], -1 = not labelled; the mean of a pathway goes over its labelled samples.
      schema: the attributes.

    Returns:
      Scalar, in nats; 0 for a single attribute, or if nothing is labelled.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, or a label outside its attribute.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> loss = reversal_loss(jnp.zeros((1, 2, 4)), np.array([[0, -1]]), schema)
      >>> round(float(loss), 4)  # only color is labelled: one pathway, log(2)
      0.6931
    """
    _, loss_rev = split_pathways(pathway_losses(logits, labels, schema))
    return loss_rev


def balanced_reversal_weight(
    loss_cls: Float[Array, ""] | float,
    loss_rev: Float[Array, ""] | float,
    *,
    w_cls: Float[Array, ""] | float = 1.0,
    beta: Float[Array, ""] | float = 0.1,
) -> Float[Array, ""]:
    r"""Computes the weight that keeps the reversal loss at ``beta`` times the classification loss (Eq. 5).

    .. math::
        w_{rev} = \mathrm{sg}\left(\beta \, w_{cls} \frac{L_{cls}}{L_{rev}}\right)

    No gradient flows through the weight (sg): otherwise L_rev would cancel out of the total's derivative. On
    several devices, pass the losses of the whole batch, not of one device's shard.

    Args:
      loss_cls: L_cls, scalar.
      loss_rev: L_rev, scalar. Below 1e-6 it counts as 1e-6, so that the weight stays finite; exactly 0 (no
        pathway, or nothing labelled) gives 0.
      w_cls: the weight of L_cls in the total (Eq. 3).
      beta: the size of the weighted reversal loss relative to the weighted classification loss.

    Returns:
      w_rev, scalar; NaN if L_rev is NaN, or L_cls where L_rev is not 0, so that divergence is seen.

    Example:
      >>> float(balanced_reversal_weight(2.0, 4.0, beta=0.5))
      0.25
    """
    # In float32 at least: float16 would round SMALLEST_LOSS to zero, or the ratio to infinity.
    loss_cls, loss_rev = at_least_float32(loss_cls), at_least_float32(loss_rev)
    ratio = beta * w_cls * loss_cls / jnp.maximum(loss_rev, SMALLEST_LOSS)
    return jax.lax.stop_gradient(jnp.where(loss_rev == 0, 0.0, ratio))


class WeightingInputs(NamedTuple):
    """Represents the inputs of a rule for w_rev.

    Attributes:
      loss_cls: L_cls, scalar.
      loss_rev: L_rev, scalar.
      w_cls: the weight of L_cls in the total (Eq. 3).
      beta: the share of the reversal.
      progress: the fraction of the training that is done, in [0, 1].
    """

    loss_cls: Float[Array, ""] | float
    loss_rev: Float[Array, ""] | float
    w_cls: Float[Array, ""] | float
    beta: float
    progress: float | Float[Array, ""]


# Rules for w_rev by name. To add one, write a function of WeightingInputs and name it here.
WEIGHTINGS: dict[str, Callable[[WeightingInputs], Float[Array, ""]]] = {
    "balanced": lambda x: balanced_reversal_weight(x.loss_cls, x.loss_rev, w_cls=x.w_cls, beta=x.beta),
    "fixed": lambda x: jnp.asarray(x.beta, jnp.float32),
    "schedule": lambda x: jnp.asarray(x.beta * ganin_schedule(x.progress), jnp.float32),
    "off": lambda x: jnp.zeros((), jnp.float32),
}


def check_weighting(weighting: str) -> None:
    """Raises unless a rule for w_rev is known.

    Raises:
      ValueError: an unknown rule; the message lists the known ones.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")


def reversal_weight(
    loss_cls: Float[Array, ""] | float,
    loss_rev: Float[Array, ""] | float,
    *,
    weighting: str,
    beta: float,
    w_cls: Float[Array, ""] | float = 1.0,
    progress: float | Float[Array, ""] = 1.0,
) -> Float[Array, ""]:
    """Computes w_rev by one of the rules of ``WEIGHTINGS``.

    Args:
      loss_cls: L_cls, scalar.
      loss_rev: L_rev, scalar.
      weighting: the rule: ``balanced`` (Eq. 5), ``fixed`` at beta, a ``schedule`` that rises from 0 to beta
        (Ganin's), or ``off`` (0: each classifier trains on its own feature only, the ablation of Table 7).
      beta: the share of the reversal.
      w_cls: the weight of L_cls in the total (Eq. 3).
      progress: the fraction of the training that is done, for the schedule.

    Raises:
      ValueError: an unknown rule.

    Example:
      >>> [float(reversal_weight(2.0, 4.0, weighting=how, beta=0.5)) for how in ("balanced", "fixed", "off")]
      [0.25, 0.5, 0.0]
    """
    check_weighting(weighting)
    return WEIGHTINGS[weighting](WeightingInputs(loss_cls, loss_rev, w_cls, beta, progress))


def sum_by_attribute(x: Float[Array, "B N J"], schema: AttributeSchema) -> Float[Array, "B N N"]:
    """Sums over each attribute's slice of the last axis, in one product whatever N is.

    Args:
      x: [B, N, J].
      schema: the attributes.
    """
    return jnp.matmul(x, schema.membership.astype(x.dtype), precision=jax.lax.Precision.HIGHEST)


def _check_weights(weights: Array | np.ndarray, labels: Labels) -> None:
    if weights.shape != labels.shape:
        raise ValueError(f"weights must be [B, N] as labels are, {labels.shape}; got {weights.shape}")


def check_logits(logits: Logits, labels: Labels, schema: AttributeSchema) -> None:
    """Raises unless the shapes of logits and labels agree with each other and with a schema.

    Args:
      logits: [B, N, J].
      labels: [B, N].
      schema: the attributes.

    Raises:
      ValueError: shapes that disagree; the message has both.
    """
    expected = (schema.num_attributes, schema.num_values)
    if logits.ndim != 3 or logits.shape[1:] != expected or labels.shape != logits.shape[:2]:
        raise ValueError(
            f"logits must be [B, N, J] and labels [B, N] with N, J = {expected}; "
            f"got {logits.shape} and {labels.shape}"
        )
