"""Weights of images under which the labels of different attributes are as good as independent."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import array_namespace
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.label_counts import conditionals, count_pairs, marginals

# The exponents of the other labels' evidence that are tried: 1 is naive Bayes, 0 leaves the evidence out.
EXPONENTS = np.linspace(0, 1, 11)
# Rows of labels whose probabilities are computed at once, for the sake of memory.
ROWS_AT_ONCE = 8192


class Decorrelation(NamedTuple):
    """Represents all that the weight of an image depends on, besides its labels.

    Attributes:
      log_prior: [J], the logarithm of P(y_j).
      evidence: [J, J], what a label (rows) adds to the logarithm of the probability of a value of another
        attribute (columns).
      own_evidence: [J, J], the same for the value that the image has, estimated from all other images.
      mean: [N], the mean weight over the training part before it is divided by this.
      largest: the largest weight before that; the smallest is its inverse.
    """

    log_prior: Float[np.ndarray, " J"]
    evidence: Float[np.ndarray, "J J"]
    own_evidence: Float[np.ndarray, "J J"]
    mean: Float[np.ndarray, " N"]
    largest: float


def decorrelation(
    labels: Int[np.ndarray, "M N"], schema: AttributeSchema, *, largest: float = 5.0
) -> Decorrelation:
    r"""Computes the tables of ``decorrelating_weights`` from the training labels.

    The probability of a label given all others is that of naive Bayes with an exponent,

    .. math::
        P(y_j | y_{-j}) \propto P(y_j) \prod_{n \ne j} \left(\frac{P(y_n | y_j)}{P(y_n)}\right)^{a_j}

    because most combinations of labels occur never or once. The exponent a_j in [0, 1] is the one with the
    highest likelihood of the training labels: attributes that say the same are not counted twice. Missing
    labels are left out of the product. P(y_n | y_j) is smoothed, and for the image's own label estimated from
    all other images: otherwise a rare label would look certain.

    Args:
      labels: [M, N], the training labels, -1 = not labelled.
      schema: the attributes.
      largest: the largest weight, at least 1; the smallest is its inverse.

    Raises:
      ValueError: as for ``check_labels``; or ``largest`` is below 1.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [400, 100, 100, 400], axis=0)
      >>> tables = decorrelation(labels, schema)
      >>> print(decorrelating_weights(labels[[0, 400, 500, 999]], tables, schema).round(2))
      [[0.62 0.62]
       [2.5  2.5 ]
       [2.5  2.5 ]
       [0.62 0.62]]
    """
    if not largest >= 1:
        raise ValueError(f"largest must be at least 1, got {largest}")
    counts = count_pairs(labels, schema)
    prior = marginals(counts, schema)
    # Rows are the other label, columns the value that it is evidence for: P(row | column) / P(row).
    others = schema.attribute_of[:, None] != schema.attribute_of

    def evidence(left_out: int) -> np.ndarray:
        given = conditionals(counts, schema, left_out=left_out)[: schema.num_values].T
        return np.where(others, np.log(given / prior[:, None]), 0.0)

    ones = np.ones(schema.num_attributes)
    tables = Decorrelation(np.log(prior), evidence(0), evidence(1), ones, float(largest))
    return _fitted(tables, labels, schema)


def decorrelating_weights(
    labels: Int[Array | np.ndarray, "B N"], tables: Decorrelation, schema: AttributeSchema
) -> Float[Array, "B N"]:
    r"""Computes the weight of every image for every attribute, P(y_j) / P(y_j | y_{-j}).

    Weighted by it, a label is as frequent with any other labels as it is alone. The mean over the training
    part is 1; where an image is not labelled for an attribute, the weight is 0.

    Args:
      labels: [B, N], labels of the training part, -1 = not labelled.
      tables: as ``decorrelation`` returns them.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_labels``.
    """
    labels = jnp.asarray(sanitize_labels(labels, schema))
    return jnp.asarray(_unscaled_weights(labels, tables, schema)) / tables.mean


def _fitted(tables: Decorrelation, labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> Decorrelation:
    """Returns the tables with the exponents of the highest likelihood, and the mean weight."""
    rows, number = np.unique(labels, axis=0, return_counts=True)
    number = np.where(rows == NOT_LABELLED, 0, number[:, None])

    def summed(of_rows: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Sums numbers [..., M, N] of all images, a part of them at a time."""
        parts = [slice(start, start + ROWS_AT_ONCE) for start in range(0, max(len(rows), 1), ROWS_AT_ONCE)]
        return np.sum([(number[part] * of_rows(rows[part])).sum(axis=-2) for part in parts], axis=0)

    def log_probabilities(rows: np.ndarray) -> np.ndarray:
        evidence = _log_evidence(np.asarray(schema.one_hot(rows)), tables)
        return np.stack([_log_probability(a * evidence, rows, tables, schema) for a in EXPONENTS])

    exponent = EXPONENTS[np.argmax(summed(log_probabilities), axis=0)][schema.attribute_of]
    tables = tables._replace(evidence=tables.evidence * exponent, own_evidence=tables.own_evidence * exponent)
    total = summed(lambda rows: np.asarray(_unscaled_weights(rows, tables, schema)))
    return tables._replace(mean=np.where(total > 0, total, 1) / np.maximum(number.sum(axis=0), 1))


def _unscaled_weights(
    labels: Int[Array | np.ndarray, "B N"], tables: Decorrelation, schema: AttributeSchema
) -> Float[Array | np.ndarray, "B N"]:
    """Computes the weights before they are divided by their mean."""
    xp = array_namespace(labels)
    evidence = _log_evidence(xp.asarray(schema.one_hot(labels)), tables)
    prior = xp.take(tables.log_prior, xp.maximum(labels, 0) + np.asarray(schema.offsets))
    ratio = xp.exp(prior - _log_probability(evidence, labels, tables, schema))
    return xp.where(labels == NOT_LABELLED, 0.0, xp.clip(ratio, 1 / tables.largest, tables.largest))


def _log_evidence(
    one_hot: Float[Array | np.ndarray, "B J"], tables: Decorrelation
) -> Float[Array | np.ndarray, "B J"]:
    """Sums the evidence of an image's labels for every value; for its own value, that of all other images."""
    xp = array_namespace(one_hot)
    highest = {} if xp is np else {"precision": jax.lax.Precision.HIGHEST}
    evidence = xp.matmul(one_hot, tables.evidence, **highest)
    own = xp.matmul(one_hot, tables.own_evidence, **highest)
    return xp.where(one_hot > 0, own, evidence)


def _log_probability(
    evidence: Float[Array | np.ndarray, "B J"],
    labels: Int[Array | np.ndarray, "B N"],
    tables: Decorrelation,
    schema: AttributeSchema,
) -> Float[Array | np.ndarray, "B N"]:
    """Computes log P(y_j | y_-j) of an image's labels; arbitrary where it is not labelled."""
    xp = array_namespace(labels)
    scores = xp.where(schema.slice_mask, (tables.log_prior + evidence)[:, schema.slice_index], -np.inf)
    highest = scores.max(axis=-1)
    normalizer = highest + xp.log(xp.exp(scores - highest[..., None]).sum(axis=-1))
    label = xp.maximum(labels, 0)[..., None]
    return xp.take_along_axis(scores, label, axis=-1)[..., 0] - normalizer
