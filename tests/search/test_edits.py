import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.normalization import (
    NORMALIZATIONS,
    normalize_features,
    normalize_scaled,
    scale_weights,
    weigh_features,
)
from gradrev_jax.search import edits as edits_module
from gradrev_jax.search.changes import Changes
from gradrev_jax.search.edits import apply_edits, make_edits
from gradrev_jax.search.products import gallery_products
from gradrev_jax.search.references import ReferenceRows, make_references

VALUES, ATTRIBUTES, DIM, ROWS, REFERENCES, QUERIES = 5, 3, 30, 120, 4, 9


WEIGHTS = (None, [1, 0.01, 4], [0, 3, 1])


def example(rng, how, offset=0.0, weights=None):
    gallery = (offset + rng.normal(size=(ROWS, ATTRIBUTES, DIM))).astype(np.float32)
    memory = (offset + rng.normal(size=(VALUES, ATTRIBUTES, DIM))).astype(np.float32)
    indicators = (rng.integers(-1, 2, (QUERIES, VALUES)) * 0.7).astype(np.float32)
    edits = make_edits(rng.integers(0, REFERENCES, QUERIES), Changes(indicators))
    scaled = scale_weights(weights, ATTRIBUTES)
    products = gallery_products(gallery, memory, how, scaled)
    features = weigh_features(jnp.asarray(gallery[:REFERENCES]), how, scaled)
    references = make_references(products, ReferenceRows(features, products.rows[:REFERENCES]))
    return products, references, edits, indicators


@pytest.mark.long
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_references_know_how_they_were_scaled(rng, how, weights):
    _, references, *_ = example(rng, how, weights=weights)
    parts = references.scales.shape[1]
    before, after = (
        np.reshape(x, (REFERENCES, parts, -1)) for x in (references.weighted, references.normalized)
    )
    np.testing.assert_allclose(np.asarray(references.scales)[..., None] * before, after, rtol=1e-5)
    norms = np.linalg.norm(np.asarray(references.weighted), axis=-1)
    np.testing.assert_allclose(references.norms, norms, rtol=1e-6)


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (2, 0), (3, 1), (5, 5)])
def test_edits_are_the_nonzero_entries_of_indicators(rng, counts):
    indicators = np.zeros((len(counts), VALUES), np.float32)
    for row, count in zip(indicators, counts, strict=True):
        row[rng.choice(VALUES, count, replace=False)] = rng.normal(size=count)
    edits = make_edits(np.arange(len(counts)), Changes(indicators))
    assert edits.memory_rows.shape[1] == {0: 1, 1: 1, 2: 2, 3: 4, 5: 5}[max(counts)]
    dense = np.zeros_like(indicators)
    np.add.at(dense, (np.arange(len(counts))[:, None], edits.memory_rows), edits.factors)
    np.testing.assert_array_equal(dense, indicators)
    assert edits.take(np.array([1])).factors.tolist() == edits.factors[1:].tolist()


def test_edits_of_no_queries():
    assert make_edits(np.zeros(0, int), Changes(np.zeros((0, VALUES), np.float32))).memory_rows.shape == (
        0,
        1,
    )


