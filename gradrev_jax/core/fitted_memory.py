r"""A memory fitted to features by least squares, which edits every block that shows a label.

A memory of prototypes (Eq. 6) edits the block of the attribute that changes. What other blocks show of that
attribute stays as it was, and so speaks for the old value. Here all blocks are regressed on the labels of all
attributes,

.. math::
    f \approx b + \sum_n \sum_v z_{nv} M_{nv}, \quad z_{nv} = [y_n = v] - \pi_{nv},

with :math:`\pi_n` the shares of attribute n's values, by minimising the squared error plus ridge times
:math:`|M|^2`. Adding M[new] - M[old] (Eq. 7) moves every block as much as the change moves features whose
other labels are the same, and does not count twice what correlated attributes have in common.
"""

import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.feature_arguments import concrete_features

LEAST_EIGENVALUE = 1e-10  # of the largest; less is rounding


def fit_memory(
    features: Float[Array | np.ndarray, "M N d"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
    ridge: float = 1.0,
) -> Float[np.ndarray, "J N d"]:
    """Fits a memory to all blocks of features by ridge regression on all labels.

    A missing label counts as the average of its attribute's values: its image says nothing of their effects.

    Args:
      features: [M, N, d], usually of the training part.
      labels: [M, N], -1 = not labelled.
      schema: the attributes.
      ridge: the weight of the squared effects, in images: the effect of a value with c images is shrunk to
        about c / (c + ridge) of what it would be. 0: the least-squares fit without shrinkage.

    Returns:
      [J, N, d], in the features' dtype, or in float32 if theirs has fewer bits. Off its own block, a row is
      the effect of its value beside the average one of its attribute; in its own block, it is that plus the
      mean of the images labelled for the attribute, as a prototype is. With one attribute and no ridge, it is
      the memory of prototypes. The row of a value without an image is zero.

    Raises:
      ValueError: features or labels as in ``concrete_features``, or a ridge that is below 0 or not finite.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> features = np.stack([labels @ [10.0, 1.0], labels @ [0.0, 4.0]], axis=1)[..., None]
      >>> memory = fit_memory(features, labels, schema, ridge=0.0)
      >>> (memory[3] - memory[2]).round(6)[:, 0].tolist()  # size moves the block of color as well
      [1.0, 4.0]
    """
    numbers, labels = concrete_features(features, labels, schema)
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be finite and not below 0, got {ridge}")
    deviations, shares = _deviations(labels, schema)
    gram = deviations.T @ deviations + ridge * np.eye(schema.num_values)
    # The deviations of an attribute sum to 0, so that without a ridge there is no inverse.
    inverse = np.linalg.pinv(gram, rtol=LEAST_EIGENVALUE, hermitian=True)
    # From each attribute's values, takes the average over its images.
    center = np.eye(schema.num_values) - schema.membership @ (schema.membership * shares[:, None]).T
    memory = np.zeros((schema.num_values, *numbers.shape[1:]), numbers.dtype)
    for n in range(schema.num_attributes):
        block = numbers[:, n].astype(np.float64)
        effects = center @ (inverse @ (deviations.T @ block))
        known = labels[:, n] != NOT_LABELLED
        mean = block[known].sum(axis=0) / max(known.sum(), 1)
        memory[:, n] = effects + schema.membership[:, n : n + 1] * mean
    memory[shares == 0] = 0
    return memory


def _deviations(
    labels: Int[np.ndarray, "M N"], schema: AttributeSchema
) -> tuple[Float[np.ndarray, "M J"], Float[np.ndarray, " J"]]:
    """Returns labels, one-hot, minus the shares of values, 0 where a label is missing; and the shares."""
    columns = labels[:, schema.attribute_of]
    known = columns != NOT_LABELLED
    one_hot = (columns == schema.position_of).astype(np.float64)
    shares = one_hot.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return one_hot - known * shares, shares
