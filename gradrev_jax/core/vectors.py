"""Lengths of vectors, vectors of length 1, and vectors of whole numbers as floating point."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

LANES = 128  # partial sums that run side by side in a squared length
SHORTEST = 1e-12  # the length below which a vector has no direction that a gradient could follow


def as_floating(x: Array | np.ndarray) -> Array:
    """Converts integers to float32; arrays of a floating-point dtype stay as they are.

    Args:
      x: an array of any shape.

    Example:
      >>> as_floating(np.array([1, 2])).dtype.name
      'float32'
    """
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def at_least_float32(x: Array | np.ndarray | float) -> Array:
    """Converts half precision and integers to float32, since their sums would overflow or lose digits.

    Args:
      x: an array of any shape.

    Example:
      >>> at_least_float32(np.zeros(3, np.float16)).dtype.name
      'float32'
    """
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def length(x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """Returns the lengths of vectors of any size: no square overflows or underflows.

    Args:
      x: [..., d].

    Example:
      >>> lengths = length(jnp.array([[3e25, 4e25], [3e-25, 4e-25], [0.0, 0.0]]))
      >>> (lengths * jnp.array([1e-25, 1e25, 1.0])).round(3).tolist()
      [5.0, 5.0, 0.0]
    """
    plain = jnp.sqrt(squared_length(x))

    def scaled() -> Float[Array, "*batch"]:
        scale = _power_of_two(x)
        return jnp.sqrt(squared_length(x * scale)) / scale[..., 0]

    return jax.lax.cond(_are_accurate(plain), lambda: plain, scaled)


def squared_length(x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """Sums squares in partial sums side by side: on a CPU several times as fast as one sum, and closer.

    Args:
      x: [..., d].

    Example:
      >>> float(squared_length(jnp.full(35, 2.0)))
      140.0
    """
    squares = jnp.square(x)
    count = x.shape[-1] // LANES
    lanes, rest = jnp.split(squares, [count * LANES], axis=-1)
    # Without the barrier, XLA would merge both sums into a long one.
    lanes = jax.lax.optimization_barrier(lanes.reshape(*x.shape[:-1], count, LANES).sum(axis=-2))
    return lanes.sum(axis=-1) + rest.sum(axis=-1)


def squared_length_operations(width: int) -> int:
    """Returns an upper bound of the additions that a square passes through in ``squared_length``.

    Args:
      width: d.

    Example:
      >>> squared_length_operations(4080), squared_length_operations(24)
      (159, 24)
    """
    return width // LANES + min(width, LANES)


def unit_of_any_size(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Divides vectors of any size by their lengths; a zero vector stays zero.

    For losses, see ``unit_with_safe_gradient``: here the gradient at a zero vector is NaN.

    Args:
      x: [..., d].

    Example:
      >>> print(unit_of_any_size(jnp.array([[3e25, 4e25], [0.0, 0.0]])))
      [[0.6 0.8]
       [0.  0. ]]
    """
    plain = jnp.linalg.norm(x, axis=-1, keepdims=True)

    def scaled() -> Float[Array, "... d"]:
        near_one = x * _power_of_two(x)
        norm = jnp.linalg.norm(near_one, axis=-1, keepdims=True)
        return near_one / jnp.where(norm > 0, norm, 1)

    return jax.lax.cond(_are_accurate(plain), lambda: x / plain, scaled)


def unit_with_safe_gradient(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Divides vectors by their lengths; a zero vector stays zero, and has a gradient of 0.

    One shorter than 1e-12 counts as zero, for its gradient would be too large to be of use. For features of
    unusual size, see ``unit_of_any_size``: here their squares may overflow or underflow.

    Args:
      x: [..., d].

    Example:
      >>> print(unit_with_safe_gradient(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
      [[0.6 0.8]
       [0.  0. ]]
      >>> jax.grad(lambda x: unit_with_safe_gradient(x).sum())(jnp.zeros(2)).tolist()
      [0.0, 0.0]
    """
    wide = at_least_float32(x)
    squares = jnp.square(wide).sum(axis=-1, keepdims=True)
    is_long = (squares > 0) & (squares >= SHORTEST**2)
    unit = wide * jnp.where(is_long, jax.lax.rsqrt(jnp.where(is_long, squares, 1.0)), 0.0)
    return unit.astype(x.dtype)


def _are_accurate(norms: Float[Array, "..."]) -> Bool[Array, ""]:
    """Returns whether no square behind the norms overflowed or lost significant digits to underflow."""
    return (jnp.isfinite(norms) & (norms > jnp.finfo(norms.dtype).tiny ** 0.25)).all()


def _power_of_two(x: Float[Array, "... d"]) -> Float[Array, "... 1"]:
    """Returns the factor that brings each vector's largest entry near 1; a power of two rounds nothing."""
    largest = jnp.abs(jax.lax.stop_gradient(x)).max(axis=-1, keepdims=True, initial=0)
    most = jnp.finfo(x.dtype).maxexp - 4  # up to here, a power of two and its inverse are representable
    exponent = jnp.clip(jnp.frexp(largest)[1], -most, most)
    return jnp.where(jnp.isfinite(largest), jnp.ldexp(jnp.ones((), x.dtype), -exponent), 1)
