"""Triplet losses on embeddings: semi-hard mining within a batch, and given triplets."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import check_integers, is_traced
from gradrev_jax.core.attributes import NOT_LABELLED


def semi_hard_triplet_loss(
    embeddings: Float[Array | np.ndarray, "B D"],
    classes: Int[Array | np.ndarray, "B ..."],
    *,
    labelled: Bool[Array | np.ndarray, " B"] | None = None,
    margin: float = 0.5,
) -> Float[Array, ""]:
    r"""Triplet loss with semi-hard negatives, on squared distances (Schroff et al., 2015).

    .. math::
        \operatorname{mean}_{(a, p)} \max(0, D_{ap} - D_{an(a, p)} + m)

    over all ordered pairs a != p of one class. The negative n(a, p) is the nearest to a of those that are
    farther than p, and where there is none the farthest of all. Pairs whose anchor has no negative in the
    batch are left out of the mean.

    Negatives are found by sorting each anchor's row once: O(B² log B) instead of comparing all triplets.

    Args:
      embeddings: [B, D], usually L2-normalised.
      classes: [B] or [B, N], two rows are of one class where all their labels are equal.
      labelled: [B], images that take part; None: all.
      margin: m, in squared distance.

    Returns:
      Scalar; 0 where the batch has no pair.

    Raises:
      ValueError: numbers of rows that disagree, embeddings that are no rows, or classes that are no integers.

    Example:
      >>> embeddings = jnp.array([[0.0], [1.0], [2.0]])
      >>> float(semi_hard_triplet_loss(embeddings, jnp.array([0, 0, 1])))  # of the pairs, (1, 0) is 0.5 off
      0.25
    """
    if embeddings.ndim != 2 or not classes.ndim:
        raise ValueError(
            f"embeddings must be [B, D] and classes [B] or [B, N]; got {embeddings.shape} and {classes.shape}"
        )
    check_integers(classes, "classes")
    if len(embeddings) != len(classes) or (labelled is not None and len(labelled) != len(classes)):
        raise ValueError(
            f"embeddings, classes and labelled must have as many rows; got {len(embeddings)}, {len(classes)} "
            f"and {None if labelled is None else len(labelled)}"
        )
    embeddings, classes = jnp.asarray(embeddings), jnp.asarray(classes)
    present = jnp.ones(len(classes), bool) if labelled is None else jnp.asarray(labelled)
    both = present[:, None] & present[None, :]
    rows = classes.reshape(len(classes), -1)
    same = (rows[:, None] == rows[None, :]).all(axis=-1)
    distances = squared_distances(embeddings)

    negatives = jnp.sort(jnp.where(both & ~same, distances, jnp.inf), axis=1)
    count = (both & ~same).sum(axis=1, keepdims=True)
    # First negative farther than the positive; past the last one stands the last one itself.
    search = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))
    first = search(jax.lax.stop_gradient(negatives), jax.lax.stop_gradient(distances))
    negative = jnp.take_along_axis(negatives, jnp.minimum(first, jnp.maximum(count - 1, 0)), axis=1)

    pairs = both & same & ~jnp.eye(len(classes), dtype=bool) & (count > 0)
    violation = jnp.where(pairs, distances - jnp.where(pairs, negative, 0.0) + margin, 0.0)
    return jnp.maximum(violation, 0).sum() / jnp.maximum(pairs.sum(), 1)


def attribute_triplet_loss(
    features: Float[Array | np.ndarray, "B N d"],
    labels: Int[Array | np.ndarray, "B N"],
    *,
    margin: float = 0.5,
) -> Float[Array, ""]:
    """Semi-hard triplet loss on each normalised f[:, n] with its own labels, summed over attributes (ADDE-M).

    Args:
      features: [B, N, d].
      labels: [B, N]; images that are not labelled for an attribute (-1) are left out of its term; so are
        traced labels below 0. How many values an attribute has is not known here, and not checked.
      margin: in squared distance.

    Raises:
      ValueError: shapes that disagree, labels that are no integers or lie below -1.

    Example:
      >>> features = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
      >>> float(attribute_triplet_loss(features, jnp.array([[0], [1]])))  # no two of one class
      0.0
    """
    if features.ndim != 3 or labels.shape != features.shape[:2]:
        raise ValueError(
            f"features must be [B, N, d] and labels [B, N]; got {features.shape} and {labels.shape}"
        )
    check_integers(labels, "labels")
    if not is_traced(labels) and (bad := np.argwhere(np.asarray(labels) < NOT_LABELLED)).size:
        row, n = bad[0].tolist()
        raise ValueError(
            f"labels: label {labels[row, n]} of row {row} is below -1 (not labelled) of attribute {n}"
        )
    labels = jnp.asarray(labels)

    def of_attribute(features: Array, labels: Array) -> Array:
        return semi_hard_triplet_loss(unit(features), labels, labelled=labels >= 0, margin=margin)

    return jax.vmap(of_attribute, in_axes=1)(jnp.asarray(features), labels).sum()


def triplet_margin_loss(
    anchor: Float[Array | np.ndarray, "B D"],
    positive: Float[Array | np.ndarray, "B D"],
    negative: Float[Array | np.ndarray, "B D"],
    *,
    margin: float = 0.5,
) -> Float[Array, ""]:
    r"""Mean over given triplets of ``max(0, |a - p| - |a - n| + margin)``, with plain distances.

    Args:
      anchor: [B, D].
      positive: [B, D].
      negative: [B, D].
      margin: in distance.

    Raises:
      ValueError: shapes that are not the same.

    Example:
      >>> a, p, n = jnp.array([[0.0]]), jnp.array([[1.0]]), jnp.array([[1.25]])
      >>> float(triplet_margin_loss(a, p, n))
      0.25
    """
    if not np.shape(anchor) == np.shape(positive) == np.shape(negative) or np.ndim(anchor) != 2:
        raise ValueError(
            "anchor, positive and negative must be [B, D] alike; got "
            f"{np.shape(anchor)}, {np.shape(positive)} and {np.shape(negative)}"
        )

    def distance(other: Float[Array | np.ndarray, "B D"]) -> Array:
        squares = jnp.square(jnp.asarray(anchor) - jnp.asarray(other)).sum(axis=-1)
        # The root's slope is infinite at 0: there, and only there, the gradient is taken as 0.
        return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)

    return jnp.maximum(distance(positive) - distance(negative) + margin, 0).mean()


def unit(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Vectors of length 1; the zero vector stays, with a gradient of 0."""
    squares = jnp.square(x).sum(axis=-1, keepdims=True)
    return x * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def squared_distances(x: Float[Array, "B D"]) -> Float[Array, "B B"]:
    """Squared distances between all rows, never negative, and exactly 0 from a row to itself."""
    products = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(x).sum(axis=-1)
    distances = squares[:, None] + squares[None, :] - 2 * products
    return jnp.where(jnp.eye(len(x), dtype=bool), 0.0, jnp.maximum(distances, 0.0))
