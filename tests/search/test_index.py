import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex, nearest_neighbors
from gradrev_jax.core.manipulation import manipulate
from gradrev_jax.core.normalization import NORMALIZATIONS, normalize_features
from gradrev_jax.search.neighbors import SPARE_CANDIDATES

SCHEMA = AttributeSchema(("color", "size", "only"), (("blue", "red"), ("s", "m", "l"), ("x",)))
VALUES, ATTRIBUTES, DIM = 6, 3, 4
ZEROS = np.zeros((1, VALUES), int)
K = 7  # most tests ask for as many of as many rows, and so share their programs


def example(rng, rows=90, queries=16, soft=False):
    """Gallery, memory, references and indicators; norms of rows and blocks differ widely."""
    gallery = rng.normal(size=(rows, ATTRIBUTES, DIM)) * rng.uniform(0.2, 5, (rows, ATTRIBUTES, 1))
    memory = 2 * rng.normal(size=(VALUES, ATTRIBUTES, DIM))
    if not soft:
        memory *= SCHEMA.membership[:, :, None]
    indicators = rng.integers(-1, 2, (queries, VALUES), dtype=np.int8)
    return (
        gallery.astype(np.float32),
        memory.astype(np.float32),
        rng.integers(0, rows, queries),
        indicators,
    )


@pytest.fixture(scope="module")
def built():
    """An index of the example, for tests of what it refuses."""
    return ManipulationIndex.build(*example(np.random.default_rng(0))[:2], SCHEMA)


def small_integers(rng, rows, largest=3):
    """Squared distances of such rows are exact in float32, so the oracle's ties are ties here."""
    return rng.integers(0, largest + 1, (rows, ATTRIBUTES, DIM)).astype(np.float32)


def flat(features, how, weights=None):
    """Weighted and normalised as the oracle does it: in float64, block by block."""
    features = np.asarray(features, np.float64)
    factors = np.ones(features.shape[1]) if weights is None else np.asarray(weights, np.float64)
    factors = factors[:, None] / np.sqrt((factors * factors).mean())
    rows = []
    for row in features:
        if how == "attribute":
            row = np.stack([b / (np.sqrt((b * b).sum()) or 1) for b in row]) / np.sqrt(len(row))
        row = row * factors
        row = row.reshape(-1)
        rows.append(row / (np.sqrt((row * row).sum()) or 1) if how == "global" else row)
    return np.array(rows)


def oracle(
    gallery, memory, references, indicators, k, how="global", strength=1.0, excluded=None, weights=None
):
    """Every query and every distance in float64; a stable sort."""
    rows, found, distances = flat(gallery, how, weights), [], []
    for query, (reference, indicator) in enumerate(zip(references, indicators, strict=True)):
        edited = np.asarray(reference, np.float64).copy()
        for value, sign in enumerate(indicator):
            edited += strength * float(sign) * np.asarray(memory[value], np.float64)
        distance = np.sqrt(((rows - flat(edited[None], how, weights)) ** 2).sum(axis=1))
        order = np.argsort(distance, kind="stable")
        if excluded is not None:
            order = order[order != excluded[query]]
        found.append(order[:k])
        distances.append(distance[order[:k]])
    return np.array(found), np.array(distances)


def check(arguments, k, how="global", strength=1.0, exclude=False):
    gallery, memory, reference, indicators = arguments
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
    excluded = reference if exclude else None
    indices, distances = oracle(gallery, memory, gallery[reference], indicators, k, how, strength, excluded)
    found = index.search(
        reference_ids=reference, indicators=indicators, k=k, strength=strength, exclude_reference=exclude
    )
    assert found.indices.dtype == jnp.int32
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6)


@functools.partial(jax.jit, static_argnums=4)
def plain_search(gallery, memory, features, indicators, how):
    """What the index must find, by the functions that it stands for."""
    edited = normalize_features(manipulate(features, indicators, memory), how)
    return nearest_neighbors(edited, normalize_features(gallery, how), K)


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equals_the_oracle(rng, how, soft, exclude):
    """Several values of several attributes change at once, in prototypes with and without zero blocks."""
    check(example(rng, soft=soft), K - exclude, how, exclude=exclude)


