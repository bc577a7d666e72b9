import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.normalization import NORMALIZATIONS, normalize_features
from gradrev_jax.search.products import gallery_products

VALUES, ATTRIBUTES, DIM, ROWS = 5, 3, 30, 120


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_zero_blocks_of_the_memory_have_no_place_in_the_table(rng, how):
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM)).astype(np.float32)
    memory[0] = 0
    memory[1, :2] = 0
    rows = rng.normal(size=(ROWS, ATTRIBUTES, DIM)).astype(np.float32)
    products = gallery_products(jnp.asarray(rows), jnp.asarray(memory), how)
    filled = [(v, n) for n in range(ATTRIBUTES) for v in range(VALUES) if memory[v, n].any()]
    expected = filled if how == "attribute" else [(v, 0) for v in range(1, VALUES)]
    assert products.part.tolist() == [n for _, n in expected] + [0]
    for v, entries in enumerate(products.entries.tolist()):
        own = [e for e, (value, _) in enumerate(expected) if value == v]
        assert entries == own + [len(expected)] * (len(entries) - len(own))
    assert not products.table[-1].any()
    normalized = np.asarray(products.rows, np.float64)
    for product, (v, n) in zip(products.table[:-1], expected, strict=True):
        block = slice(n, n + 1) if how == "attribute" else slice(None)
        direct = np.einsum("nd,gnd->g", memory[v, block].astype(np.float64), normalized[:, block])
        np.testing.assert_allclose(product, direct, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("how", "rows_at_once"), [("global", 1), *((how, 7) for how in NORMALIZATIONS)])
def test_a_gallery_may_pass_through_in_any_portions(rng, monkeypatch, how, rows_at_once):
    features = rng.normal(size=(ROWS, ATTRIBUTES, DIM)).astype(np.float32)
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM)).astype(np.float32)
    monkeypatch.setattr("gradrev_jax.search.products.ROWS_BYTES", rows_at_once * features[0].nbytes)
    products = gallery_products(features, memory, how)
    expected = normalize_features(features, how)
    np.testing.assert_allclose(products.rows.reshape(ROWS, -1), expected, rtol=1e-6)
    squares = np.square(np.asarray(expected, np.float64)).sum(axis=1)
    np.testing.assert_allclose(products.square_norms, squares, rtol=1e-5)
    parts = ATTRIBUTES if how == "attribute" else 1
    rows, prototypes = (x.reshape(len(x), parts, -1) for x in (np.asarray(products.rows), memory))
    table = np.einsum("vpd,gpd->pvg", prototypes.astype(np.float64), rows)
    np.testing.assert_allclose(products.table[:-1], table.reshape(-1, ROWS), rtol=1e-4, atol=1e-5)


def test_norms_for_the_bound(rng):
    rows, memory = (rng.normal(size=(n, ATTRIBUTES, DIM)).astype(np.float32) for n in (ROWS, VALUES))
    products = gallery_products(rows, memory, "none")
    np.testing.assert_allclose(
        products.largest, np.linalg.norm(rows.reshape(ROWS, -1), axis=1).max(), rtol=1e-6
    )
    np.testing.assert_allclose(products.memory_norms, np.linalg.norm(memory, axis=-1), rtol=1e-6)
