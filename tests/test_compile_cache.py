"""The tests' workers share one cache of compiled programs, whose entries appear while they are written."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture
def programs(tmp_path):
    """An empty cache of programs, for this test alone."""
    before = jax.config.jax_compilation_cache_dir

    def use(folder):
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", str(folder))

    use(tmp_path)
    yield tmp_path
    use(before)


def make_double():
    """A function that is compiled anew, or read from the cache, each time that it is made."""

    @jax.jit
    def double(x):
        return 2 * x

    return double


def test_a_program_that_is_half_written_is_compiled_anew(programs):
    assert make_double()(jnp.float32(3)) == 6
    entries = [entry for entry in programs.glob("*-cache") if "double" in entry.name]
    assert len(entries) == 1
    entries[0].write_bytes(entries[0].read_bytes()[:-10])
    assert make_double()(jnp.float32(3)) == 6
