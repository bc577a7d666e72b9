import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.arguments import check_integers, is_traced, whole_number


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3), np.array(3), jnp.array(3)])
def test_whole_numbers_of_every_library(number):
    found = whole_number(number, "k")
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("number", [3.0, np.float32(3), "3", None, True, np.array([3, 4])])
def test_what_is_no_whole_number_is_named(number):
    with pytest.raises(ValueError, match="k must be a whole number, got .* of type"):
        whole_number(number, "k")


def test_integers_of_every_library():
    for array in (np.zeros(2, np.int8), np.zeros(2, np.uint64), jnp.zeros(2, int)):
        check_integers(array, "labels")
    for array in (np.zeros(2), np.zeros(2, bool), jnp.zeros(2, jnp.bfloat16), np.array(["a"])):
        with pytest.raises(ValueError, match="labels must be of an integer dtype, got"):
            check_integers(array, "labels")


def test_traced_is_what_has_no_values_yet():
    seen = []
    jax.jit(lambda x: seen.append(is_traced(x, 1)) or x)(jnp.ones(2))
    jax.grad(lambda x: seen.append(is_traced(x)) or x)(1.0)
    assert seen == [True, True]
    assert not is_traced(np.ones(2), jnp.ones(2), 1.0)


def test_a_traced_number_is_to_be_static():
    with pytest.raises(ValueError, match="^k is traced, but shapes depend on it; under jax.jit, name it"):
        jax.jit(lambda k: whole_number(k, "k"))(3)
