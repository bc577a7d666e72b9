"""Checks of arguments that the pure functions share."""

import operator
from typing import Any

import jax
import jax.numpy as jnp


def is_traced(*arrays: Any) -> bool:
    """Tells whether any of some arrays is being traced, so that its values cannot be looked at.

    Example:
      >>> is_traced(jnp.ones(2)), bool(jax.jit(lambda x: jnp.array(is_traced(x)))(jnp.ones(2)))
      (False, True)
    """
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def whole_number(number: Any, argument: str) -> int:
    """Returns a number as an int of Python's.

    Args:
      number: of Python, NumPy or JAX.
      argument: what it is called, for the message.

    Raises:
      ValueError: it is no whole number, as 2.0 and True are none.

    Example:
      >>> import numpy as np
      >>> whole_number(np.int64(3), "k")
      3
    """
    try:
        if isinstance(number, bool):
            raise TypeError
        return operator.index(number)
    except TypeError as error:
        raise ValueError(
            f"{argument} must be a whole number, got {number!r} of type {type(number).__name__}"
        ) from error


def check_integers(array: Any, argument: str) -> None:
    """Raises unless an array is of an integer dtype; bool is none.

    Args:
      array: of NumPy or JAX, traced or not.
      argument: what it is called, for the message.

    Raises:
      ValueError: with the dtype.

    Example:
      >>> check_integers(jnp.ones(2), "labels")
      Traceback (most recent call last):
      ValueError: labels must be of an integer dtype, got float32
    """
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{argument} must be of an integer dtype, got {array.dtype}")
