"""Keeps operations apart from those around them, so that XLA computes them once."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def compute_apart(function: Callable[..., Any], *arrays: Any) -> Any:
    """Calls a function whose operations XLA fuses, on a CPU, with each other but not with those around them.

    There, XLA fuses what is cheap into all that reads it, where it is computed anew for each reader. An
    ``optimization_barrier`` does not prevent this: it is gone before XLA fuses. On other devices the function
    is called as it is: their compilers take no call that is not inlined.

    Args:
      function: the function of arrays.
      *arrays: its arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> compute_apart(jnp.square, jnp.arange(3.0)).tolist()
      [0.0, 1.0, 4.0]
    """

    def without_metadata(*arrays: Any) -> Any:
        with set_xla_metadata(inlineable=None):  # else JAX's own functions within would stay apart, too
            return function(*arrays)

    def apart(*arrays: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return jax.jit(without_metadata)(*arrays)

    return jax.lax.platform_dependent(*arrays, cpu=apart, default=function)
