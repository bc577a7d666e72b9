r"""Linear erasure of the other attributes from each attribute's features, in closed form.

Let x be the features of attribute j and z the one-hot labels of the other attributes. An affine map
:math:`r(x) = x - D (x - \mu)` with :math:`D \operatorname{Cov}(x, z) = \operatorname{Cov}(x, z)` leaves no
covariance between r(x) and z: all values of another attribute have one class mean, and no linear classifier
does better than a constant. Of these maps, ``fit_erasure`` returns the one that moves features least,

.. math::
    D = \Sigma^{1/2} U U^\top \Sigma^{-1/2}, \quad
    U = \text{an orthonormal basis of the columns of } \Sigma^{-1/2} \operatorname{Cov}(x, z),

with :math:`\Sigma` the covariance of x (Belrose et al., "LEACE: Perfect linear concept erasure in closed
form", 2023). It also removes what j shares with the others, such as the gender that a category implies.

``fit_conditional_erasure`` erases what is there beyond j's own labels y. It takes the covariance within
classes for :math:`\Sigma`, that of :math:`x - E[x|y]` and :math:`z - E[z|y]` for the covariance with z, and
leaves the class means of y where they are. With P the projection onto the whitened differences of these
means,

.. math::
    D = \Sigma^{1/2} U \left((I - P) U\right)^+ \Sigma^{-1/2}.

A label that is missing takes its image out of the covariance with that attribute's values alone. The map
needs no label of the images that it is applied to.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import whole_number
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.feature_arguments import concrete_features
from gradrev_jax.core.vectors import as_floating

NULL_TAIL = 3.0  # noise reaches this far beyond sqrt(d) + sqrt(v) with a probability of at most 0.011
LEAST_SINE = 0.1  # of the angle to the class means' differences, below which a direction is left as it is
ROUNDING = 1e-9  # of the largest; singular values and lengths below are rounding


class Erasure(NamedTuple):
    """An affine map of each attribute's features, x -> matrices[j] x + offsets[j].

    Attributes:
      matrices: [N, d, d].
      offsets: [N, d].
    """

    matrices: Float[np.ndarray, "N d d"]
    offsets: Float[np.ndarray, "N d"]


def fit_erasure(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
    shrinkage: float = 1e-3,
) -> Erasure:
    """Computes the least-squares erasure of all other attributes from each attribute's features.

    Args:
      features: [M, N, d], usually of the training part.
      labels: [M, N], -1 = not labelled.
      schema: the attributes.
      shrinkage: the variance that is added to the covariance in every direction, as a fraction of the mean
        variance. Nothing is left of the covariance with labels whatever it is; with more of it, the map is
        the least one for features with that much more noise.

    Returns:
      The map. It is the identity for features that do not vary, or if no other attribute is labelled. Where
      the other attributes' values outnumber the dimensions, nothing is left but the mean.

    Raises:
      ValueError: features or labels as in ``concrete_features``, or a shrinkage that is not above 0.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> features = np.stack([labels, labels], axis=1).astype(float)  # each feature is both labels
      >>> erased = apply_erasure(features, fit_erasure(features, labels, schema))
      >>> erased[:, 0].round(3).tolist()  # of color's feature, the color is left
      [[0.0, 0.5], [0.0, 0.5], [1.0, 0.5], [1.0, 0.5]]
    """
    numbers, labels = concrete_features(features, labels, schema)
    _check_shrinkage(shrinkage)
    erasure = _identity(numbers)
    for n in range(schema.num_attributes):
        strata = np.zeros(len(labels), np.int64)
        others = np.delete(labels, n, axis=1)
        _erase(erasure, n, _scatter(numbers[:, n], strata, shrinkage), others, rank=numbers.shape[2])
    return erasure


def fit_conditional_erasure(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
    rank: int | None = None,
    shrinkage: float = 1e-3,
) -> Erasure:
    """Computes the erasure of what features say of other attributes beyond their own attribute's label.

    Args:
      features: [M, N, d], usually of the training part.
      labels: [M, N]; images that are not labelled for an attribute are left out for its own features.
      schema: the attributes.
      rank: the number of directions to erase from each attribute's features, those first that the other
        attributes explain best; d for all. None: those that are significant for some attribute, which means
        that the whitened covariance is larger along them than noise makes it (``NULL_TAIL``).
      shrinkage: the variance that is added to the covariance within classes in every direction, as a
        fraction of the mean variance there.

    Returns:
      The map. It moves no class mean of the own attribute. Directions too close to the differences of these
      means (``LEAST_SINE``) stay, since erasing one alone would add ten times as much as it takes away.

    Raises:
      ValueError: features or labels as in ``concrete_features``, a shrinkage that is not above 0, or a rank
        below 0.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [1, 1]])
      >>> features = np.stack([labels, labels], axis=1).astype(float)
      >>> erased = apply_erasure(features, fit_conditional_erasure(features, labels, schema, rank=1))
      >>> print(erased[:, 0].round(2).T)  # of size, what the color tells is left
      [[0.   0.   0.   0.   1.   1.   1.   1.  ]
       [0.25 0.25 0.25 0.25 0.75 0.75 0.75 0.75]]
    """
    numbers, labels = concrete_features(features, labels, schema)
    _check_shrinkage(shrinkage)
    if rank is not None and (rank := whole_number(rank, "rank")) < 0:
        raise ValueError(f"rank must not be below 0, got {rank}")
    erasure = _identity(numbers)
    for n in range(schema.num_attributes):
        known = labels[:, n] != NOT_LABELLED
        others = np.delete(labels[known], n, axis=1)
        _erase(erasure, n, _scatter(numbers[known, n], labels[known, n], shrinkage), others, rank)
    return erasure


def apply_erasure(
    features: Float[Array | np.ndarray, "*batch N d"], erasure: Erasure
) -> Float[Array, "*batch N d"]:
    """Applies an erasure to features.

    The mean of mapped features is the mapped mean, so prototypes may be mapped instead of computed anew. A
    memory's rows with other blocks than their own are no features: compute such a memory anew.

    Args:
      features: [..., N, d].
      erasure: the map.

    Returns:
      [..., N, d], in the features' dtype, or in float32 if they are integers.

    Raises:
      ValueError: shapes that disagree.

    Example:
      >>> erasure = Erasure(np.array([[[1.0, 0.0], [0.0, 0.0]]]), np.array([[0.0, 9.0]]))
      >>> apply_erasure(np.array([[3.0, 4.0]]), erasure).tolist()
      [[3.0, 9.0]]
    """
    matrices, offsets = erasure
    if features.shape[-2:] != offsets.shape or matrices.shape != (*offsets.shape, offsets.shape[-1]):
        raise ValueError(
            "features [..., N, d], matrices [N, d, d] and offsets [N, d] disagree; "
            f"got {features.shape}, {matrices.shape} and {offsets.shape}"
        )
    return _apply_erasure(features, erasure)


@jax.jit
def _apply_erasure(
    features: Float[Array | np.ndarray, "*batch N d"], erasure: Erasure
) -> Float[Array, "*batch N d"]:
    features = as_floating(features)
    matrices, offsets = erasure
    mapped = jnp.einsum("...ne,nde->...nd", features, matrices, precision=jax.lax.Precision.HIGHEST)
    return (mapped + offsets).astype(features.dtype)


class _Scatter(NamedTuple):
    """The scatter of one attribute's features within strata, whitened.

    Attributes:
      strata: [M, S], the stratum of each image, one-hot.
      residuals: [M, d], the features minus the mean of their stratum.
      whiten: [d, d], the inverse square root of the shrunk covariance within strata.
      unwhiten: [d, d], its square root.
      mean: [d], of all features.
      differences: [S - 1, d], the whitened differences between the means of strata.
    """

    strata: Float[np.ndarray, "M S"]
    residuals: Float[np.ndarray, "M d"]
    whiten: Float[np.ndarray, "d d"]
    unwhiten: Float[np.ndarray, "d d"]
    mean: Float[np.ndarray, " d"]
    differences: Float[np.ndarray, "s d"]


def _erase(
    erasure: Erasure,
    n: int,
    scatter: _Scatter | None,
    others: Int[np.ndarray, "M n"],
    rank: int | None,
) -> None:
    """Fills in the map of attribute n; without scatter, or others, it stays the identity."""
    if scatter is None or not others.shape[1]:
        return
    scores = [_scores(scatter, column) for column in others.T]
    if rank is None:
        scores = [_significant(each) for each in scores]
    directions = _span(np.concatenate(scores, axis=1))[:, :rank]
    means = _span(scatter.differences.T)
    # The directions' own part, outside the span of the means, and how much of each that is.
    outside, sines, rows = np.linalg.svd(directions - means @ (means.T @ directions), full_matrices=False)
    apart = sines > LEAST_SINE
    oblique = directions @ rows[apart].T @ (outside[:, apart] / sines[apart]).T
    erased = scatter.unwhiten @ oblique @ scatter.whiten
    erasure.matrices[n] -= erased
    erasure.offsets[n] = erased @ scatter.mean


def _scatter(
    features: Float[np.ndarray, "M d"], strata: Int[np.ndarray, " M"], shrinkage: float
) -> _Scatter | None:
    """Returns the scatter of features within strata; None if they do not vary there."""
    features = features.astype(np.float64)
    one_hot = _one_hot(strata, np.unique(strata))
    num_images, num_strata = one_hot.shape
    means = one_hot.T @ features / one_hot.sum(axis=0)[:, None]
    residuals = features - one_hot @ means
    # Unbiased, so that noise is as large as the rule of significance takes it to be.
    covariance = residuals.T @ residuals / max(num_images - num_strata, 1)
    variances, axes = np.linalg.eigh(covariance)
    if variances.sum() <= ROUNDING**2 * np.square(means).sum():
        return None
    roots = np.sqrt(np.maximum(variances, 0) + shrinkage * variances.mean())
    whiten, unwhiten = (axes / roots) @ axes.T, (axes * roots) @ axes.T
    differences = (means[1:] - means[:1]) @ whiten
    return _Scatter(one_hot, residuals, whiten, unwhiten, features.mean(axis=0), differences)


def _scores(scatter: _Scatter, labels: Int[np.ndarray, " M"]) -> Float[np.ndarray, "d v"]:
    r"""Returns the whitened covariance with an attribute's values within strata, in units of its noise.

    With X the whitened residuals of the labelled images and Z their one-hot labels minus the mean of these in
    each stratum, it is :math:`X^\top Z (Z^\top Z)^{-1/2}`. If X is normal and independent of Z, its numbers
    are independent and standard normal.
    """
    known = labels != NOT_LABELLED
    values = _one_hot(labels, np.unique(labels[known]))
    shares = scatter.strata.T @ values / np.maximum(known @ scatter.strata, 1)[:, None]
    values -= known[:, None] * (scatter.strata @ shares)
    variances, axes = np.linalg.eigh(values.T @ values)
    wide = variances > ROUNDING * len(labels)
    covariance = scatter.whiten @ (scatter.residuals.T @ values)
    return covariance @ (axes[:, wide] / np.sqrt(variances[wide]))


def _significant(scores: Float[np.ndarray, "d v"]) -> Float[np.ndarray, "d v"]:
    """Returns scores without what noise could have made of them.

    The largest singular value of a d x v matrix of independent standard normal numbers exceeds
    sqrt(d) + sqrt(v) + t with a probability of at most exp(-t² / 2) (Davidson and Szarek, 2001).
    """
    directions, sizes, rows = np.linalg.svd(scores, full_matrices=False)
    return directions * np.where(sizes > sum(np.sqrt(scores.shape)) + NULL_TAIL, sizes, 0) @ rows


def _span(columns: Float[np.ndarray, "d c"]) -> Float[np.ndarray, "d r"]:
    """Returns an orthonormal basis of the span of columns, the directions of the largest first."""
    directions, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return directions[:, sizes > ROUNDING * sizes.max(initial=0)]


def _identity(features: Float[np.ndarray, "M N d"]) -> Erasure:
    num_attributes, dim = features.shape[1:]
    matrices = np.tile(np.eye(dim, dtype=features.dtype), (num_attributes, 1, 1))
    return Erasure(matrices, np.zeros((num_attributes, dim), features.dtype))


def _one_hot(labels: Int[np.ndarray, " M"], values: Int[np.ndarray, " c"]) -> Float[np.ndarray, "M c"]:
    """Returns labels as one-hot rows over some values; the row of another label is zero."""
    return (labels[:, None] == values).astype(np.float64)


def _check_shrinkage(shrinkage: float) -> None:
    if not (np.isfinite(shrinkage) and shrinkage > 0):
        raise ValueError(f"shrinkage must be finite and above 0, got {shrinkage}")
