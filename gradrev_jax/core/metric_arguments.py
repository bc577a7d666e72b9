"""Checks of the arguments of retrieval metrics, for NumPy and JAX arrays, traced or not."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gradrev_jax.core.arguments import check_integers, is_traced, whole_number
from gradrev_jax.core.attributes import NOT_LABELLED


def changed_mask(changed: Any, num_queries: int, num_attributes: int) -> Any:
    """Returns the attributes that each query changes as a mask, bool [Q, N].

    Args:
      changed: [Q], one attribute per query; or a mask [Q, N], of bool or of 0 and 1. In a traced mask, every
        number but 0 counts as 1; a traced attribute out of range counts as none.
      num_queries: Q, the number of queries.
      num_attributes: N, the number of attributes.

    Raises:
      ValueError: another shape or dtype, an attribute out of range, or a mask with numbers besides 0 and 1.

    Example:
      >>> changed_mask(np.array([1, 0]), 2, 2).tolist()
      [[False, True], [True, False]]
      >>> changed_mask(np.array([[0, 1], [1, 1]]), 2, 2).tolist()
      [[False, True], [True, True]]
    """
    shape = num_queries, num_attributes
    is_mask = changed.ndim == 2
    if changed.shape != shape[: changed.ndim] or changed.ndim not in (1, 2):
        raise ValueError(f"changed must be {shape[:1]} or {shape}, got {changed.shape}")
    if not (is_mask and changed.dtype == bool):
        check_integers(changed, "changed" if is_mask else "changed, an attribute for each query,")
    most = 1 if is_mask else shape[1] - 1
    if not is_traced(changed) and ((changed < 0) | (changed > most)).any():
        what = "a mask of 0 and 1" if is_mask else f"attributes in [0, {most}]"
        raise ValueError(f"changed must be {what}, got {changed[(changed < 0) | (changed > most)][0]}")
    return changed != 0 if is_mask else changed[:, None] == np.arange(shape[1])


def lower_cut_off(k: int, num_images: int) -> int:
    """Lowers a cut-off to half of the images, rounded up: a hit among more of them would hardly be a choice.

    Args:
      k: the cut-off to use if there are enough images.
      num_images: the number of images that are searched.

    Example:
      >>> lower_cut_off(10, 100), lower_cut_off(10, 7)
      (10, 4)
    """
    return min(k, (num_images + 1) // 2)


def known_labels(labels: Any, argument: str) -> Any:
    """Checks that no label is below -1; traced labels, which cannot be checked, become -1.

    Args:
      labels: an array of any shape.
      argument: the name of the argument, for the message.

    Raises:
      ValueError: labels that are no integers, or a label below -1, with its position.

    Example:
      >>> known_labels(np.array([0, -1]), "labels").tolist()
      [0, -1]
    """
    check_integers(labels, argument)
    if jnp.issubdtype(labels.dtype, jnp.unsignedinteger):  # which has no -1
        labels = labels.astype(np.int32)
    if is_traced(labels):
        return jnp.maximum(labels, NOT_LABELLED)
    if labels.size and labels.min() < NOT_LABELLED:
        where = tuple(np.argwhere(np.asarray(labels) < NOT_LABELLED)[0].tolist())
        raise ValueError(f"{argument} must be at least -1 (not labelled), got {labels[where]} at {where}")
    return labels


def validate_neighbors(neighbor_labels: Any, target_labels: Any, k: int) -> tuple[Any, Any, int]:
    """Returns the arguments of a retrieval metric, with k as a Python int.

    Args:
      neighbor_labels: [Q, K, N], the labels of the neighbours.
      target_labels: [Q, N], the labels that were asked for.
      k: a cut-off.

    Raises:
      ValueError: no queries, k out of range, shapes that disagree, or labels below -1.

    Example:
      >>> validate_neighbors(np.zeros((1, 3, 2), int), np.zeros((1, 2), int), 3)[2]
      3
    """
    if neighbor_labels.ndim != 3:
        raise ValueError(f"neighbor_labels must be [Q, K, N], got {neighbor_labels.shape}")
    queries, depth, num_attributes = neighbor_labels.shape
    if target_labels.shape != (queries, num_attributes):
        raise ValueError(
            f"neighbor_labels {neighbor_labels.shape} needs target_labels {(queries, num_attributes)}, "
            f"got {target_labels.shape}"
        )
    if queries == 0:
        raise ValueError("no queries: a mean over none is not defined")
    k = whole_number(k, "k")
    if not 1 <= k <= depth:
        raise ValueError(f"k must lie in [1, {depth}] (neighbours given), got {k}")
    return known_labels(neighbor_labels, "neighbor_labels"), known_labels(target_labels, "target_labels"), k


def validate_cut_offs(ks: Any) -> tuple[int, ...]:
    """Returns cut-offs as Python ints.

    Args:
      ks: whole numbers of Python, NumPy or JAX.

    Raises:
      ValueError: no cut-off, or one that is no whole number.

    Example:
      >>> validate_cut_offs(np.array([1, 5]))
      (1, 5)
    """
    if np.ndim(ks) != 1 or not len(ks):
        raise ValueError(f"ks must be cut-offs, one at least, got {ks!r}")
    return tuple(whole_number(k, "a cut-off of ks") for k in ks)
