"""The product of features with classifiers, behind a gradient reversal of its own per feature and value."""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gradrev_jax.core.gradient_reversal import scale_reversed

Features: TypeAlias = tuple[Float[Array, "B N d"], ...]
Scales: TypeAlias = tuple[Float[Array | np.ndarray, "#N #J"] | Float[Array | np.ndarray, ""], ...]


def reversed_product(
    features: Features, kernel: Float[Array, "d J"] | Float[Array, "N d J"], scales: Scales
) -> Float[Array, "B N J"]:
    r"""Multiplies features with a kernel; the features' gradient is reversed, and that of the kernel is not.

    .. math::
        z_{bnj} = \sum_d R_{\lambda_{nj}}(f_{bnd}) \, K_{dj}

    As written, the reversal would be of an array [B, N, J, d]. This takes one product forward and two
    backward, as without any reversal. Derivatives of all orders are those of the formula, in reverse mode.

    Args:
      features: the same features once or several times, with different paths for their gradients.
      kernel: the kernel of all features, [d, J], or one of each, [N, d, J].
      scales: the scale of the reversal at [feature n, value j], for each of ``features``.

    Example:
      >>> f, kernel = jnp.ones((1, 1, 2)), jnp.array([[1.0], [3.0]])
      >>> gradients = jax.grad(lambda f, k: reversed_product((f,), k, (jnp.array(0.5),)).sum(), (0, 1))
      >>> [gradient.ravel().tolist() for gradient in gradients(f, kernel)]
      [[-0.5, -1.5], [1.0, 1.0]]
    """
    return _product(kernel.ndim == 3, False, features, kernel, scales)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(has_own: bool, is_transposed: bool, features: Features, factor: Array, scales: Scales) -> Array:
    """Returns the features' product with a kernel; transposed, with a gradient of it, the kernel's gradient.

    Each is the derivative of the other by its factor. In both, the features stand behind their reversals.
    """
    if not is_transposed:
        return _mapped_like(scales, _multiply(has_own, features[0], factor))
    _, n, d = features[0].shape
    kernel = jax.ShapeDtypeStruct(((n,) if has_own else ()) + (d, factor.shape[-1]), features[0].dtype)
    # The transpose, as JAX derives it, rounds as a product without any reversal.
    transpose = jax.linear_transpose(lambda kernel: _multiply(has_own, features[0], kernel), kernel)
    return _mapped_like(scales, transpose(factor)[0])


def _forward(
    has_own: bool, is_transposed: bool, features: Features, factor: Array, scales: Scales
) -> tuple[Array, tuple[Features, Array, Scales]]:
    return _product(has_own, is_transposed, features, factor, scales), (features, factor, scales)


def _backward(
    has_own: bool, is_transposed: bool, saved: tuple[Features, Array, Scales], cotangent: Array
) -> tuple[Features, Array, Scales]:
    features, factor, scales = saved
    gradient, kernel = (factor, cotangent) if is_transposed else (cotangent, factor)
    of_kernel = "ndj" if has_own else "dj"
    of_features = tuple(
        jnp.einsum(f"bnj,{of_kernel}->bnd", scale_reversed(gradient, scale), kernel) for scale in scales
    )
    of_factor = _product(has_own, not is_transposed, features, cotangent, scales)
    return of_features, of_factor, jax.tree.map(jnp.zeros_like, scales)


_product.defvjp(_forward, _backward)


def _multiply(has_own: bool, features: Array, kernel: Array) -> Array:
    return jnp.einsum("bnd,ndj->bnj" if has_own else "bnd,dj->bnj", features, kernel)


def _mapped_like(scales: Scales, result: Array) -> Array:
    """Returns a result that ``vmap`` maps over wherever it maps over a scale, as in ``reverse_gradient``."""
    for scale in scales:
        result = jnp.where(jnp.ravel(scale)[0] == 0, result, result)
    return result
