import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.manipulation import NORMALIZATIONS, manipulate, normalize_features
from gradrev_jax.search import edits
from gradrev_jax.search.edits import edit, make_changes, make_references
from gradrev_jax.search.products import gallery_products

VALUES, ATTRIBUTES, DIM, ROWS, REFERENCES = 5, 3, 30, 120, 4


def example(rng, how, offset=0.0):
    gallery = jnp.asarray(offset + rng.normal(size=(ROWS, ATTRIBUTES, DIM)), jnp.float32)
    memory = jnp.asarray(offset + rng.normal(size=(VALUES, ATTRIBUTES, DIM)), jnp.float32)
    edits = (rng.integers(-1, 2, (9, VALUES)) * 0.7).astype(np.float32)
    changes = make_changes(rng.integers(0, REFERENCES, 9), edits)
    products = gallery_products(gallery, memory, how)
    references = make_references(products, gallery[:REFERENCES], products.rows[:REFERENCES], how)
    return references, products, changes, edits, edit(products, references, changes, how)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_references_know_how_they_were_scaled(rng, how):
    references, *_ = example(rng, how)
    parts = references.scales.shape[1]
    before, after = (np.reshape(x, (REFERENCES, parts, -1)) for x in (references.features, references.rows))
    np.testing.assert_allclose(references.scales[..., None] * before, after, rtol=1e-5)
    np.testing.assert_allclose(references.norms, np.linalg.norm(references.features, axis=-1), rtol=1e-6)


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (2, 0), (3, 1), (5, 5)])
def test_changes_are_the_entries_that_are_not_zero(rng, counts):
    edits = np.zeros((len(counts), VALUES), np.float32)
    for row, count in zip(edits, counts, strict=True):
        row[rng.choice(VALUES, count, replace=False)] = rng.normal(size=count)
    changes = make_changes(np.arange(len(counts)), edits)
    assert changes.values.shape[1] == {0: 1, 1: 1, 2: 2, 3: 4, 5: 5}[max(counts)]
    again = np.zeros_like(edits)
    np.add.at(again, (np.arange(len(counts))[:, None], changes.values), changes.weights)
    np.testing.assert_array_equal(again, edits)


def test_changes_of_no_queries():
    assert make_changes(np.zeros(0, int), np.zeros((0, VALUES), np.float32)).values.shape == (0, 1)


def test_many_changes_are_added_by_a_loop(rng, monkeypatch):
    references, products, changes, _, edited = example(rng, "global")
    monkeypatch.setattr(edits, "UNROLLED", 0)
    looped = edit.__wrapped__(products, references, changes, "global")
    np.testing.assert_allclose(looped.vectors, edited.vectors, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_editing_is_manipulating_and_normalising(rng, how):
    references, products, changes, edits, edited = example(rng, how)
    expected = normalize_features(
        manipulate(references.features[changes.reference], edits, products.memory), how
    )
    np.testing.assert_allclose(edited.vectors.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
    squares = np.square(np.asarray(edited.vectors, np.float64)).sum(axis=(1, 2))
    np.testing.assert_allclose(edited.square_norms, squares, rtol=1e-5)
    # What changes nothing gives the gallery's row to the bit, so that a row is 0 from itself.
    nothing = make_changes(np.arange(REFERENCES), 0 * edits[:REFERENCES])
    untouched = edit(products, references, nothing, how)
    np.testing.assert_array_equal(untouched.vectors, products.rows[:REFERENCES])


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_scores_lie_within_the_bound_on_their_rounding(rng, how, offset):
    """Sums of products that cancel (offset 30) err most; the bound must hold, and not by being vast."""
    references, products, (reference, *_), _, edited = example(rng, how, offset)
    bounds = np.asarray(edited.errors, np.float64)
    terms = jnp.einsum("qe,qeg->qg", edited.factors, products.table[edited.entries])
    dots = terms + jnp.einsum("qs,sqg->qg", edited.scales, references.products[:, reference])
    scores = np.asarray(products.square_norms - 2 * dots, np.float64)
    rows = np.asarray(products.rows, np.float64).reshape(ROWS, -1)
    vectors = np.asarray(edited.vectors, np.float64).reshape(len(reference), -1)
    errors = np.abs(scores - ((rows**2).sum(axis=1) - 2 * vectors @ rows.T)).max(axis=1)
    assert (errors <= bounds).all()
    assert (bounds < 3000 * errors).all()
