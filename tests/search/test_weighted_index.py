import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax import ManipulationIndex, nearest_neighbors
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.normalization import NORMALIZATIONS, normalize_features
from tests.search.test_index import ATTRIBUTES, SCHEMA, VALUES, K, example, oracle


def draw_weights(rng):
    """Weights over four orders of magnitude, sometimes one of them 0."""
    weights = 10 ** rng.uniform(-2, 2, ATTRIBUTES)
    return weights * (rng.permutation(ATTRIBUTES) > 0) if rng.random() < 0.5 else weights


@pytest.mark.long
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equals_the_oracle_and_the_plain_search_at_any_weights(rng, how, soft):
    """Several values of several attributes change at once, in prototypes with and without zero blocks."""
    for _ in range(6):
        gallery, memory, reference, indicators = example(rng, soft=soft)
        weights = draw_weights(rng)
        index = ManipulationIndex.build(gallery, memory, SCHEMA, how, weights)
        found = index.search(reference_ids=reference, indicators=indicators, k=K, strength=0.7)
        query = gallery[reference], indicators, K, how, 0.7
        indices, distances = oracle(gallery, memory, *query, weights=weights)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6)
        edited = normalize_features(manipulate(query[0], 0.7 * indicators, memory), how, weights)
        plain = nearest_neighbors(edited, normalize_features(gallery, how, weights), K)
        np.testing.assert_array_equal(found.indices, plain.indices)
        np.testing.assert_allclose(found.distances, plain.distances, rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_features_and_sessions_are_weighted_like_the_gallery(rng, how):
    gallery, memory, reference, indicators = example(rng)
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how, [3, 0, 0.5])
    expected = index.search(reference_ids=reference, indicators=indicators, k=K)
    by_features = index.search(features=gallery[reference], indicators=indicators, k=K)
    np.testing.assert_array_equal(by_features.indices, expected.indices)
    np.testing.assert_array_equal(by_features.distances, expected.distances)
    for session in (index.session(int(reference[2])), index.session(features=gallery[reference[2]])):
        found = session.search(indicators[2:3], k=K)
        np.testing.assert_array_equal(found.indices[0], expected.indices[2])
        # Sums over one query and over several may have another order: 1.3e-6 with JAX 0.12.
        np.testing.assert_allclose(found.distances[0], expected.distances[2], rtol=5e-6)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equal_weights_are_no_weights_to_the_bit(rng, how):
    gallery, memory, _, _ = example(rng)
    plain = ManipulationIndex.build(gallery, memory, SCHEMA, how)
    equal = ManipulationIndex.build(gallery, memory, SCHEMA, how, [0.3] * ATTRIBUTES)
    assert jax.tree.structure(equal.products) == jax.tree.structure(plain.products)  # the same programs
    jax.tree.map(np.testing.assert_array_equal, dataclasses.astuple(equal), dataclasses.astuple(plain))


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equal_rows_tie_whatever_the_weights(rng, how):
    gallery, memory, _, indicators = example(rng, rows=13)
    gallery, reference, weights = np.tile(gallery, (10, 1, 1)), np.arange(16), [0.3, 1, 0.02]
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how, weights)
    found = index.search(reference_ids=reference, indicators=indicators, k=60)
    query = gallery[reference], indicators, 60, how
    np.testing.assert_array_equal(found.indices, oracle(gallery, memory, *query, weights=weights)[0])


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("hole", [0, np.nan])
def test_an_attribute_of_weight_0_is_left_out_whatever_it_holds(rng, how, hole):
    gallery, memory, reference, indicators = example(rng)
    expected = ManipulationIndex.build(gallery, memory, SCHEMA, how, [1, 2, 0]).search(
        reference_ids=reference, indicators=indicators, k=K
    )
    gallery[:, 2] = hole
    memory[:, 2] = hole
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how, [1, 2, 0])
    found = index.search(reference_ids=reference, indicators=indicators, k=K)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6)
    assert not index.products.rows[:, 2].any()


def test_a_row_without_a_direction_for_an_attribute_of_tiny_weight_is_found(rng):
    gallery, memory, _, _ = example(rng)
    gallery[[5, 9], 1] = 0
    with pytest.raises(ValueError, match=r"zero for an attribute in row 5, .* \(2 such rows of 90\)"):
        ManipulationIndex.build(gallery, memory, SCHEMA, "attribute", [1, 1e-17, 1])
    gallery[[5, 9], 1] = 1e-30
    ManipulationIndex.build(gallery, memory, SCHEMA, "attribute", [1, 1e-17, 1])


def test_a_weighted_row_is_at_most_1_long(rng):
    gallery, memory, _, _ = example(rng)
    for how in ("global", "attribute"):
        index = ManipulationIndex.build(gallery, memory, SCHEMA, how, draw_weights(rng))
        np.testing.assert_allclose(index.products.square_norms, 1, rtol=1e-6)


@pytest.mark.long
def test_near_ties_at_the_papers_width_keep_the_order_of_float64(rng):
    """Rows that float32 products do not tell apart, with weights that hide all but their noise."""
    gallery = rng.normal(size=(300, 3, 340)).astype(np.float32)
    gallery = np.concatenate([gallery, gallery + np.float32(3e-4) * rng.normal(size=(300, 3, 340))])
    gallery = gallery.astype(np.float32)
    memory = (SCHEMA.membership[:, :, None] * rng.normal(size=(VALUES, 3, 340))).astype(np.float32)
    reference, indicators = rng.integers(0, 300, 20), rng.integers(-1, 2, (20, VALUES))
    weights = [10, 0.1, 1]
    for how in NORMALIZATIONS:
        index = ManipulationIndex.build(gallery, memory, SCHEMA, how, weights)
        found = index.search(reference_ids=reference, indicators=indicators, k=K)
        query = gallery[reference], indicators, K, how
        _, distances = oracle(gallery, memory, *query, weights=weights)
        np.testing.assert_allclose(found.distances, distances, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"weights must be \[3\], one per attribute, got \(2,\)"),
        ([0, 0, 0], "must not all be 0"),
        ([1, -1, 2], "not below 0, got -1 for attribute 1"),
        ([1, 2, np.nan], "finite and not below 0, got nan for attribute 2"),
    ],
)
def test_weights_that_are_none(rng, weights, message):
    gallery, memory, _, _ = example(rng)
    with pytest.raises(ValueError, match=message):
        ManipulationIndex.build(gallery, memory, SCHEMA, "global", weights)


def test_bfloat16_features_are_weighted_in_float32(rng):
    gallery, memory, reference, indicators = example(rng)
    gallery = jnp.asarray(gallery, jnp.bfloat16)
    index = ManipulationIndex.build(gallery, memory, SCHEMA, "attribute", [1, 3, 2])
    rows = np.asarray(gallery, np.float32)
    query = rows[reference], indicators, K, "attribute"
    found = index.search(reference_ids=reference, indicators=indicators, k=K)
    np.testing.assert_array_equal(found.indices, oracle(rows, memory, *query, weights=[1, 3, 2])[0])
