import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.forward import forward_program
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.models.interface import Encoder, FullOutput

ROOT = pathlib.Path(__file__).parents[2]
SCHEMA = AttributeSchema(("color",), (("blue", "red"),))
PARAMS = {name: np.zeros(3, np.float32) for name in ("first", "second")}
IMAGES = np.zeros((2, 1, 1, 3), np.uint8)


def program(apply):
    """Returns the program of an encoder whose feature is a function of its parameters."""

    class Applied(Encoder):
        @property
        def inputs(self):
            return PixelInputs(1)

        def apply(self, params, images, **_):
            pixels = images[:, 0, 0]
            return FullOutput(pixels, (pixels + apply(params))[:, None], jnp.zeros((len(images), 1, 2)))

    return forward_program(PARAMS, IMAGES, Applied(SCHEMA, 3), batch_size=2)


def test_a_program_says_which_of_like_parameters_it_uses():
    programs = {program(apply) for apply in (lambda p: p["first"], lambda p: p["second"], lambda p: 0)}
    assert len(programs) == 3
    assert program(lambda p: p["first"]) in programs


def large(scale):
    """Returns a function of parameters whose constant is more than a few bytes."""
    constant = jnp.asarray(scale * np.arange(3000.0).reshape(1000, 3), jnp.float32)
    return lambda params: constant[:2] + constant.mean(axis=0)


def test_a_program_says_its_constants():
    assert program(large(1)) == program(large(1)) != program(large(2))


def test_where_they_stand_beside_it_it_says_nothing():
    """JAX is told so when it is imported."""
    code = "from tests.models.test_forward import large, program; print(program(large(1)))"
    environment = {**os.environ, "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "None\n"
