"""Checks what searches by an index are called with."""

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import check_integers, whole_number
from gradrev_jax.core.attributes import AttributeSchema

UNTRACEABLE = (  # what cannot be traced, and what to do instead
    "a search by an index runs outside of jax.jit, jax.vmap and jax.grad; inside, use manipulate, "
    "normalize_features and nearest_neighbors"
)


def check_shapes(
    features: Float[Array | np.ndarray, "G P d"],
    memory: Float[Array | np.ndarray, "J P d"],
    schema: AttributeSchema,
) -> None:
    """Raises unless a gallery and a memory have the shapes of a schema.

    Args:
      features: [G, P, d], the gallery; the first N blocks are those of the attributes.
      memory: [J, P, d], the prototypes.
      schema: the attributes.

    Raises:
      ValueError: an empty gallery, or shapes that disagree.
    """
    n, j = schema.num_attributes, schema.num_values
    is_gallery = features.ndim == 3 and len(features) and features.shape[1] >= n
    if not is_gallery or memory.shape != (j, *features.shape[1:]):
        raise ValueError(
            f"features must be [G, P, d] with G > 0 and P >= {n}, and memory [{j}, P, d]; "
            f"got {features.shape} and {memory.shape}"
        )


def validate_k(k: int, num_rows: int, *, exclude_reference: bool) -> int:
    """Returns the number of neighbours as a Python int.

    Args:
      k: the number of neighbours.
      num_rows: G, the size of the gallery.
      exclude_reference: whether the reference is left out of its result.

    Raises:
      ValueError: k below 1 or beyond the gallery, or no whole number.
    """
    k = whole_number(k, "k")
    allowed = num_rows - exclude_reference
    if not 1 <= k <= allowed:
        besides = " besides the reference" if exclude_reference else ""
        raise ValueError(f"k must lie between 1 and the gallery's {allowed} rows{besides}, got {k}")
    return k


def validate_reference_ids(
    reference_ids: Int[Array | np.ndarray, " Q"], num_rows: int
) -> Int[np.ndarray, " Q"]:
    """Returns the gallery rows of references as a NumPy array.

    Args:
      reference_ids: [Q], the gallery rows.
      num_rows: G, the size of the gallery.

    Raises:
      ValueError: another shape or dtype, or a row outside the gallery.
    """
    reference_ids = np.asarray(reference_ids)
    check_integers(reference_ids, "reference_ids")
    if reference_ids.ndim != 1:
        raise ValueError(f"reference_ids must be [Q], got {reference_ids.shape}")
    outside = reference_ids[(reference_ids < 0) | (reference_ids >= num_rows)]
    if outside.size:
        raise ValueError(f"reference_ids must lie between 0 and {num_rows - 1}, got {outside[0]}")
    return reference_ids
