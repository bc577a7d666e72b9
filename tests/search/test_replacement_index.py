"""The index with edits by replacement, and with blocks that belong to no attribute."""

import jax
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex, nearest_neighbors
from gradrev_jax.core.normalization import NORMALIZATIONS, normalize_features
from gradrev_jax.core.replacement import replace_blocks
from gradrev_jax.search.sharded_index import ShardedIndex
from tests.search.test_index import SCHEMA, VALUES, K, flat

REST, DIM = 2, 4
ATTRIBUTES = 3
BLOCKS = ATTRIBUTES + REST
ONE_ATTRIBUTE = AttributeSchema(("color",), (("blue", "red", "green"),))
ONE_VALUE = AttributeSchema(("only",), (("x",),))


def example(rng, rows=90, queries=16, soft=False, rest=REST, schema=SCHEMA):
    """Gallery, memory, references, indicators, weights and absent blocks; norms of blocks differ widely."""
    count = schema.num_attributes + rest
    gallery = rng.normal(size=(rows, count, DIM)) * rng.uniform(0.2, 5, (rows, count, 1))
    memory = 2 * rng.normal(size=(schema.num_values, count, DIM))
    if not soft:
        memory *= np.pad(schema.membership, ((0, 0), (0, rest)))[:, :, None]
    indicators = rng.integers(-1, 2, (queries, schema.num_values)) * rng.choice([1, 0.5], (queries, 1))
    indicators[rng.random((queries, schema.num_values)) < 0.4] = 0
    indicators[:2] = 0
    indicators[1, 0] = -1  # taken out alone
    absent = rng.normal(size=(schema.num_attributes, DIM))
    weights = 10 ** rng.uniform(-1, 1, count) * (rng.permutation(count) >= (count > 2))
    arrays = gallery, memory, rng.integers(0, rows, queries), indicators, weights, absent
    return tuple(x if x.dtype == int else x.astype(np.float32) for x in arrays)


def slow_edit(features, indicator, memory, schema, strength, absent):
    """One reference, value by value, in float64."""
    edited = np.asarray(features, np.float64).copy()
    for n in range(schema.num_attributes):
        if (indicator[schema.attribute_of == n] != 0).any():
            edited[n] = 0
    for v, entry in enumerate(indicator):
        if entry > 0:
            edited += strength * float(entry) * np.asarray(memory[v], np.float64)
    for n in range(schema.num_attributes):
        own = indicator[schema.attribute_of == n]
        if (own < 0).any() and not (own > 0).any() and absent is not None:
            edited[n] += absent[n]
    return edited


def oracle(data, k, how, strength=1.0, schema=SCHEMA, *, weights=None, absent=None, exclude=False):
    """Every query and every distance in float64; a stable sort."""
    gallery, memory, reference, indicators = data[:4]
    rows, found, distances = flat(gallery, how, weights), [], []
    for row, indicator in zip(reference, indicators, strict=True):
        edited = slow_edit(gallery[row], indicator, memory, schema, strength, absent)
        distance = np.sqrt(((rows - flat(edited[None], how, weights)) ** 2).sum(axis=1))
        if not indicator.any():
            distance[row] = 0
        order = np.argsort(distance, kind="stable")
        order = order[order != row] if exclude else order
        found.append(order[:k])
        distances.append(distance[order[:k]])
    return np.array(found), np.array(distances)


def build(data, how, schema=SCHEMA, weights=None, absent=None):
    return ManipulationIndex.build(*data[:2], schema, how, weights, "replace", absent)


def check(data, k, how, strength=1.0, schema=SCHEMA, *, weights=None, absent=None, exclude=False):
    index = build(data, how, schema, weights, absent)
    reference, indicators = data[2:4]
    settings = {"k": k, "strength": strength, "exclude_reference": exclude}
    found = index.search(reference_ids=reference, indicators=indicators, **settings)
    expected = oracle(data, k, how, strength, schema, weights=weights, absent=absent, exclude=exclude)
    np.testing.assert_array_equal(found.indices, expected[0])
    np.testing.assert_allclose(found.distances, expected[1], rtol=1e-4, atol=1e-6)
    return index


@pytest.mark.long
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equals_the_oracle(rng, how, soft, weighted):
    """Values of several attributes change, or go, at once; prototypes have entries outside their blocks."""
    for strength, has_absent, exclude in ((1.0, True, False), (0.7, False, True)):
        data = example(rng, soft=soft)
        weights, absent = data[4] if weighted else None, data[5] if has_absent else None
        check(data, K - exclude, how, strength, weights=weights, absent=absent, exclude=exclude)


@pytest.mark.long
@pytest.mark.parametrize(
    ("schema", "rest"), [(SCHEMA, 0), (ONE_ATTRIBUTE, 0), (ONE_ATTRIBUTE, 3), (ONE_VALUE, 0), (ONE_VALUE, 1)]
)
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_one_attribute_one_value_and_no_other_block(rng, how, schema, rest):
    data = example(rng, rest=rest, schema=schema, soft=True)
    check(data, K, how, 1.5, schema, weights=data[4], absent=data[5])


