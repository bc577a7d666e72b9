"""Triplet losses on embeddings: with semi-hard negatives of the batch, and on given triplets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gradrev_jax.core.arguments import check_integers, is_traced
from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.core.vectors import at_least_float32, unit_with_safe_gradient


def semi_hard_triplet_loss(
    embeddings: Float[Array | np.ndarray, "B D"],
    classes: Int[Array | np.ndarray, "B ..."],
    *,
    labelled: Bool[Array | np.ndarray, " B"] | None = None,
    margin: float = 0.5,
) -> Float[Array, ""]:
    r"""Computes the triplet loss with semi-hard negatives, on squared distances (Schroff et al., 2015).

    .. math::
        \operatorname{mean}_{(a, p)} \max(0, D_{ap} - D_{an(a, p)} + m)

    The mean goes over all ordered pairs a != p of one class. The negative n(a, p) is the row of another class
    that is nearest to a among those farther than p or, if there is none, the farthest of all. Pairs whose
    anchor has no negative in the batch are left out.

    Negatives are found by sorting each anchor's row once: O(B² log B) instead of comparing all triplets.

    Args:
      embeddings: [B, D], usually L2-normalised.
      classes: [B] or [B, N]; two rows are of one class if all their labels are equal.
      labelled: [B], the rows that take part; None: all.
      margin: m, in squared distance.

    Returns:
      Scalar; 0 if the batch has no pair.

    Raises:
      ValueError: embeddings that are not two-dimensional, classes that are no integers, or numbers of rows
        that disagree.

    Example:
      >>> embeddings = jnp.array([[0.0], [1.0], [2.0]])
      >>> float(semi_hard_triplet_loss(embeddings, jnp.array([0, 0, 1])))  # pair (1, 0): 0.5; (0, 1): 0
      0.25
    """
    _check_rows(embeddings, classes, labelled)
    embeddings, classes = at_least_float32(embeddings), jnp.asarray(classes)
    present = jnp.ones(len(classes), bool) if labelled is None else jnp.asarray(labelled)
    both = present[:, None] & present[None, :]
    rows = classes.reshape(len(classes), math.prod(classes.shape[1:]))
    same = (rows[:, None] == rows[None, :]).all(axis=-1)
    distances = squared_distances(embeddings)
    negative, count = _semi_hard_negatives(distances, both & ~same)
    pairs = both & same & ~jnp.eye(len(classes), dtype=bool) & (count > 0)
    violation = jnp.where(pairs, distances - jnp.where(pairs, negative, 0.0) + margin, 0.0)
    return jnp.maximum(violation, 0).sum() / jnp.maximum(pairs.sum(), 1)


def _semi_hard_negatives(
    distances: Float[Array, "B B"], is_negative: Bool[Array, "B B"]
) -> tuple[Float[Array, "B B"], Int[Array, "B 1"]]:
    """Returns the distance of each pair's semi-hard negative, and the number of each anchor's negatives."""
    negatives = jnp.sort(jnp.where(is_negative, distances, jnp.inf), axis=1)
    count = is_negative.sum(axis=1, keepdims=True)
    # The first negative farther than the positive or, past the end, the last negative itself.
    search = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))
    first = search(jax.lax.stop_gradient(negatives), jax.lax.stop_gradient(distances))
    return jnp.take_along_axis(negatives, jnp.minimum(first, jnp.maximum(count - 1, 0)), axis=1), count


def _check_rows(
    embeddings: Float[Array | np.ndarray, "B D"],
    classes: Int[Array | np.ndarray, "B ..."],
    labelled: Bool[Array | np.ndarray, " B"] | None,
) -> None:
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


def attribute_triplet_loss(
    features: Float[Array | np.ndarray, "B N d"],
    labels: Int[Array | np.ndarray, "B N"],
    *,
    margin: float = 0.5,
) -> Float[Array, ""]:
    """Sums the semi-hard triplet losses of all attributes, each on its normalised features (ADDE-M).

    Args:
      features: [B, N, d].
      labels: [B, N], the classes of each attribute. Images that are not labelled for an attribute (-1, or any
        traced label below 0) are left out of its term. Upper limits are not checked, for lack of a schema.
      margin: the margin, in squared distance.

    Raises:
      ValueError: shapes that disagree, labels that are no integers, or labels below -1.

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

    def one_attribute(features: Array, labels: Array) -> Array:
        embeddings = unit_with_safe_gradient(features)
        return semi_hard_triplet_loss(embeddings, labels, labelled=labels >= 0, margin=margin)

    return jax.vmap(one_attribute, in_axes=1)(at_least_float32(features), labels).sum()


def triplet_margin_loss(
    anchor: Float[Array | np.ndarray, "B D"],
    positive: Float[Array | np.ndarray, "B D"],
    negative: Float[Array | np.ndarray, "B D"],
    *,
    margin: float = 0.5,
) -> Float[Array, ""]:
    """Computes the mean of ``max(0, |a - p| - |a - n| + margin)`` over given triplets, on plain distances.

    The mean of no triplets is 0.

    Args:
      anchor: [B, D], the embeddings a.
      positive: [B, D], the embeddings p.
      negative: [B, D], the embeddings n.
      margin: the margin, in distance.

    Raises:
      ValueError: shapes that are not the same, or not two-dimensional.

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
        squares = jnp.square(at_least_float32(anchor) - at_least_float32(other)).sum(axis=-1)
        # The derivative of the root is infinite at 0; there, and only there, the gradient is set to 0.
        return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)

    losses = jnp.maximum(distance(positive) - distance(negative) + margin, 0)
    return losses.sum() / max(len(losses), 1)


def squared_distances(x: Float[Array, "B D"]) -> Float[Array, "B B"]:
    """Returns the squared distances between all rows, never negative, and exactly 0 on the diagonal."""
    products = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(x).sum(axis=-1)
    distances = squares[:, None] + squares[None, :] - 2 * products
    return jnp.where(jnp.eye(len(x), dtype=bool), 0.0, jnp.maximum(distances, 0.0))