@pytest.mark.parametrize("strength", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_strengths(rng, how, strength):
    check(example(rng), K, how, strength)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_equals_the_plain_path_to_the_bit_of_every_index(rng, how):
    gallery, memory, reference, indicators = example(rng, rows=320)
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
    features = gallery[reference]
    features[4] = np.nan
    for items, query in (
        (gallery[reference], {"reference_ids": reference}),
        (features, {"features": features}),  # a query of NaN is treated alike, and spoils no other
    ):
        found = index.search(**query, indicators=indicators, k=K)
        expected = plain_search(gallery, memory, items, indicators, how)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_features_that_are_not_in_the_gallery(rng, how):
    gallery, memory, _, indicators = example(rng)
    features = rng.normal(size=(len(indicators), ATTRIBUTES, DIM)).astype(np.float32)
    found = ManipulationIndex.build(gallery, memory, SCHEMA, how).search(
        features=features, indicators=indicators, k=K
    )
    np.testing.assert_array_equal(found.indices, oracle(gallery, memory, features, indicators, K, how)[0])


def test_the_whole_gallery_can_be_asked_for(rng):
    check(example(rng), 90)
    check(example(rng), 89, exclude=True)


@pytest.mark.parametrize("queries", [0, 1, 15, 16, 17])
def test_any_number_of_queries(rng, queries):
    arguments = example(rng, queries=queries)
    if queries:
        return check(arguments, K)
    index = ManipulationIndex.build(*arguments[:2], SCHEMA)
    found = index.search(reference_ids=arguments[2], indicators=arguments[3], k=K)
    assert found.indices.shape == found.distances.shape == (0, K)
    return None


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", ["global", "attribute"])
def test_more_references_and_queries_than_are_searched_at_once(rng, monkeypatch, how, workers):
    monkeypatch.setattr("gradrev_jax.search.batching.NUM_WORKERS", workers)
    monkeypatch.setattr("gradrev_jax.search.batching.CHUNK_SIZES", (1, 4))
    check(example(rng, queries=45), K, how)
    # Room for the scores of a single query, whatever the sizes.
    monkeypatch.setattr("gradrev_jax.search.batching.CHUNK_BYTES", 1)
    check(example(rng, queries=6), K, how)


@pytest.mark.parametrize("spares", [(0,), (1, 3)])
def test_however_many_candidates_there_are_at_first(rng, monkeypatch, spares):
    """Queries that few candidates do not certify are tried with more, and at last with all rows."""
    monkeypatch.setattr("gradrev_jax.search.batching.SPARE_CANDIDATE_ROUNDS", spares)
    gallery, *others = example(rng)
    close = gallery + 1e-3 * rng.normal(size=gallery.shape).astype(np.float32)
    check((np.concatenate([gallery, close]), *others), K)


@pytest.mark.parametrize("k", [1, 60])
def test_ties_go_to_the_lower_index(rng, k):
    """Integers are exact, and so are their sums: equal distances are equal to the bit."""
    gallery, memory = small_integers(rng, 150, largest=1), small_integers(rng, VALUES, largest=1)
    indicators = rng.integers(-1, 2, (12, VALUES))
    check((gallery, memory, rng.integers(0, 150, 12), indicators), k, "none")


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "copies"), [("global", 2), *((how, 2 * SPARE_CANDIDATES) for how in NORMALIZATIONS)]
)
def test_equal_rows_tie_whatever_their_values(rng, how, copies):
    """With more copies than spare candidates nothing certifies the first k: nearest_neighbors settles it."""
    gallery, memory, _, indicators = example(rng, rows=13, queries=5)
    check((np.tile(gallery, (copies, 1, 1)), memory, np.arange(5), indicators), K, how)


