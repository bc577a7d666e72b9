"""Checks of labelled features, shared by the functions that compute something from those of a whole part."""

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import AttributeSchema, check_labels


def check_features(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> None:
    """Raises unless the shapes of features and labels agree with each other and with a schema.

    Args:
      features: [M, N, d], traced or not.
      labels: [M, N], traced or not.
      schema: the attributes.

    Raises:
      ValueError: shapes that disagree; the message has both.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> check_features(np.zeros((3, 1, 8)), np.zeros((3, 1), np.int32), schema)
    """
    if (
        features.ndim != 3
        or features.shape[:2] != labels.shape
        or labels.shape[1:] != (schema.num_attributes,)
    ):
        raise ValueError(
            f"features must be [M, N, d] and labels [M, N] with N = {schema.num_attributes}; "
            f"got {features.shape} and {labels.shape}"
        )


def concrete_features(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> tuple[Float[np.ndarray, "M N d"], Int[np.ndarray, "M N"]]:
    """Returns features and labels as NumPy arrays, checked, for a closed form in float64.

    Args:
      features: [M, N, d], all finite.
      labels: [M, N], -1 = not labelled.
      schema: the attributes.

    Returns:
      The features in a dtype of at least float32, and the labels.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, labels as in ``check_labels``, or a
        feature that is not finite; the message has its image and attribute.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> concrete_features(np.array([[[np.nan]]]), np.array([[1]]), schema)
      Traceback (most recent call last):
      ValueError: features must be finite; image 0 has a number that is not, for attribute 'color'
    """
    check_features(features, labels, schema)
    check_labels(labels, schema)
    numbers = np.asarray(features)
    numbers = numbers.astype(np.result_type(numbers.dtype, np.float32), copy=False)
    finite = np.isfinite(numbers).all(axis=2)
    if not finite.all():
        image, n = np.argwhere(~finite)[0]
        raise ValueError(
            f"features must be finite; image {image} has a number that is not, "
            f"for attribute {schema.names[n]!r}"
        )
    return numbers, np.asarray(labels)
