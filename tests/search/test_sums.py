import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.search.sums import (
    SUM_ROWS,
    norm_operations,
    part_products,
    square_norms,
    sum_operations,
    whole_and_block_products,
)

ATTRIBUTES, ROWS = 3, 120


def test_part_products_against_einsum(rng):
    a, b = rng.normal(size=(7, 3, 5)).astype(np.float32), rng.normal(size=(11, 3, 5)).astype(np.float32)
    blocks = np.einsum("mnd,gnd->nmg", a.astype(np.float64), b)
    np.testing.assert_allclose(part_products(a, b, by_block=True), blocks, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(part_products(a, b)[0], blocks.sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_blocks", [1, 2, 3])
@pytest.mark.parametrize("rows", [11, SUM_ROWS + 5])
def test_products_of_the_whole_and_of_some_blocks_are_those_of_parts(rng, rows, num_blocks):
    a, b = rng.normal(size=(7, 3, 5)).astype(np.float32), rng.normal(size=(rows, 3, 5)).astype(np.float32)
    whole, blocks = whole_and_block_products(a, b, num_blocks=num_blocks)
    np.testing.assert_allclose(whole, part_products(a, b), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(blocks, part_products(a, b, by_block=True)[:num_blocks], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("rows", [1, SUM_ROWS, SUM_ROWS + 1, 2 * SUM_ROWS + 5])
@pytest.mark.parametrize("width", [1, 31, 100, 340, 341])
def test_sums_of_products_err_less_than_they_may(rng, rows, width):
    """Products of one sign, whose errors add up; among more rows than a CPU takes at a time."""
    a, b = (1 + rng.random((n, 1, width), np.float32) for n in (2, rows))
    exact = np.einsum("mnd,gnd->mg", a, b, dtype=np.float64)
    allowed = sum_operations(width) * np.finfo(np.float32).eps / 2
    assert (np.abs(np.asarray(part_products(a, b)[0], np.float64) - exact) <= allowed * exact).all()


@pytest.mark.parametrize("dim", [1, 16, 30, 340])
def test_square_norms_err_less_than_one_long_sum_may(rng, dim):
    rows = rng.normal(size=(ROWS, ATTRIBUTES, dim)).astype(np.float32)
    exact = np.square(rows, dtype=np.float64).sum(axis=(1, 2))
    roundings = norm_operations(ATTRIBUTES, dim)
    assert (
        np.abs(square_norms(jnp.asarray(rows)) - exact) <= roundings * np.finfo(np.float32).eps / 2 * exact
    ).all()
