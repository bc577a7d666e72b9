import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.manipulation import NORMALIZATIONS, manipulate, normalize_features
from gradrev_jax.manipulation_products import References, edit, gallery_products, part_products

VALUES, ATTRIBUTES, DIM, ROWS, REFERENCES = 5, 3, 30, 120, 4


def example(rng, how, offset=0.0):
    gallery = jnp.asarray(offset + rng.normal(size=(ROWS, ATTRIBUTES, DIM)), jnp.float32)
    memory = jnp.asarray(offset + rng.normal(size=(VALUES, ATTRIBUTES, DIM)), jnp.float32)
    edits = jnp.asarray(rng.integers(-1, 2, (9, VALUES)) * 0.7, jnp.float32)
    reference = jnp.asarray(rng.integers(0, REFERENCES, 9))
    products = gallery_products(gallery, memory, how)
    references = References(
        gallery[:REFERENCES],
        products.rows[:REFERENCES],
        part_products(gallery[:REFERENCES], products.rows, by_block=how == "attribute"),
    )
    return references, products, reference, edits, edit(products, references, reference, edits, VALUES, how)


def test_part_products_against_einsum(rng):
    a, b = rng.normal(size=(7, 3, 5)).astype(np.float32), rng.normal(size=(11, 3, 5)).astype(np.float32)
    blocks = np.einsum("mnd,gnd->nmg", a.astype(np.float64), b)
    np.testing.assert_allclose(part_products(a, b, by_block=True), blocks, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(part_products(a, b)[0], blocks.sum(axis=0), rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("rows_at_once", [1, 7, ROWS])
def test_a_gallery_may_pass_through_in_any_portions(rng, monkeypatch, how, rows_at_once):
    features = rng.normal(size=(ROWS, ATTRIBUTES, DIM)).astype(np.float32)
    memory = rng.normal(size=(VALUES, ATTRIBUTES, DIM)).astype(np.float32)
    monkeypatch.setattr("gradrev_jax.manipulation_products.ROWS_BYTES", rows_at_once * features[0].nbytes)
    products = gallery_products(features, memory, how)
    expected = normalize_features(features, how)
    np.testing.assert_allclose(products.rows.reshape(ROWS, -1), expected, rtol=1e-6)
    squares = np.square(np.asarray(expected, np.float64)).sum(axis=1)
    np.testing.assert_allclose(products.square_norms, squares, rtol=1e-5)
    parts = ATTRIBUTES if how == "attribute" else 1
    rows, prototypes = (x.reshape(len(x), parts, -1) for x in (np.asarray(products.rows), memory))
    table = np.einsum("vpd,gpd->pvg", prototypes.astype(np.float64), rows)
    np.testing.assert_allclose(products.table[:-1], table.reshape(-1, ROWS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_editing_is_manipulating_and_normalising(rng, how):
    references, products, reference, edits, edited = example(rng, how)
    expected = normalize_features(manipulate(references.features[reference], edits, products.memory), how)
    np.testing.assert_allclose(edited.vectors.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
    squares = np.square(np.asarray(edited.vectors, np.float64)).sum(axis=(1, 2))
    np.testing.assert_allclose(edited.square_norms, squares, rtol=1e-5)
    # What changes nothing gives the gallery's row to the bit, so that a row is 0 from itself.
    untouched = edit(products, references, np.arange(REFERENCES), 0 * edits[:REFERENCES], 1, how)
    np.testing.assert_array_equal(untouched.vectors, products.rows[:REFERENCES])


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_scores_lie_within_the_bound_on_their_rounding(rng, how, offset):
    """Sums of products that cancel (offset 30) err most; the bound must hold, and not by being vast."""
    references, products, reference, _, edited = example(rng, how, offset)
    bounds = np.asarray(edited.errors, np.float64)
    changes = jnp.einsum("qe,qeg->qg", edited.factors, products.table[edited.entries])
    dots = changes + jnp.einsum("qs,sqg->qg", edited.scales, references.products[:, reference])
    scores = np.asarray(products.square_norms - 2 * dots, np.float64)
    rows = np.asarray(products.rows, np.float64).reshape(ROWS, -1)
    vectors = np.asarray(edited.vectors, np.float64).reshape(len(reference), -1)
    errors = np.abs(scores - ((rows**2).sum(axis=1) - 2 * vectors @ rows.T)).max(axis=1)
    assert (errors <= bounds).all()
    assert (bounds < 3000 * errors).all()
