import jax
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.initialization import parameter_shapes, random_parameters

ENCODER = AttributeEncoder(
    AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m", "l"))), feature_dim=4, width=1 / 32
)


@pytest.mark.long
def test_few_optimisations_do_not_change_the_parameters():
    def init(key):
        return ENCODER.init(key, ENCODER.inputs.example(64))

    optimised = jax.jit(init, compiler_options={"xla_backend_optimization_level": 3})(jax.random.key(3))
    params = random_parameters(ENCODER, input_size=64, seed=3)
    jax.tree.map(np.testing.assert_array_equal, params, optimised)


def test_another_seed_gives_others():
    first, second = (random_parameters(ENCODER, input_size=64, seed=seed) for seed in (0, 1))
    kernels = [params["params"]["heads"]["kernel"] for params in (first, second)]
    assert not np.isclose(*kernels).any()


def test_the_shapes_are_those_of_the_parameters():
    params = random_parameters(ENCODER, input_size=64, seed=0)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    assert parameter_shapes(ENCODER, 64) == shapes


def test_who_changes_the_shapes_changes_a_copy():
    parameter_shapes(ENCODER, 64)["params"].clear()
    assert parameter_shapes(ENCODER, 64)["params"]


def test_an_encoder_is_traced_once(monkeypatch):
    calls = []
    encoder = ENCODER.clone(feature_dim=5)
    monkeypatch.setattr(AttributeEncoder, "__call__", _counted(AttributeEncoder.__call__, calls))
    parameter_shapes(encoder, 64)
    random_parameters(encoder, input_size=64, seed=0)
    assert len(calls) == 1


def _counted(function, calls):
    def counted(*args, **options):
        calls.append(function)
        return function(*args, **options)

    return counted
