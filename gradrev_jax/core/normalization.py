"""The vectors that retrieval compares: the attributes' features, weighted, normalised and concatenated."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.vectors import as_floating, unit_of_any_size

Normalization = Literal["global", "attribute", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
Weights = Float[Array | np.ndarray, " P"] | Int[Array | np.ndarray, " P"] | Sequence[int | float]
LEAST_WEIGHT = 1e-18  # times the largest; the square of a lower one is less than float32 can represent


def normalize_features(
    features: Float[Array | np.ndarray, "*batch N d"],
    how: Normalization = "global",
    weights: Weights | None = None,
) -> Float[Array, "*batch Nd"]:
    r"""Concatenates the attributes' features to one vector for retrieval, L2-normalised and weighted.

    With a weight w_n per attribute, scaled so that the mean of their squares is 1, block n of a vector is

    .. math::
        \frac{w_n f_n}{\sqrt{\sum_m w_m^2 |f_m|^2}}, \quad
        \frac{w_n}{\sqrt N} \frac{f_n}{|f_n|} \quad \text{or} \quad w_n f_n

    for ``global``, ``attribute`` and ``none``.

    Args:
      features: [..., N, d], after the manipulation.
      how: ``global`` normalises the concatenation; ``attribute`` normalises each attribute's feature, and
        divides it by sqrt(N) to give the concatenation length 1; ``none`` normalises nothing.
      weights: the weight of each attribute, [N]; 0 leaves it out. None, or equal weights: all 1.

    Returns:
      [..., N * d]. A zero vector stays zero.

    Raises:
      ValueError: features without an attribute axis, an unknown ``how``, or weights as in ``scale_weights``.

    Example:
      >>> print(normalize_features(np.array([[3.0], [4.0]])))  # N = 2, d = 1
      [0.6 0.8]
      >>> print(normalize_features(np.array([[3.0], [4.0]]), weights=[4, 3]).round(3))
      [0.707 0.707]
    """
    if how not in NORMALIZATIONS:
        raise ValueError(f"how must be one of {', '.join(NORMALIZATIONS)}, got {how!r}")
    if features.ndim < 2:
        raise ValueError(f"features must be [..., N, d], got {features.shape}")
    return normalize_scaled(as_floating(features), how, scale_weights(weights, features.shape[-2]))


def scale_weights(weights: Weights | None, num_attributes: int) -> Float[np.ndarray, " N"] | None:
    """Returns weights times the factor that makes the mean of their squares 1; None if all are equal.

    A weight below 1e-18 times the largest becomes 0.

    Args:
      weights: the weight of each attribute, [N], none negative and not all 0; None: all equal.
      num_attributes: N.

    Raises:
      ValueError: another shape, a weight that is negative or not finite, or none above 0.

    Example:
      >>> scale_weights([7, 1], 2).round(6).tolist(), scale_weights([3, 3], 2)
      ([1.4, 0.2], None)
    """
    if weights is None:
        return None
    numbers: np.ndarray = np.asarray(weights, np.float64)
    if numbers.shape != (num_attributes,):
        raise ValueError(f"weights must be [{num_attributes}], one per attribute, got {numbers.shape}")
    bad = ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        n = int(bad.argmax())
        raise ValueError(f"weights must be finite and not below 0, got {numbers[n]:g} for attribute {n}")
    if not numbers.any():
        raise ValueError("weights must not all be 0")
    if (numbers == numbers[0]).all():
        return None
    numbers = numbers / numbers.max()
    numbers[numbers < LEAST_WEIGHT] = 0
    return numbers / np.sqrt(np.square(numbers).mean())


def normalize_scaled(
    features: Float[Array, "*batch N d"],
    how: Normalization,
    weights: Float[Array | np.ndarray, " N"] | None,
) -> Float[Array, "*batch Nd"]:
    """Returns ``normalize_features`` for weights that ``scale_weights`` returned; they may be traced.

    Args:
      features: [..., N, d], floating point.
      how: the normalisation.
      weights: the scaled weights, [N]; None: all 1.
    """
    vectors = weigh_features(features, how, weights)
    if how == "attribute":
        vectors = unit_of_any_size(vectors) / vectors.shape[-2] ** 0.5
        if weights is not None:
            vectors *= jnp.asarray(weights, vectors.dtype)[:, None]
    flat = vectors.reshape(*vectors.shape[:-2], -1)
    return unit_of_any_size(flat) if how == "global" else flat


def weigh_features(
    features: Float[Array, "*batch N d"],
    how: Normalization,
    weights: Float[Array | np.ndarray, " N"] | None,
) -> Float[Array, "*batch N d"]:
    """Multiplies features, or prototypes, by the weights that apply before the normalisation.

    These are all of them, or with ``attribute``, which applies the others afterwards, those of 0. What an
    attribute that is left out holds, be it NaN, becomes 0. Since weights do not differ within a block, it
    makes no difference whether a manipulation comes before or after.

    Args:
      features: [..., N, d], floating point.
      how: the normalisation.
      weights: the scaled weights, [N]; None: all 1.

    Example:
      >>> weigh_features(jnp.array([[3.0], [jnp.nan], [4.0]]), "none", np.array([0.5, 0.0, 1.5])).tolist()
      [[1.5], [0.0], [6.0]]
    """
    if weights is None:
        return features
    factors = jnp.asarray(weights, features.dtype)[:, None]
    weighted = features if how == "attribute" else features * factors
    return jnp.where(factors > 0, weighted, 0)