def test_only_the_reference_itself_is_excluded_and_not_its_duplicates(rng):
    gallery, memory, _, _ = example(rng, rows=8)
    index = ManipulationIndex.build(np.concatenate([gallery] * 3), memory, SCHEMA)
    search = {"reference_ids": np.arange(24), "indicators": np.zeros((24, VALUES), int)}
    found = index.search(**search, k=2, exclude_reference=True)
    assert found.indices.tolist() == [
        [r for r in (i % 8, i % 8 + 8, i % 8 + 16) if r != i] for i in range(24)
    ]
    np.testing.assert_array_equal(found.distances, 0)
    # More copies than neighbours wanted: the reference may not be among the first k + 1 at all.
    found = index.search(**search, k=1, exclude_reference=True)
    assert found.indices.tolist() == [[i % 8 + 8 if i < 8 else i % 8] for i in range(24)]


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_a_query_that_becomes_zero(rng, how):
    """Rows of length 1 are all as far from the origin, to rounding: only the distances are comparable."""
    gallery, memory, _, _ = example(rng, soft=True)
    gallery[5] = memory[0]  # removing value 0 leaves nothing
    if how == "none":
        gallery[3] = 0  # has no direction, but a place
    indicators = np.zeros((1, VALUES), int)
    indicators[0, 0] = -1
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
    found = index.search(reference_ids=np.array([5]), indicators=indicators, k=60)
    distances = oracle(gallery, memory, gallery[5:6], indicators, 60, how)[1]
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    if how == "none":
        assert found.indices[0, 0] == 3


@pytest.mark.parametrize(
    ("how", "bad", "message"),
    [
        ("global", 0, r"are zero in row 4, so it has no direction to normalise \(3 such rows of 90\)"),
        ("attribute", 0, r"are zero for an attribute in row 4, so .* \(3 such rows of 90\)"),
        *((how, np.nan, r"are not finite in row 4 \(3 such rows of 90\)") for how in NORMALIZATIONS),
        ("none", np.inf, r"are not finite in row 4"),
    ],
)
def test_rows_that_cannot_be_normalised(rng, how, bad, message):
    gallery, memory, _, _ = example(rng)
    one_block = how == "attribute" or bad
    for row in (80, 4, 5):
        gallery[row, slice(1, 2) if one_block else slice(None)] = bad
    with pytest.raises(ValueError, match=message):
        ManipulationIndex.build(gallery, memory, SCHEMA, how)
    if how == "global":  # one block may be zero
        gallery[[80, 4, 5]] = np.array([[0, 1, 0, 0]])
        gallery[:, 1] = 0
        ManipulationIndex.build(gallery, memory, SCHEMA, how)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_a_session_finds_what_the_index_does(rng, how):
    gallery, memory, _, indicators = example(rng)
    index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
    session = index.session(8)
    for exclude in (False, True):
        settings = {"k": K - exclude, "strength": 0.7, "exclude_reference": exclude}
        for edits in (indicators, indicators[:1], indicators[3:4], 0 * indicators[:2]):
            found = session.search(edits, **settings)
            expected = index.search(reference_ids=np.full(len(edits), 8), indicators=edits, **settings)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6)
        count = len(indicators)
        excluded = np.full(count, 8) if exclude else None
        items = gallery[[8] * count]
        indices, _ = oracle(gallery, memory, items, indicators, K - exclude, how, 0.7, excluded)
        np.testing.assert_array_equal(session.search(indicators, **settings).indices, indices)


def test_a_session_with_features(rng):
    gallery, memory, _, indicators = example(rng)
    item = rng.normal(size=(ATTRIBUTES, DIM)).astype(np.float32)
    session = ManipulationIndex.build(gallery, memory, SCHEMA).session(features=item)
    found = session.search(indicators, K)
    expected = oracle(gallery, memory, np.array([item] * len(indicators)), indicators, K)
    np.testing.assert_array_equal(found.indices, expected[0])
    with pytest.raises(ValueError, match="needs an item of the gallery's"):
        session.search(indicators, K, exclude_reference=True)


def test_what_no_session_can_begin_with(built, unchecked):
    index = built
    for given in ({}, {"reference_id": 1, "features": np.zeros((ATTRIBUTES, DIM))}):
        with pytest.raises(ValueError, match="give reference_id, or features"):
            index.session(**given)
    with pytest.raises(ValueError, match="between 0 and 89, got 90"):
        index.session(90)
    with pytest.raises(ValueError, match=r"features must be \[\.\.\., 3, 4\]"):
        index.session(features=np.zeros((2, DIM), np.float32))
    with pytest.raises(ValueError, match=r"1 queries need indicators \[1, 6\]"):
        index.session(3).search(np.zeros((1, 5), int), 2)


