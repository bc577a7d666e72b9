"""Creates a model's random parameters, and tells their shapes without computing one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from gradrev_jax.models.interface import Encoder

# A program that runs once is compiled with few optimisations: on a CPU, in a third of the time.
RUN_ONCE = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def jit_once(function: Callable[..., Any]) -> Any:
    """Returns the jitted function, for a program that runs once in a process.

    Args:
      function: the function; nothing that is traced may call it.
    """
    return jax.jit(function, compiler_options=RUN_ONCE if jax.default_backend() == "cpu" else None)


def random_parameters(encoder: Encoder, *, input_size: int, seed: int) -> Any:
    """Creates an encoder's random parameters and first statistics, a pure function of the seed.

    Args:
      encoder: the model.
      input_size: the height and width of its images, or the width of its vectors.
      seed: the seed of the parameters.
    """
    return _jitted_init(encoder, input_size)(jax.random.key(seed))


def parameter_shapes(encoder: Encoder, input_size: int) -> Any:
    """Returns the shapes of an encoder's parameters and statistics, without computing one.

    Args:
      encoder: the model.
      input_size: the height and width of its images, or the width of its vectors.

    Example:
      >>> from gradrev_jax import AttributeEncoder, AttributeSchema
      >>> encoder = AttributeEncoder(AttributeSchema(("size",), (("s", "m"),)), feature_dim=8, width=1 / 32)
      >>> parameter_shapes(encoder, 64)["params"]["heads"]["kernel"].shape
      (8, 2)
    """
    return _jitted_init(encoder, input_size).eval_shape(jax.eval_shape(jax.random.key, 0))


@functools.lru_cache(maxsize=8)  # so that equal encoders are traced, and compiled, once in a process
def _jitted_init(encoder: Encoder, input_size: int) -> Any:
    def init(key: PRNGKeyArray) -> Any:
        return encoder.init(key, encoder.inputs.example(input_size))

    return jit_once(init)
