"""Checks of arguments, shared by the pure functions."""

import difflib
import operator
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_traced(*arrays: Any) -> bool:
    """Returns whether any of the arrays is being traced, so that its values are not known yet.

    Args:
      *arrays: numbers or arrays of NumPy or JAX.

    Example:
      >>> is_traced(jnp.ones(2)), bool(jax.jit(lambda x: jnp.array(is_traced(x)))(jnp.ones(2)))
      (False, True)
    """
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def array_namespace(*arrays: Any) -> ModuleType:
    """Returns the module that computes with arrays: JAX's if any of them is one of JAX's, or else NumPy's.

    Args:
      *arrays: arrays of NumPy or JAX, traced or not.

    Example:
      >>> array_namespace(np.ones(2)).__name__, array_namespace(np.ones(2), jnp.ones(2)).__name__
      ('numpy', 'jax.numpy')
    """
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Returns whether an array of one shape broadcasts to another.

    Args:
      shape: the shape of the array.
      target: the other shape.

    Example:
      >>> broadcasts_to((1, 3), (2, 3)), broadcasts_to((2, 3), (3,)), broadcasts_to((4,), (3,))
      (True, False, False)
    """
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:  # whose message names neither
        return False


def refuse_traced(what: str, *arrays: Any) -> None:
    """Raises if any of the arrays is being traced.

    Args:
      what: the words for what cannot be traced, and for what to do instead.
      *arrays: numbers or arrays of NumPy or JAX.

    Raises:
      TypeError: one is.

    Example:
      >>> refuse_traced("a search runs outside of jax.jit", jnp.ones(2))
    """
    if is_traced(*arrays):
        raise TypeError(what)


def whole_number(number: Any, argument: str) -> int:
    """Returns a whole number as a Python int.

    Args:
      number: a number of Python, NumPy or JAX.
      argument: the name of the argument, for the message.

    Raises:
      ValueError: a number that is not of an integer type, such as 2.0 or True; or one that is traced.

    Example:
      >>> whole_number(np.int64(3), "k")
      3
    """
    try:
        if isinstance(number, bool):
            raise TypeError
        return operator.index(number)
    except TypeError as error:
        if is_traced(number):
            raise ValueError(
                f"{argument} is traced, but shapes depend on it; under jax.jit, name it in static_argnames"
            ) from error
        raise ValueError(
            f"{argument} must be a whole number, got {number!r} of type {type(number).__name__}"
        ) from error


def check_integers(array: Any, argument: str) -> None:
    """Raises unless an array has an integer dtype, which bool is not.

    Args:
      array: an array of NumPy or JAX, traced or not.
      argument: the name of the argument, for the message.

    Raises:
      ValueError: another dtype, which the message has.

    Example:
      >>> check_integers(jnp.ones(2), "labels")
      Traceback (most recent call last):
      ValueError: labels must be of an integer dtype, got float32
    """
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{argument} must be of an integer dtype, got {array.dtype}")


def repeated_names(names: Sequence[str]) -> str:
    """Returns the names that occur more than once, quoted and comma-separated; empty if there are none.

    Args:
      names: the names.

    Example:
      >>> repeated_names(["a", "b", "a"])
      "'a'"
    """
    return ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))


def index_of_name(names: Sequence[str], name: str, what: str) -> int:
    """Returns the index of a name.

    Args:
      names: the names.
      name: the one to find.
      what: the words for what has the name, for the message.

    Raises:
      ValueError: an unknown name; the message has the nearest one.

    Example:
      >>> index_of_name(["color", "size"], "colour", "attribute")
      Traceback (most recent call last):
      ValueError: no attribute is called 'colour'; did you mean 'color'?
    """
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    raise ValueError(f"no {what} is called {name!r}; {hint}")
