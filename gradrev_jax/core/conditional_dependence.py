"""Measures in closed form what features tell of others beyond their own label (CIRCE).

No classifier is trained against the features, so there is none to fool.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, sanitize_labels
from gradrev_jax.core.label_counts import conditionals, count_pairs, label_slots
from gradrev_jax.core.triplet_losses import squared_distances
from gradrev_jax.core.vectors import unit_with_safe_gradient

# Residuals of labels that the own label almost decides are not scaled up to those of free ones.
SMALLEST_DEVIATION = 0.1
# The smallest width of the kernel, in squared distance: where all features of a batch are equal, it is 0.
SMALLEST_WIDTH = 1e-4


class ExpectedLabels(NamedTuple):
    """Represents what each label predicts of all others, estimated from the training labels.

    Attributes:
      given: [J + N, J], the distribution of each attribute's labels (columns) given a label of another, or
        that there is none (rows, the slots of ``label_counts``).
      scale: [N, N], the inverse standard deviation of the labels of an attribute (columns) around what the
        label of another (rows) lets expect; 0 on the diagonal.
    """

    given: Float[np.ndarray, "S J"]
    scale: Float[np.ndarray, "N N"]


def expected_labels(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> ExpectedLabels:
    """Estimates the probabilities of all other labels given each label.

    Args:
      labels: [M, N], the training labels, -1 = not labelled.
      schema: the attributes.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> tables = expected_labels(np.array([[0, 0], [0, 0], [0, 0], [1, 1]]), schema)
      >>> tables.given[0, 2:].tolist()  # the sizes of the blue ones
      [0.925, 0.075]
    """
    counts = count_pairs(labels, schema)
    given = conditionals(counts, schema)
    # The squared distance of a one-hot row from its expectation, summed over the images that have both.
    squares = 1 - 2 * given + (given**2 @ schema.membership)[:, schema.attribute_of]
    pairs = counts[:, : schema.num_values]
    of_slot = np.concatenate([schema.attribute_of, np.arange(schema.num_attributes)])
    rows = (of_slot[:, None] == np.arange(schema.num_attributes)).astype(np.float64)
    variance = (rows.T @ (pairs * squares) @ schema.membership) / np.maximum(
        rows.T @ pairs @ schema.membership, 1
    )
    scale = 1 / np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)
    np.fill_diagonal(scale, 0)
    return ExpectedLabels(given, scale)


def conditional_dependence(
    features: Float[Array, "B N d"],
    labels: Int[Array | np.ndarray, "B N"],
    expected: ExpectedLabels,
    schema: AttributeSchema,
) -> Float[Array, ""]:
    r"""Computes the dependence of features on other labels, given their own (Pogodin et al., 2023).

    .. math::
        \sum_j \operatorname{mean}_{b \ne c} K_j[b, c] \, (1 + [y_{bj} = y_{cj}]) \,
        \langle Z_{bj}, Z_{cj} \rangle, \qquad
        K_j[b, c] = e^{-|\hat f_{bj} - \hat f_{cj}|^2 / s_j^2}

    Z is what the labels of all other attributes are beyond the expectation that the own label gives, and 0
    where they are missing; each attribute's part is divided by its standard deviation. s² is the mean
    squared distance in the batch, without a gradient. Of features that tell nothing else the expectation is
    0, whatever the labels' correlation, because no image is compared with itself; so a batch's may be below.

    Args:
      features: [B, N, d]; their directions count.
      labels: [B, N], -1 = not labelled, which as an own label is a value of its own.
      expected: what labels tell of each other.
      schema: the attributes.

    Returns:
      Scalar; 0 of fewer than two images, or of a single attribute.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (30, 1))
      >>> expected = expected_labels(labels, schema)
      >>> def loss(features):
      ...     return round(float(conditional_dependence(features, labels, expected, schema)), 3)
      >>> loss(jnp.eye(2)[labels]), loss(jnp.eye(2)[labels[:, ::-1]])  # of the own labels; of the others'
      (-0.034, 1.271)
    """
    labels = jnp.asarray(sanitize_labels(labels, schema))
    size, residuals = len(labels), _residuals(labels, expected, schema)
    distances = jax.vmap(squared_distances, in_axes=1)(unit_with_safe_gradient(features))
    pairs = max(size * (size - 1), 1)
    mean = distances.sum(axis=(1, 2), keepdims=True) / pairs
    kernel = jnp.exp(-distances / jnp.maximum(jax.lax.stop_gradient(mean), SMALLEST_WIDTH))
    same = labels.T[:, :, None] == labels.T[:, None, :]
    highest = jax.lax.Precision.HIGHEST
    products = jnp.einsum("bjv,cjv->jbc", residuals, residuals, precision=highest)
    return (kernel * (1 + same) * products * (1 - jnp.eye(size))).sum() / pairs


def _residuals(
    labels: Int[Array, "B N"], expected: ExpectedLabels, schema: AttributeSchema
) -> Float[Array, "B N J"]:
    """Returns the labels of all others minus their expectation given that of attribute j, scaled."""
    labelled = labels != NOT_LABELLED
    beyond = schema.one_hot(labels)[:, None] - jnp.asarray(expected.given)[label_slots(labels, schema)]
    counted = labelled[:, None, schema.attribute_of] * jnp.asarray(expected.scale)[:, schema.attribute_of]
    return beyond * counted
