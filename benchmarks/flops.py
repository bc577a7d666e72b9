"""Counts the floating-point operations of the convolutions and matrix products of a function."""

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
from jax.extend import core

from gradrev_jax.models import convolution

CONVOLUTIONS, PRODUCTS = "convolutions", "products"


def count_flops(function: Callable[..., Any], *arguments: Any) -> dict[str, float]:
    """Counts multiplications and additions, without running the function.

    Convolutions are counted as direct ones on every device, even if a CPU needs fewer multiplications
    (``gradrev_jax.models.winograd``), so that the achieved rates of all devices can be compared.

    Args:
      function: the function to trace.
      *arguments: the arguments of the function, or ShapeDtypeStructs in their place.

    Returns:
      The FLOP of the ``convolutions`` and of the ``products``. Elementwise work is not counted, because its
      speed is limited by memory.

    Raises:
      ValueError: a ``while`` or ``cond`` contains products, so their number is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> count_flops(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5)))
      {'convolutions': 0.0, 'products': 60.0}
    """
    with mock.patch.object(convolution, "is_worthwhile", return_value=False):
        closed = jax.make_jaxpr(function)(*arguments)
    counts = {CONVOLUTIONS: 0.0, PRODUCTS: 0.0}
    _count(closed.jaxpr, 1, counts)
    return counts


def _count(jaxpr: core.Jaxpr, times: int, counts: dict[str, float]) -> None:
    """Adds the operations of a program that runs the given number of times."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            counts[CONVOLUTIONS] += times * _convolution_flops(equation)
        elif name == "dot_general":
            counts[PRODUCTS] += times * _product_flops(equation)
        turns = equation.params["length"] if name == "scan" else 1
        before = sum(counts.values())
        for inner in core.jaxprs_in_params(equation.params):
            _count(inner, times * turns, counts)
        if name in ("while", "cond") and sum(counts.values()) != before:
            raise ValueError(f"products in a {name!r}, of which nothing tells how often it computes them")


def _product_flops(equation: core.JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, output = _shapes(equation)[0], _shapes(equation)[-1]
    return 2.0 * math.prod(output) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: core.JaxprEqn) -> float:
    """Counts one product per output, tap and input channel, except for the zeros between dilated inputs."""
    numbers = equation.params["dimension_numbers"]
    _, kernel, output = _shapes(equation)
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])  # input channels and positions
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2.0 * math.prod(output) * taps / zeros


def _shapes(equation: core.JaxprEqn) -> list[tuple[int, ...]]:
    """Returns the shapes of the inputs and the output."""
    values: list[Any] = [*equation.invars, *equation.outvars]
    return [value.aval.shape for value in values]
