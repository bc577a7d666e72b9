import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.manipulation import NORMALIZATIONS
from gradrev_jax.manipulation_products import (
    _rounding_errors,
    _scales,
    _table_rows,
    edit,
    gallery_products,
    measure,
    part_products,
)

VALUES, ATTRIBUTES, DIM, ROWS, REFERENCES = 5, 3, 30, 120, 4


def example(rng, how, offset=0.0):
    gallery = jnp.asarray(offset + rng.normal(size=(ROWS, ATTRIBUTES, DIM)), jnp.float32)
    memory = jnp.asarray(offset + rng.normal(size=(VALUES, ATTRIBUTES, DIM)), jnp.float32)
    edits = jnp.asarray(rng.integers(-1, 2, (9, VALUES)) * 0.7, jnp.float32)
    reference = jnp.asarray(rng.integers(0, REFERENCES, 9))
    products = gallery_products(gallery, memory, how)
    edited = edit(gallery[reference], edits, memory, how)
    return gallery[:REFERENCES], products, reference, edits, edited


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
def test_scales_lead_from_the_edited_to_the_normalised_feature(rng, how):
    edited = edit(
        *example(rng, how)[0:1], jnp.zeros((REFERENCES, VALUES)), jnp.zeros((VALUES, ATTRIBUTES, DIM)), how
    )
    parts = ATTRIBUTES if how == "attribute" else 1
    scaled = edited.features.reshape(REFERENCES, parts, -1) * _scales(edited, parts)[:, :, None]
    np.testing.assert_allclose(scaled.reshape(REFERENCES, -1), edited.vectors, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_scores_lie_within_the_bound_on_their_rounding(rng, how, offset):
    """Sums of products that cancel (offset 30) err most; the bound must hold, and not by being vast."""
    references, products, reference, edits, edited = example(rng, how, offset)
    parts = ATTRIBUTES if how == "attribute" else 1
    scales = _scales(edited, parts)
    bounds = np.asarray(_rounding_errors(products, references, reference, edits, scales), np.float64)
    sums = part_products(references, products.rows, by_block=parts > 1)
    entries, factors = _table_rows(products, edits, scales, VALUES)
    changes = jnp.einsum("qe,qeg->qg", factors, products.table[entries])
    dots = changes + jnp.einsum("qs,sqg->qg", scales, sums[:, reference])
    scores = np.asarray(products.square_norms - 2 * dots, np.float64)
    rows = np.asarray(products.rows, np.float64).reshape(ROWS, -1)
    exact = (rows**2).sum(axis=1) - 2 * np.asarray(edited.vectors, np.float64) @ rows.T
    errors = np.abs(scores - exact).max(axis=1)
    assert (errors <= bounds).all()
    assert (bounds < 3000 * errors).all()


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_only_what_the_bound_cannot_tell_apart_is_not_certified(rng, how):
    references, products, reference, edits, edited = example(rng, how)
    sums = part_products(references, products.rows, by_block=how == "attribute")
    assert measure(products, references, sums, reference, edits, edited, 3, VALUES)[2].all()
    # All rows alike: whichever are the candidates, the others are as near.
    same = products._replace(rows=jnp.tile(products.rows[:1], (ROWS, 1, 1)))
    same = gallery_products(same.rows, same.memory, "none")
    same = same._replace(
        entries=products.entries, part=products.part, table=jnp.tile(products.table[:, :1], (1, ROWS))
    )
    sums = jnp.tile(sums[..., :1], (1, 1, ROWS))
    assert not measure(same, references, sums, reference, edits, edited, 3, VALUES)[2].any()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA selects on a CPU")
def test_candidates_are_selected_and_not_sorted(rng):
    """A sort of the whole gallery takes XLA ten times as long as all the rest."""
    references, products, reference, edits, edited = example(rng, "global")
    sums = part_products(references, products.rows)
    compiled = (
        measure.lower(products, references, sums, reference, edits, edited, 3, VALUES).compile().as_text()
    )
    assert "TopK" in compiled
    assert not [line for line in compiled.splitlines() if " sort(" in line and f",{ROWS}]" in line]
