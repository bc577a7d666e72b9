"""Lengths of vectors, and vectors of length 1, whatever size their numbers have."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def length(x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """Length of vectors, of any size that numbers can have: no square overflows or vanishes.

    Example:
      >>> lengths = length(jnp.array([[3e25, 4e25], [3e-25, 4e-25], [0.0, 0.0]]))
      >>> (lengths * jnp.array([1e-25, 1e25, 1.0])).round(3).tolist()
      [5.0, 5.0, 0.0]
    """
    plain = jnp.linalg.norm(x, axis=-1)

    def scaled() -> Float[Array, "*batch"]:
        scale = _power_of_two(x)
        return jnp.linalg.norm(x * scale, axis=-1) / scale[..., 0]

    return jax.lax.cond(_is_sound(plain), lambda: plain, scaled)


def unit(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Vectors of length 1, whatever length they had; a zero vector stays zero.

    Example:
      >>> print(unit(jnp.array([[3e25, 4e25], [0.0, 0.0]])))
      [[0.6 0.8]
       [0.  0. ]]
    """
    plain = jnp.linalg.norm(x, axis=-1, keepdims=True)

    def scaled() -> Float[Array, "... d"]:
        near_one = x * _power_of_two(x)
        norm = jnp.linalg.norm(near_one, axis=-1, keepdims=True)
        return near_one / jnp.where(norm > 0, norm, 1)

    return jax.lax.cond(_is_sound(plain), lambda: x / plain, scaled)


def _is_sound(norms: Float[Array, "..."]) -> Bool[Array, ""]:
    """Whether the squares behind norms neither overflowed nor lost digits that count to underflow."""
    return (jnp.isfinite(norms) & (norms > jnp.finfo(norms.dtype).tiny ** 0.25)).all()


def _power_of_two(x: Float[Array, "... d"]) -> Float[Array, "... 1"]:
    """What brings the largest entry of each vector near 1; multiplying with it rounds nothing."""
    largest = jnp.abs(jax.lax.stop_gradient(x)).max(axis=-1, keepdims=True, initial=0)
    most = jnp.finfo(x.dtype).maxexp - 4  # powers that are numbers themselves, as their inverses are
    exponent = jnp.clip(jnp.frexp(largest)[1], -most, most)
    return jnp.where(jnp.isfinite(largest), jnp.ldexp(jnp.ones((), x.dtype), -exponent), 1)