@pytest.mark.long
def test_real_sizes_against_float64(rng):
    """Near-ties that float32 products do not tell apart, in blocks of the paper's width."""
    gallery = rng.normal(size=(400, 3, 340)).astype(np.float32)
    gallery = np.concatenate(
        [gallery, gallery[:200], gallery + np.float32(1e-4) * rng.normal(size=(400, 3, 340))]
    )
    memory = (SCHEMA.membership[:, :, None] * rng.normal(size=(VALUES, 3, 340))).astype(np.float32)
    reference, indicators = rng.integers(0, 400, 30), np.zeros((30, VALUES), int)
    indicators[np.arange(30), rng.integers(0, 2, 30)] = 1
    gallery = gallery.astype(np.float32)
    found = ManipulationIndex.build(gallery, memory, SCHEMA).search(
        reference_ids=reference, indicators=indicators, k=50
    )
    indices, distances = oracle(gallery, memory, gallery[reference], indicators, 50)
    np.testing.assert_allclose(found.distances, distances, rtol=2e-6, atol=1e-7)
    for ours, theirs, distance in zip(np.asarray(found.indices), indices, distances, strict=True):
        for rank in np.flatnonzero(ours != theirs):
            assert ours[rank] in theirs or distance[rank] > distance[-1] * (1 - 1e-6)
            other = distance[np.flatnonzero(theirs == ours[rank])]
            np.testing.assert_allclose(other, distance[rank], rtol=1e-6)


def test_a_memory_of_zeros_changes_nothing(rng):
    gallery, memory, reference, indicators = example(rng)
    for how in NORMALIZATIONS:
        check((gallery, 0 * memory, reference, indicators), K, how)


def test_bfloat16_features_are_searched_in_float32(rng):
    gallery, memory, reference, indicators = example(rng)
    gallery = jnp.asarray(gallery, jnp.bfloat16)
    found = ManipulationIndex.build(gallery, memory, SCHEMA).search(
        reference_ids=reference, indicators=indicators, k=K
    )
    assert found.distances.dtype == jnp.float32
    rows = np.asarray(gallery, np.float32)
    np.testing.assert_array_equal(found.indices, oracle(rows, memory, rows[reference], indicators, K)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "gallery's 90 rows, got 0"),
        ({"k": 91}, "gallery's 90 rows, got 91"),
        ({"k": 90, "exclude_reference": True}, "gallery's 89 rows besides the reference, got 90"),
        ({"reference_ids": np.array([0, 90])}, "between 0 and 89, got 90"),
        ({"reference_ids": np.array([-1, 0])}, "between 0 and 89, got -1"),
        ({"reference_ids": None}, "give reference_ids, or features"),
        ({"features": np.zeros((2, ATTRIBUTES, DIM), np.float32)}, "give reference_ids, or features"),
        ({"indicators": np.zeros((2, 5), int)}, r"need indicators \[2, 6\]"),
        ({"indicators": np.zeros((3, VALUES), int)}, r"2 queries need indicators \[2, 6\]"),
        (
            {"reference_ids": None, "features": np.zeros((2, 2, DIM), np.float32)},
            r"features must be \[\.\.\., 3, 4\], as the gallery's; got \(2, 2, 4\)",
        ),
    ],
)
def test_what_cannot_be_searched(built, unchecked, change, message):
    search = {"reference_ids": np.array([0, 1]), "indicators": np.zeros((2, VALUES), int), "k": 1}
    with pytest.raises(ValueError, match=message):
        built.search(**search | change)


def test_what_cannot_be_built(rng, unchecked):
    gallery, memory, _, _ = example(rng)
    with pytest.raises(ValueError, match="normalize must be one of"):
        ManipulationIndex.build(gallery, memory, SCHEMA, "rows")
    for features, prototypes in ((gallery[:0], memory), (gallery[:, :2], memory), (gallery, memory[:5])):
        with pytest.raises(ValueError, match=r"\[G, P, d\] with G > 0 and P >= 3, and memory"):
            ManipulationIndex.build(features, prototypes, SCHEMA)


