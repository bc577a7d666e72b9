"""Gradient reversal: identity forward, negated gradient backward (Ganin & Lempitsky, 2015)."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from gradrev_jax.core.arguments import broadcasts_to

Tree = TypeVar("Tree")


def reverse_gradient(x: Tree, scale: float | Float[Array | np.ndarray, "..."] = 1.0) -> Tree:
    r"""Returns ``x`` unchanged, and multiplies the gradient by ``-scale`` on the way back.

    .. math::
        R_\lambda(x) = x, \qquad \frac{dR_\lambda}{dx} = -\lambda I

    Differentiation of any order treats the scale as a constant: its own gradient is zero. It may be a Python
    number or a traced scalar, so a schedule does not recompile. A scale of zero cuts the gradient like
    ``stop_gradient`` (to zeros, even if it is infinite or NaN); a negative scale passes it on unreversed.

    Each derivative passes through the reversal once more, so for ``h(x) = f(reverse_gradient(x, s))``
    the gradient is ``-s f'(x)`` and the gradient of the gradient is ``s**2 f''(x)``, as in PyTorch. Only
    reverse mode is defined: ``jax.jvp``, ``jax.jacfwd`` and ``jax.hessian`` raise JAX's TypeError (use
    ``jacrev(jacrev(h))``).

    Args:
      x: any pytree of arrays and numbers. Those that are not floating point pass through untouched.
      scale: lambda, the strength of the reversal, cast to each gradient's dtype. An array gives every element
        its own strength, and must broadcast to the shape of every leaf.

    Returns:
      ``x``, with the same tree, shapes and dtypes.

    Raises:
      ValueError: a scale that does not broadcast to a leaf's shape.

    Example:
      >>> float(jax.grad(lambda x: reverse_gradient(x, 0.5) ** 2)(3.0))
      -3.0
      >>> jax.grad(lambda x: reverse_gradient(x, jnp.array([1.0, -1.0])).sum())(jnp.ones((2, 2))).tolist()
      [[-1.0, 1.0], [-1.0, 1.0]]
    """
    return jax.tree.map(lambda leaf: _reverse_leaf(leaf, scale) if _is_float(leaf) else leaf, x)


def scale_reversed(
    gradient: Float[Array, "..."], scale: Float[Array | np.ndarray, "..."]
) -> Float[Array, "..."]:
    """Multiplies a gradient by ``-scale``, which stays a constant; 0 cuts it even if it is infinite or NaN.

    Args:
      gradient: the gradient.
      scale: the scale, which broadcasts to it.

    Example:
      >>> scale_reversed(jnp.array([1.0, jnp.inf]), jnp.array([2.0, 0.0])).tolist()
      [-2.0, 0.0]
    """
    factor = -jax.lax.stop_gradient(jnp.asarray(scale)).astype(gradient.dtype)
    # 0 times an infinite gradient would be NaN.
    return jnp.where(factor == 0, 0, factor * gradient)


def ganin_schedule(progress: float | Float[Array, "*batch"], gamma: float = 10.0) -> Float[Array, "*batch"]:
    """Computes Ganin's ramp of the reversal's strength, ``2 / (1 + exp(-gamma p)) - 1``, from 0 to nearly 1.

    Args:
      progress: p, the fraction of the training that is done, in [0, 1].
      gamma: the steepness.

    Returns:
      The strength, in the shape of ``progress``.

    Example:
      >>> [round(float(ganin_schedule(p)), 4) for p in (0.0, 0.1, 1.0)]
      [0.0, 0.4621, 0.9999]
    """
    # tanh(gamma p / 2) is the same function, but neither overflows nor cancels near 0.
    dtype = jnp.promote_types(jnp.result_type(progress), jnp.float32)
    return jnp.tanh(gamma * jnp.asarray(progress, dtype) / 2)


def _is_float(leaf: object) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


# The scale is an ordinary argument with a zero cotangent, because nondiff_argnums refuses tracers.
@jax.custom_vjp
def _reverse(x: ArrayLike, scale: jax.Array) -> ArrayLike:
    # The value is always x. The dependence on the scale is for vmap: where the scale alone is batched, the
    # output has to be batched, too, or the gradients would be summed before they are scaled.
    return jnp.where(scale == 0, x, x)


def _forward(x: ArrayLike, scale: jax.Array) -> tuple[ArrayLike, jax.Array]:
    # Not plain x: a second derivative passes through this line, and must meet the reversal again.
    return _reverse(x, scale), scale


def _backward(scale: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return scale_reversed(gradient, scale), jnp.zeros_like(scale)


_reverse.defvjp(_forward, _backward)


def _reverse_leaf(leaf: ArrayLike, scale: ArrayLike) -> ArrayLike:
    shape = jnp.shape(leaf)
    if not broadcasts_to(jnp.shape(scale), shape):
        raise ValueError(f"scale {jnp.shape(scale)} must broadcast to {shape}, the shape of x")
    return _reverse(jnp.asarray(leaf), jnp.asarray(scale, dtype=float))
