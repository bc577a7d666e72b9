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
    return _product(kernel.ndim == 3, features, kernel, scales)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(has_own: bool, features: Features, kernel: Array, scales: Scales) -> Array:
    return _mapped_like(scales, _multiply(has_own, features[0], kernel))


def _product_forward(
    has_own: bool, features: Features, kernel: Array, scales: Scales
) -> tuple[Array, tuple[Features, Array, Scales]]:
    return _product(has_own, features, kernel, scales), (features, kernel, scales)


def _product_backward(
    has_own: bool, saved: tuple[Features, Array, Scales], gradient: Array
) -> tuple[Features, Array, Scales]:
    features, kernel, scales = saved
    return (
        _features_gradients(has_own, gradient, kernel, scales),
        _kernel_gradient(has_own, features, gradient, scales),
        jax.tree.map(jnp.zeros_like, scales),
    )


_product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(has_own: bool, features: Features, gradient: Array, scales: Scales) -> Array:
    """Returns the kernel's gradient, in which the features stand behind their reversals, too."""
    _, n, d = features[0].shape
    kernel = jax.ShapeDtypeStruct(((n,) if has_own else ()) + (d, gradient.shape[-1]), features[0].dtype)
    # The transpose, as JAX derives it, rounds as a product without any reversal.
    transpose = jax.linear_transpose(lambda kernel: _multiply(has_own, features[0], kernel), kernel)
    return _mapped_like(scales, transpose(gradient)[0])


def _kernel_gradient_forward(
    has_own: bool, features: Features, gradient: Array, scales: Scales
) -> tuple[Array, tuple[Features, Array, Scales]]:
    return _kernel_gradient(has_own, features, gradient, scales), (features, gradient, scales)


def _kernel_gradient_backward(
    has_own: bool, saved: tuple[Features, Array, Scales], of_kernel: Array
) -> tuple[Features, Array, Scales]:
    features, gradient, scales = saved
    return (
        _features_gradients(has_own, gradient, of_kernel, scales),
        _product(has_own, features, of_kernel, scales),
        jax.tree.map(jnp.zeros_like, scales),
    )


_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)


def _multiply(has_own: bool, features: Array, kernel: Array) -> Array:
    return jnp.einsum("bnd,ndj->bnj" if has_own else "bnd,dj->bnj", features, kernel)


def _features_gradients(has_own: bool, gradient: Array, kernel: Array, scales: Scales) -> Features:
    of_kernel = "ndj" if has_own else "dj"
    return tuple(
        jnp.einsum(f"bnj,{of_kernel}->bnd", scale_reversed(gradient, scale), kernel) for scale in scales
    )


def _mapped_like(scales: Scales, result: Array) -> Array:
    """Returns a result that ``vmap`` maps over wherever it maps over a scale, as in ``reverse_gradient``."""
    for scale in scales:
        result = jnp.where(jnp.ravel(scale)[0] == 0, result, result)
    return result
