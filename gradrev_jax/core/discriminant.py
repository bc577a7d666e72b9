r"""A linear discriminant projection per attribute, fitted to features in closed form after training.

For attribute j, with the covariance :math:`W_j` of its features within the classes of its own labels and that
of the class means, :math:`B_j`, the columns of :math:`A_j` solve

.. math::
    B_j a = \rho \left(W_j + \lambda \tfrac{\operatorname{tr} W_j}{d} I\right) a, \quad
    A_j^\top \left(W_j + \lambda \tfrac{\operatorname{tr} W_j}{d} I\right) A_j = I

for the largest :math:`\rho`, of which at most J_j - 1 are not 0. The feature :math:`A_j^\top f_j` has at most
J_j - 1 numbers, within-class variances of at most 1, and none of the directions that do not tell its own
attribute's values apart (Fisher, "The use of multiple measurements in taxonomic problems", 1936; Hatch,
Kajarekar and Stolcke, "Within-class covariance normalization for SVM-based speaker recognition", 2006).

The projection is linear, so that it may come before a manipulation (Eq. 7) or after it, and a memory of
projected prototypes is the memory of projected features. Nothing is centred. An offset that an attribute's
features have in common changes no distance between vectors that are not normalised, for query and gallery
have it alike; and a swap, which adds the difference of two rows of the memory, adds none. Normalisation,
however, divides by a length that depends on the offset. For vectors that are centred before they are
normalised, subtract the projected mean of the training features from projected features, and leave the memory
as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.feature_arguments import concrete_features
from gradrev_jax.core.vectors import as_floating

SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LEAST_WITHIN = 1e-6  # of the total variance; less within classes than that counts as that
ROUNDING = 1e-24  # of the squared means; class means that differ by less are equal in float64


class _Scatter(NamedTuple):
    """Represents one attribute's features: its class means, and the axes of the scatter around them.

    Attributes:
      values: [C], the values that occur.
      means: [C, d].
      shares: [C], of the images.
      variances: [d], along each axis within classes.
      axes: [d, d], orthonormal, one a column.
    """

    values: Int[np.ndarray, " C"]
    means: Float[np.ndarray, "C d"]
    shares: Float[np.ndarray, " C"]
    variances: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d d"]


def fit_discriminants(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
    shrinkage: float | Float[np.ndarray, " N"] = 0.1,
) -> Float[np.ndarray, "N d k"]:
    """Computes the discriminants of each attribute, whitened within classes.

    Args:
      features: [M, N, d], usually of the training part.
      labels: [M, N]; -1 = not labelled, and left out for that attribute.
      schema: the attributes.
      shrinkage: the variance that is added in every direction, as a fraction of the mean variance within
        classes; one for all attributes, or [N], as from ``choose_shrinkage``.

    Returns:
      [N, d, k] with k the largest J_j - 1, the strongest discriminant first, each with the sign that makes
      its largest number positive. An attribute has as many discriminants as its class means span
      dimensions, at most J_j - 1 and d; its other columns are zero.

    Raises:
      ValueError: features or labels as in ``concrete_features``, or a shrinkage that is not above 0.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> features = np.array([[[0.0, 5.0]], [[0.0, -5.0]], [[2.0, 4.0]], [[2.0, -4.0]]])
      >>> labels = np.array([[0], [0], [1], [1]])  # only the first number tells colors apart
      >>> (fit_discriminants(features, labels, schema)[0, :, 0] != 0).tolist()
      [True, False]
    """
    numbers, labels = concrete_features(features, labels, schema)
    shrinkages = _shrinkages(shrinkage, schema.num_attributes)
    matrices = np.zeros((*numbers.shape[1:], max(schema.sizes) - 1), numbers.dtype)
    for n in range(schema.num_attributes):
        known = labels[:, n] != NOT_LABELLED
        if known.any():
            columns = _discriminants(_scatter(numbers[known, n], labels[known, n]), shrinkages[n])
            matrices[n, :, : columns.shape[1]] = columns
    return matrices


def project(
    features: Float[Array | np.ndarray, "*batch N d"], matrices: Float[Array | np.ndarray, "N d k"]
) -> Float[Array, "*batch N k"]:
    r"""Projects features, or the rows of a memory, onto each attribute's discriminants.

    .. math::
        f_j \leftarrow A_j^\top f_j

    Args:
      features: [..., N, d], or a memory [J, N, d].
      matrices: [N, d, k], as from ``fit_discriminants``.

    Returns:
      [..., N, k], in the features' dtype, or in float32 if they are integers.

    Raises:
      ValueError: shapes that disagree.

    Example:
      >>> matrices = np.array([[[2.0], [0.0]]])  # one attribute, d = 2, k = 1
      >>> project(np.array([[3.0, 4.0]]), matrices).tolist()
      [[6.0]]
    """
    features = as_floating(features)
    if matrices.ndim != 3 or features.shape[-2:] != matrices.shape[:2]:
        raise ValueError(
            f"features [..., N, d] and matrices [N, d, k] disagree; got {features.shape} and {matrices.shape}"
        )
    matrices = jnp.asarray(matrices)
    projected = jnp.einsum("...nd,ndk->...nk", features, matrices, precision=jax.lax.Precision.HIGHEST)
    return projected.astype(features.dtype)


def choose_shrinkage(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    held_out: tuple[Float[Array | np.ndarray, "H N d"], Int[Array | np.ndarray, "H N"]],
    schema: AttributeSchema,
    shrinkages: Sequence[float] = SHRINKAGES,
) -> Float[np.ndarray, " N"]:
    """Chooses the shrinkage of each attribute by the nearest class mean among held-out images.

    The chosen one puts the most held-out features nearest to the projected mean of their own class. Features
    that the encoder was trained on vary less within classes than others do, so they cannot choose it.

    Args:
      features: [M, N, d], which the discriminants are fitted to.
      labels: [M, N], -1 = not labelled.
      held_out: the features [H, N, d] and labels [H, N] of images that are not among these.
      schema: the attributes.
      shrinkages: the candidates. Of several that are equally good the largest is chosen, also for an
        attribute without a held-out label.

    Returns:
      [N], for ``fit_discriminants``.

    Raises:
      ValueError: features or labels as in ``concrete_features``, no candidate, or one that is not above 0.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> features = np.array([[[0.0, 5.0]], [[0.0, -5.0]], [[2.0, 4.0]], [[2.0, -4.0]]])
      >>> labels = np.array([[0], [0], [1], [1]])
      >>> choose_shrinkage(features, labels, (features, labels), schema, (0.1, 1.0)).tolist()
      [1.0]
    """
    numbers, labels = concrete_features(features, labels, schema)
    others, other_labels = concrete_features(*held_out, schema)
    if numbers.shape[2] != others.shape[2]:
        raise ValueError(f"features have {numbers.shape[2]} numbers, and held_out has {others.shape[2]}")
    if not len(shrinkages):
        raise ValueError("shrinkages must have at least one candidate")
    candidates = sorted(_shrinkages(np.asarray(shrinkages, np.float64), len(shrinkages)), reverse=True)
    chosen = np.full(schema.num_attributes, candidates[0])
    for n in range(schema.num_attributes):
        known, other_known = labels[:, n] != NOT_LABELLED, other_labels[:, n] != NOT_LABELLED
        if known.any() and other_known.any():
            scatter = _scatter(numbers[known, n], labels[known, n])
            x, y = others[other_known, n].astype(np.float64), other_labels[other_known, n]
            # max takes the first of equals, which is the largest candidate.
            chosen[n] = max(candidates, key=lambda value: _accuracy(scatter, value, x, y))
    return chosen


def _accuracy(
    scatter: _Scatter, shrinkage: float, features: Float[np.ndarray, "H d"], labels: Int[np.ndarray, " H"]
) -> float:
    """Returns the share of features that are nearest to the mean of their class, once all are projected."""
    matrix = _discriminants(scatter, shrinkage)
    points, means = features @ matrix, scatter.means @ matrix
    distances = np.square(means).sum(axis=1) - 2 * points @ means.T
    return float((scatter.values[distances.argmin(axis=1)] == labels).mean())


def _scatter(features: Float[np.ndarray, "M d"], labels: Int[np.ndarray, " M"]) -> _Scatter:
    features = features.astype(np.float64)
    values, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = (index == np.arange(len(values))[:, None]) @ features / counts[:, None]
    residuals = features - means[index]
    variances, axes = np.linalg.eigh(residuals.T @ residuals / len(features))
    return _Scatter(values, means, counts / len(features), np.maximum(variances, 0), axes)


def _discriminants(scatter: _Scatter, shrinkage: float) -> Float[np.ndarray, "d r"]:
    deviations = np.sqrt(scatter.shares)[:, None] * (scatter.means - scatter.shares @ scatter.means)
    within, between = scatter.variances.sum(), np.square(deviations).sum()
    scale = max(within, LEAST_WITHIN * (within + between)) / len(scatter.axes)
    if between <= ROUNDING * np.square(scatter.means).sum():
        return np.zeros((len(scatter.axes), 0))
    whitening = scatter.axes / np.sqrt(scatter.variances + shrinkage * scale)
    # The squares of the singular values are the eigenvalues of the problem above.
    _, strengths, rows = np.linalg.svd(deviations @ whitening, full_matrices=False)
    spanned = strengths > strengths[0] * max(deviations.shape) * np.finfo(np.float64).eps
    spanned[len(scatter.values) - 1 :] = False  # deviations of C means span C - 1 dimensions
    matrix = whitening @ rows[spanned].T
    largest = np.take_along_axis(matrix, np.abs(matrix).argmax(axis=0)[None], axis=0)
    return matrix * np.sign(largest)


def _shrinkages(shrinkage: float | np.ndarray, count: int) -> Float[np.ndarray, " N"]:
    values = np.asarray(shrinkage, np.float64)
    if values.shape not in ((), (count,)):
        raise ValueError(f"shrinkage must be one number, or one for each of {count}, got {values.shape}")
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"shrinkage must be finite and above 0, got {shrinkage}")
    return np.broadcast_to(values, (count,))