@pytest.mark.long
@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("rows", [8, 90])
@pytest.mark.parametrize("size", [1e-25, 1e-18, 1e-9, 1e17, 1e25])
def test_features_of_any_size(rng, how, rows, size):
    """Without a normalisation, those alone whose squares are numbers."""
    gallery, memory, reference, indicators = example(rng, rows=rows)
    scaled = (gallery * np.float32(size)), (memory * np.float32(size))
    if how == "none" and size in (1e-25, 1e-18, 1e25):
        with pytest.raises(ValueError, match=r"none may be longer than 1\.8e\+19|longest must have 3\.3e-10"):
            ManipulationIndex.build(*scaled, SCHEMA, how)
        return
    found = ManipulationIndex.build(*scaled, SCHEMA, how).search(
        reference_ids=reference, indicators=indicators, k=K
    )
    indices, distances = oracle(*scaled, scaled[0][reference], indicators, K, how)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6 * size ** (how == "none"))


def of_length(length):
    """A gallery of two rows of which the longest has this length."""
    gallery = np.zeros((2, ATTRIBUTES, DIM), np.float32)
    gallery[:, 0, 0] = np.float32(length), np.float32(length) / 2
    return gallery


def test_the_limits_without_a_normalisation():
    memory = np.zeros((VALUES, ATTRIBUTES, DIM), np.float32)
    nothing = {"indicators": np.zeros((1, VALUES), int), "k": 2}
    least, most = np.float32(2**-31.5), np.float32(2**64 * (1 - 2**-24))
    for length in (least * np.float32(1 + 2**-20), most):
        index = ManipulationIndex.build(of_length(length), memory, SCHEMA, "none")
        found = index.search(reference_ids=np.array([1]), **nothing)
        assert found.indices.tolist() == [[1, 0]]
        np.testing.assert_allclose(found.distances[0, 1], length / 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"at most 3\.3e-10 long; .* must have 3\.3e-10: multiply features"):
        ManipulationIndex.build(of_length(least * np.float32(1 - 2**-20)), memory, SCHEMA, "none")
    with pytest.raises(ValueError, match=r"not finite in row 0 .* none may be longer than 1\.8e\+19"):
        ManipulationIndex.build(of_length(2.0**64), memory, SCHEMA, "none")
    zeros = ManipulationIndex.build(of_length(0), memory, SCHEMA, "none")
    assert zeros.search(reference_ids=np.array([1]), **nothing).indices.tolist() == [[0, 1]]


def test_a_memory_that_is_not_finite(rng):
    gallery, memory, _, _ = example(rng)
    memory[4, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"not finite in the prototype of value 4 \(1 such values of 6\)"):
        ManipulationIndex.build(gallery, memory, SCHEMA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 1.0}, "k must be a whole number, got 1.0"),
        ({"k": -1}, "gallery's 90 rows, got -1"),
        ({"reference_ids": np.array([0.0, 1.0])}, "reference_ids must be of an integer dtype, got float64"),
        ({"reference_ids": np.array([True, False])}, "reference_ids must be of an integer dtype, got bool"),
        ({"reference_ids": np.array([[0, 1]])}, r"reference_ids must be \[Q\], got \(1, 2\)"),
        ({"strength": np.nan}, "strength must be one finite number, or one of each query, got nan"),
        ({"strength": np.array([1.0, np.inf])}, "strength must be one finite number"),
        ({"strength": np.ones(3)}, "strength must be one finite number, or one of each query, got"),
        ({"indicators": np.array([[0.0] * 6, [np.inf] + [0.0] * 5])}, "not finite in row 1"),
        ({"strength": 1e38}, "manipulated features become longer than .*lower strength"),
    ],
)
def test_numbers_that_are_none(built, unchecked, change, message):
    search = {"reference_ids": np.array([0, 1]), "indicators": np.ones((2, VALUES), int), "k": K}
    with pytest.raises(ValueError, match=message):
        built.search(**search | change)


def test_k_may_be_a_number_of_numpys(rng, built, unchecked):
    *_, reference, indicators = example(rng)
    for exclude in (False, True):
        search = {"reference_ids": reference, "indicators": indicators, "exclude_reference": exclude}
        found = built.search(**search, k=np.int64(K - exclude))
        expected = built.search(**search, k=K - exclude)
        np.testing.assert_array_equal(found.indices, expected.indices)