@pytest.mark.parametrize("strength", [0.0, -2.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_a_strength_has_no_say_in_what_is_replaced(rng, how, strength):
    data = example(rng)
    check(data, K, how, strength, absent=data[5])


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equals_the_plain_path_to_the_bit_of_every_index(rng, how):
    """A block of NaN may be taken out; a query of NaN is treated alike, and spoils no other."""
    data = gallery, memory, reference, indicators, weights, absent = example(rng, rows=320)
    features = gallery[reference]
    features[1, 0] = np.nan  # is taken out
    features[4] = np.nan
    features[5, BLOCKS - 1] = np.nan
    index = build(data, how, weights=weights, absent=absent)
    found = index.search(features=features, indicators=indicators, k=K, strength=0.7)
    edited = replace_blocks(features, indicators, memory, SCHEMA.attribute_of, strength=0.7, absent=absent)
    queries, rows = (normalize_features(x, how, weights) for x in (edited, gallery))
    expected = nearest_neighbors(queries, rows, K)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5, atol=1e-6)
    assert np.isfinite(found.distances[1]).all()


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_a_session_finds_what_the_index_does(rng, how):
    data = gallery, _, _, indicators, weights, absent = example(rng)
    index = build(data, how, weights=weights, absent=absent)
    for session in (index.session(8), index.session(features=gallery[8])):
        for edits in (indicators, *indicators[:3, None]):
            found = session.search(edits, K, strength=0.7)
            expected = index.search(reference_ids=np.full(len(edits), 8), indicators=edits, k=K, strength=0.7)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_shards_find_what_one_index_finds(rng, how):
    gallery, memory, reference, indicators, weights, absent = data = example(rng)
    gallery[[40, 77]] = gallery[3]
    index = build(data, how, weights=weights, absent=absent)
    sharded = ShardedIndex.build(
        gallery, memory, SCHEMA, how, jax.devices()[:1] * 3, weights, "replace", absent
    )
    queries = {"reference_ids": reference, "indicators": indicators, "k": K, "strength": 1.3}
    found, expected = sharded.search(**queries), index.search(**queries)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_an_unedited_reference_is_at_distance_0_and_ties_go_to_the_lower_index(rng, how):
    data = gallery, _, _, indicators, weights, absent = example(rng, rows=13)
    data = np.tile(gallery, (10, 1, 1)), *data[1:]
    reference = np.arange(16)
    index = build(data, how, weights=weights, absent=absent)
    found = index.search(reference_ids=reference, indicators=indicators, k=60)
    expected, _ = oracle((*data[:2], reference, indicators), 60, how, weights=weights, absent=absent)
    unedited = ~indicators.any(axis=1)
    assert 1 <= unedited.sum() < 16
    np.testing.assert_array_equal(np.asarray(found.distances)[unedited, :10], 0)
    np.testing.assert_array_equal(found.indices, expected)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("size", [1, 1e4])
def test_near_ties_keep_the_order_of_float64(rng, how, size):
    """Rows that products do not tell apart, the less so as a block that is taken out was large."""
    centres = rng.normal(size=(60, 1, BLOCKS, 64))
    gallery = centres + 1e-6 * rng.normal(size=(60, 5, BLOCKS, 64))
    gallery = rng.permutation(gallery.reshape(-1, BLOCKS, 64)).astype(np.float32)
    memory = np.zeros((VALUES, BLOCKS, 64))
    memory[:, :ATTRIBUTES] = SCHEMA.membership[:, :, None] * rng.normal(size=(VALUES, 1, 64))
    features = rng.normal(size=(20, BLOCKS, 64))
    features[:, 0] *= size
    indicators = np.zeros((20, VALUES), int)
    indicators[np.arange(20), rng.integers(0, 2, 20)] = 1
    memory, features = memory.astype(np.float32), features.astype(np.float32)
    found = build((gallery, memory), how).search(features=features, indicators=indicators, k=23)
    queries = zip(features, indicators, strict=True)
    edited = np.stack([slow_edit(*query, memory, SCHEMA, 1.0, None) for query in queries])
    squares = np.square(flat(edited, how)[:, None] - flat(gallery, how)).sum(axis=-1)
    expected = np.sort(squares, axis=1)[:, :23]
    np.testing.assert_allclose(np.take_along_axis(squares, np.asarray(found.indices), 1), expected, rtol=1e-6)
    np.testing.assert_allclose(np.square(found.distances), expected, rtol=3e-6)


@pytest.mark.long
def test_what_other_devices_do_finds_the_same(rng, as_on_a_gpu):
    """All in one test, because programs are compiled anew before and after it."""
    for how in ("global", "attribute"):
        data = example(rng, rows=300)
        index = check(data, K, how, weights=data[4], absent=data[5])
        one = index.session(int(data[2][1])).search(data[3][1:2], K)
        expected = oracle(data, K, how, weights=data[4], absent=data[5])
        np.testing.assert_array_equal(one.indices, expected[0][1:2])


@pytest.mark.long
@pytest.mark.parametrize("how", ["global", "attribute"])
def test_every_thread_may_have_references_to_itself(rng, monkeypatch, how):
    monkeypatch.setattr("gradrev_jax.search.batching.NUM_WORKERS", 2)
    monkeypatch.setattr("gradrev_jax.search.batching.CHUNK_SIZES", (1, 4))
    check(example(rng), K, how)