def test_many_edits_are_added_in_a_loop(rng, monkeypatch):
    products, references, edits, _ = example(rng, "global")
    edited = apply_edits(products, references, edits)
    monkeypatch.setattr(edits_module, "MAX_UNROLLED", 0)
    looped = jax.jit(apply_edits.__wrapped__)(products, references, edits)
    np.testing.assert_allclose(looped.vectors, edited.vectors, rtol=1e-5, atol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_editing_is_manipulating_and_normalising(rng, how):
    products, references, edits, indicators = example(rng, how)
    edited = apply_edits(products, references, edits)
    manipulated = manipulate(references.weighted[edits.position], indicators, products.memory)
    expected = normalize_features(manipulated, how)
    np.testing.assert_allclose(edited.vectors.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
    squares = np.square(np.asarray(edited.vectors, np.float64)).sum(axis=(1, 2))
    np.testing.assert_allclose(edited.square_norms, squares, rtol=1e-5)
    # Without an edit, the gallery's row is kept to the bit, so that a row is 0 from itself.
    unedited = edits._replace(factors=np.zeros_like(edits.factors))
    untouched = apply_edits(products, references, unedited)
    np.testing.assert_array_equal(untouched.vectors, products.rows[edits.position])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_scores_lie_within_the_bound_on_their_rounding(rng, how, offset, weights):
    """Sums of products that cancel (offset 30) err most; the bound must hold, and not by being vast."""
    products, references, edits, _ = example(rng, how, offset, weights)
    edited = apply_edits(products, references, edits)
    bounds = np.asarray(edited.errors, np.float64)
    table, by_reference = np.asarray(products.table), np.asarray(references.products)
    terms = np.einsum("qe,qeg->qg", edited.terms.entry_factors, table[edited.terms.entries])
    dots = terms + np.einsum("qs,sqg->qg", edited.terms.scales, by_reference[:, edits.position])
    scores = np.asarray(products.square_norms - 2 * dots, np.float64)
    rows = np.asarray(products.rows, np.float64).reshape(ROWS, -1)
    vectors = np.asarray(edited.vectors, np.float64).reshape(QUERIES, -1)
    errors = np.abs(scores - ((rows**2).sum(axis=1) - 2 * vectors @ rows.T)).max(axis=1)
    assert (errors <= bounds).all()
    assert (bounds < 3000 * errors).all()


@pytest.mark.long
@pytest.mark.parametrize("weights", [None, [1, 0.01, 4]])
@pytest.mark.parametrize("size", [1, 1e5])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_scores_with_blocks_taken_out_lie_within_the_bound(rng, how, size, weights):
    """The more a block that is taken out weighs, the more cancels; a part not added leaves no error."""
    products, _, _, indicators = example(rng, how, weights=weights)
    features = rng.normal(size=(REFERENCES, ATTRIBUTES, DIM))
    features[:, 0] *= size
    features = weigh_features(jnp.asarray(features, jnp.float32), how, products.weights)
    rows = normalize_scaled(features, how, products.weights).reshape(features.shape)
    references = make_references(products, ReferenceRows(features, rows), 2)
    replaced = np.array([[True, False], [True, True], [False, True]] * 3)
    edits = make_edits(rng.integers(0, REFERENCES, QUERIES), Changes(indicators, replaced))
    assert edits.replaced_blocks.tolist() == [[0, -1], [0, 1], [1, -1]] * 3
    edited = apply_edits(products, references, edits)
    table, by_reference = np.asarray(products.table), np.asarray(references.products)
    dots = np.einsum("qe,qeg->qg", edited.terms.entry_factors, table[edited.terms.entries])
    dots += np.einsum("qs,sqg->qg", edited.terms.scales, by_reference[:, edits.position])
    if how != "attribute":
        blocks = np.asarray(references.blocks)[edited.terms.blocks, edits.position[:, None]]
        dots += np.einsum("qb,qbg->qg", edited.terms.block_factors, blocks)
    scores = np.asarray(products.square_norms - 2 * dots, np.float64)
    kept = np.asarray(features, np.float64)[edits.position]
    kept[:, :2] *= ~replaced[:, :, None]
    manipulated = kept + np.einsum("qv,vnd->qnd", indicators, np.asarray(products.memory, np.float64))
    expected = normalize_features(manipulated, how, weights if how == "attribute" else None)
    np.testing.assert_allclose(edited.vectors.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
    rows = np.asarray(products.rows, np.float64).reshape(ROWS, -1)
    vectors = np.asarray(edited.vectors, np.float64).reshape(QUERIES, -1)
    errors = np.abs(scores - ((rows**2).sum(axis=1) - 2 * vectors @ rows.T)).max(axis=1)
    bounds = np.asarray(edited.errors, np.float64)
    assert (errors <= bounds).all()
    assert (bounds < 3000 * errors).all()