@pytest.mark.long
def test_what_other_devices_do_finds_the_same(rng, as_on_a_gpu):
    """All in one test, because programs are compiled anew before and after it."""
    for how, soft in (("global", True), ("attribute", False), ("attribute", True), ("none", False)):
        gallery, memory, ids, indicators = example(rng, rows=300, soft=soft)
        index = ManipulationIndex.build(gallery, memory, SCHEMA, how)
        found = index.search(reference_ids=ids, indicators=indicators, k=K)
        expected, distances = oracle(gallery, memory, gallery[ids], indicators, K, how)
        np.testing.assert_array_equal(found.indices, expected)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=1e-6)
        one = index.session(int(ids[0])).search(indicators[:1], K)
        np.testing.assert_array_equal(one.indices, expected[:1])


def test_a_session_goes_on_from_a_neighbour_that_was_just_found(built):
    found = nearest_neighbors(
        np.zeros((1, 12), np.float32), np.asarray(built.products.rows).reshape(90, -1), 2
    )
    session = built.session(found.indices[0, 1])  # a number of JAX's
    nothing = np.zeros((1, VALUES), int)
    assert int(found.indices[0, 1]) not in np.asarray(
        session.search(nothing, 5, exclude_reference=True).indices
    )


@pytest.mark.parametrize(
    "trace",
    [
        lambda built: jax.jit(lambda rows: built.search(reference_ids=rows, indicators=ZEROS, k=1)),
        lambda built: jax.jit(lambda rows: built.search(features=rows, indicators=ZEROS, k=1)),
        lambda built: jax.jit(lambda rows: built.search(reference_ids=np.array([0]), indicators=rows, k=1)),
        lambda built: jax.jit(built.session),
        lambda built: jax.jit(lambda rows: built.session(0).search(rows, 1)),
        lambda built: jax.jit(lambda rows: ManipulationIndex.build(rows, built.prototypes, SCHEMA)),
    ],
)
def test_what_is_traced_is_refused_with_the_way_to_search_it(built, unchecked, trace):
    with pytest.raises(TypeError, match=r"outside of jax\.jit.* use manipulate.* and nearest_neighbors"):
        trace(built)(jnp.zeros((1, VALUES)))


def test_one_indicator_of_a_session_needs_an_axis_of_queries(built, unchecked):
    with pytest.raises(ValueError, match=r"indicators must be \[Q, J\], got \(6,\); of one query"):
        built.session(0).search(np.zeros(VALUES, int), 1)
    listed = built.session(0).search([[0] * VALUES], 1)
    assert listed.indices.tolist() == [[0]]


def test_features_whose_length_overflows_are_an_error(rng):
    """Their numbers were finite, so that they were taken for zero: every row was as far as every other."""
    gallery, memory, references, indicators = example(rng)
    gallery = gallery / np.abs(gallery).max() * np.float32(1e30)
    memory = memory / np.linalg.norm(memory, axis=(1, 2), keepdims=True) * np.float32(3e38)
    indicators = np.zeros_like(indicators)
    indicators[:, list(SCHEMA.offsets)] = 1  # a value of every attribute, each in a block of its own
    index = ManipulationIndex.build(gallery, memory, SCHEMA)
    with pytest.raises(ValueError, match=r"longer than 8\.5e\+37, which overflows"):
        index.search(reference_ids=references, indicators=indicators, k=K)


@pytest.mark.parametrize("normalize", ["global", "attribute"])
def test_features_whose_reciprocal_length_is_subnormal_are_an_error(rng, normalize):
    """Found by use: it was rounded to zero, and every row was as far as every other."""
    gallery, memory, references, indicators = example(rng)
    gallery, memory = (x / np.abs(x).max() * np.float32(9e37) for x in (gallery, memory))
    index = ManipulationIndex.build(gallery, memory, SCHEMA, normalize)
    with pytest.raises(ValueError, match=r"longer than 8\.5e\+37, which overflows"):
        index.search(reference_ids=references, indicators=indicators, k=K)
