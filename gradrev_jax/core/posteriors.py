r"""The probabilities of each attribute's values as that attribute's features, calibrated.

Block n of an image is the vector of square roots of the probabilities that attribute n's own classifier gives
to its J_n values. With two images' probabilities p and q, the squared distance of their blocks

.. math::
    |\sqrt p - \sqrt q|^2 = 2 - 2 \sum_v \sqrt{p_v q_v}

is twice their squared Hellinger distance. Every block has length 1, so attributes count alike, whatever their
number of values, and a block is edited by replacing it with a value's one-hot row. The probabilities are
calibrated by one temperature per attribute (Guo et al., "On calibration of modern neural networks", 2017).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gradrev_jax.core.arguments import is_traced
from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema, check_labels
from gradrev_jax.core.vectors import as_floating

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
HALVINGS = 45  # of the logarithms of the temperatures, whose range is then 2e-13 wide


def posterior_blocks(
    own_logits: Float[Array | np.ndarray, "*batch J"],
    schema: AttributeSchema,
    temperatures: Float[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, "*batch N k"]:
    r"""Computes the square roots of the probabilities of each attribute's values.

    With the logits z of attribute n's own classifier and its temperature T_n, block n is

    .. math::
        \sqrt{\mathrm{softmax}(z / T_n)}

    Args:
      own_logits: [..., J], for each value the logit of its attribute's classifier, which reads that
        attribute's feature; -inf is a probability of 0.
      schema: the attributes.
      temperatures: the temperature of each attribute, [N], as from ``fit_temperatures``; None: all 1.

    Returns:
      [..., N, k] with k the largest number of values of an attribute; every block has length 1, and the
      entries past an attribute's own values are 0.

    Raises:
      ValueError: shapes that disagree with the schema, or a temperature that is not above 0 and finite.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> logits = np.log(np.array([0.36, 0.64, 0.25, 0.25, 0.5]))
      >>> print(posterior_blocks(logits, schema).round(3))
      [[0.6   0.8   0.   ]
       [0.5   0.5   0.707]]
    """
    _check_own_logits(own_logits, schema)
    if temperatures is None:
        temperatures = np.ones(schema.num_attributes)
    elif np.shape(temperatures) != (schema.num_attributes,):
        raise ValueError(f"temperatures must be [{schema.num_attributes}], got {np.shape(temperatures)}")
    elif not is_traced(temperatures):
        _check_temperatures(np.asarray(temperatures), schema)
    return _posterior_blocks(own_logits, temperatures, schema)


@functools.partial(jax.jit, static_argnames="schema")
def _posterior_blocks(
    logits: Float[Array | np.ndarray, "*batch J"],
    temperatures: Float[Array | np.ndarray, " N"],
    schema: AttributeSchema,
) -> Float[Array, "*batch N k"]:
    """Computes ``posterior_blocks`` of arguments that fit."""
    logits = as_floating(logits)
    inverse = 1 / jnp.asarray(temperatures, logits.dtype)[:, None]
    slices = jnp.where(schema.slice_mask, logits[..., schema.slice_index], -jnp.inf)
    # The largest logit goes before the temperature does, so that no logit overflows.
    below = slices - jax.lax.stop_gradient(slices.max(axis=-1, keepdims=True))
    scaled = _times(below, inverse)
    # Half of the logarithm, because small probabilities have square roots that are representable.
    return jnp.exp(jax.nn.log_softmax(scaled, axis=-1) / 2)


@jax.custom_jvp
def _times(below: Float[Array, "*batch N k"], inverse: Float[Array, "N 1"]) -> Float[Array, "*batch N k"]:
    """Computes the product of logits, of which some are -inf, and inverse temperatures."""
    return below * inverse


@_times.defjvp
def _times_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Float[Array, "*batch N k"], Float[Array, "*batch N k"]]:
    """Leaves out -inf, whose derivative by the temperature is NaN even times a cotangent of 0."""
    below, inverse = primals
    finite = jnp.where(below == -jnp.inf, 0, below)
    return below * inverse, tangents[0] * inverse + finite * tangents[1]


def one_hot_memory(schema: AttributeSchema) -> Float[np.ndarray, "J N k"]:
    """Returns the memory of ``posterior_blocks``: for each value, the block of an image that surely has it.

    Args:
      schema: the attributes.

    Returns:
      float32 [J, N, k]; the row of value v has a 1 in block n(v), at the position of v among its attribute's
      values, and zeros elsewhere.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> one_hot_memory(schema)[schema.index("size", "m")].tolist()
      [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    memory = np.zeros((schema.num_values, schema.num_attributes, max(schema.sizes)), np.float32)
    memory[np.arange(schema.num_values), schema.attribute_of, schema.position_of] = 1
    return memory


def prior_blocks(labels: Int[np.ndarray, "M N"], schema: AttributeSchema) -> Float[np.ndarray, "N k"]:
    """Computes the square roots of the shares of each attribute's values among labelled images.

    It is the block of an image of which nothing is known. It takes the place of a block whose value is
    removed and not replaced.

    Args:
      labels: [M, N], usually those of the training part; -1 = not labelled and not counted.
      schema: the attributes.

    Returns:
      float32 [N, k], laid out as ``posterior_blocks``; every block has length 1. The values of an attribute
      that no image is labelled for have equal shares.

    Raises:
      ValueError: labels as in ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l")))
      >>> print(prior_blocks(np.array([[1, -1], [1, -1], [1, -1], [0, -1]]), schema).round(3))
      [[0.5   0.866 0.   ]
       [0.577 0.577 0.577]]
    """
    check_labels(labels, schema)
    blocks = np.zeros((schema.num_attributes, max(schema.sizes)), np.float32)
    for n, size in enumerate(schema.sizes):
        known = labels[labels[:, n] != NOT_LABELLED, n]
        counts = np.bincount(known, minlength=size) if known.size else np.ones(size)
        blocks[n, :size] = np.sqrt(counts / counts.sum())
    return blocks


def fit_temperatures(
    own_logits: Float[Array | np.ndarray, "M J"],
    labels: Int[Array | np.ndarray, "M N"],
    schema: AttributeSchema,
) -> Float[np.ndarray, " N"]:
    """Finds the temperature of each attribute that gives its labels the highest likelihood.

    The cross-entropy of softmax(z / T) is convex in 1 / T, so its slope rises with 1 / T, and the temperature
    is found by halving an interval at the sign of the slope. It lies in [0.05, 20]; where a classifier is
    right about every image, the lower bound fits best.

    Args:
      own_logits: [M, J], of images that the classifiers were not trained on, such as the validation part.
      labels: [M, N], -1 = not labelled and left out.
      schema: the attributes.

    Returns:
      float64 [N]. The temperature is 1 where nothing can be fitted: fewer than two values of the attribute
      occur in the labels, or the logits of each image are equal.

    Raises:
      ValueError: shapes that disagree with each other or with the schema, labels as in ``check_labels``, or a
        logit of an attribute's labelled images that is not finite.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> labels = np.array([[1], [1], [1], [0]])  # three of four are red
      >>> logits = np.array([[0.0, 2 * np.log(3)]] * 4)  # twice as large as they should be
      >>> fit_temperatures(logits, labels, schema).round(6).tolist()
      [2.0]
    """
    own_logits, labels = np.asarray(own_logits), np.asarray(labels)
    _check_own_logits(own_logits, schema)
    check_labels(labels, schema)
    if own_logits.ndim != 2 or len(own_logits) != len(labels):
        raise ValueError(
            f"own_logits must be [M, J] and labels [M, N]; got {own_logits.shape} and {labels.shape}"
        )
    temperatures = np.ones(schema.num_attributes)
    for n, (offset, size) in enumerate(zip(schema.offsets, schema.sizes, strict=True)):
        known = labels[:, n] != NOT_LABELLED
        logits = own_logits[known, offset : offset + size].astype(np.float64)
        if not np.isfinite(logits).all():
            raise ValueError(f"own_logits of attribute {schema.names[n]!r} are not all finite")
        temperatures[n] = _fit_temperature(logits, labels[known, n])
    return temperatures


def _fit_temperature(logits: Float[np.ndarray, "M v"], labels: Int[np.ndarray, " M"]) -> float:
    if len(np.unique(labels)) < 2:
        return 1.0
    # Below the largest of each row, so that equal logits have a slope of exactly 0.
    logits = logits - logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(labels)), labels].mean()

    def slope(log_temperature: float) -> float:
        """Returns the derivative of the mean cross-entropy with respect to 1 / T."""
        likelihoods = np.exp(logits / np.exp(log_temperature))
        return float(((likelihoods * logits).sum(axis=1) / likelihoods.sum(axis=1)).mean() - right)

    low, high = float(np.log(LEAST_TEMPERATURE)), float(np.log(MOST_TEMPERATURE))
    sharpest, flattest = slope(low), slope(high)
    if sharpest == flattest == 0:
        return 1.0
    if sharpest <= 0:
        return LEAST_TEMPERATURE
    if flattest >= 0:
        return MOST_TEMPERATURE
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _check_own_logits(own_logits: Array | np.ndarray, schema: AttributeSchema) -> None:
    if own_logits.shape[-1:] != (schema.num_values,):
        raise ValueError(f"own_logits need {schema.num_values} columns (values), got {own_logits.shape}")


def _check_temperatures(temperatures: np.ndarray, schema: AttributeSchema) -> None:
    bad = ~(np.isfinite(temperatures) & (temperatures > 0))
    if bad.any():
        n = int(bad.argmax())
        raise ValueError(
            f"temperatures must be finite and above 0, got {temperatures[n]:g} for {schema.names[n]!r}"
        )
