import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.normalization import NORMALIZATIONS, normalize_features, scale_weights
from gradrev_jax.core.replacement import EDITS
from gradrev_jax.search import item_products
from gradrev_jax.search.block_comparison import BlockComparison
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.item_search import ItemEdit, ItemGallery

SCHEMA = AttributeSchema(("color", "size", "logo"), (("blue", "green", "red"), ("s", "m"), ("no", "yes")))
N, J, WIDTH = 3, 7, 6
NOTHING = ItemEdit(np.zeros(J), np.zeros(N, bool), np.zeros(N, bool))


def as_edit(indicator, strength, edit):
    """What an indicator asks for, attribute by attribute."""
    if edit == "add":
        return ItemEdit(strength * indicator, np.zeros(N, bool), np.zeros(N, bool))
    of = [indicator[SCHEMA.attribute_of == n] for n in range(N)]
    replaced = np.array([bool(np.any(values != 0)) for values in of])
    emptied = np.array([bool(np.any(values != 0) and not np.any(values > 0)) for values in of])
    return ItemEdit(strength * np.maximum(indicator, 0), replaced, emptied)


def slow_search(gallery, item, edit, normalize, weights, k, allowed=None):
    """The k nearest of the allowed rows, one after the other."""
    edited = np.array(item.blocks, np.float64)
    for n in range(N):
        if edit.replaced[n]:
            edited[n] = 0
        if edit.emptied[n]:
            edited[n] = edited[n] + gallery.absent[n]
    for v in range(J):
        edited = edited + edit.factors[v] * np.asarray(gallery.memory[v], np.float64)

    def vector(blocks):
        weighted = [w * np.asarray(block, np.float64) for w, block in zip(weights, blocks, strict=True)]
        if normalize == "none":
            return np.concatenate(weighted)
        if normalize == "global":
            return np.concatenate(weighted) / np.linalg.norm(weighted)
        of_blocks = [w * b / np.linalg.norm(b) for w, b in zip(weights, np.float64(blocks), strict=True)]
        return np.concatenate(of_blocks) / len(blocks) ** 0.5

    query = vector(edited)
    found = []
    for row, blocks in enumerate(gallery.blocks):
        if allowed is None or allowed[row]:
            found.append((((vector(blocks) - query) ** 2).sum(), row))
    found.sort()
    return [row for _, row in found[:k]], [square**0.5 for square, _ in found[:k]]


def make(rng, normalize="global", weights=None, *, rest=0, count=60, dense=True):
    blocks = rng.normal(size=(count, N + rest, WIDTH)).astype(np.float32)
    memory = rng.normal(size=(J, N + rest, WIDTH)).astype(np.float32)
    if not dense:
        memory *= np.eye(N, N + rest)[SCHEMA.attribute_of][:, :, None].astype(np.float32)
    absent = rng.normal(size=(N, WIDTH)).astype(np.float32)
    return ItemGallery.build(blocks, memory, absent, normalize, weights)


def draw_indicator(rng):
    indicator = np.zeros(J)
    for n in range(N):
        values = np.flatnonzero(SCHEMA.attribute_of == n)
        old, new = rng.permutation(values)[:2]
        what = rng.integers(4)
        if what in (1, 2):
            indicator[old] = -1
        if what in (2, 3):
            indicator[new] = 1
    return indicator


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_it_finds_what_a_slow_search_finds(rng, normalize, edit, weighted):
    weights = scale_weights([2.0, 1.0, 0.5], N) if weighted else None
    gallery = make(rng, normalize, weights)
    for _ in range(20):
        asked = as_edit(draw_indicator(rng), rng.uniform(0.2, 2), edit)
        item = gallery.products(gallery.blocks[rng.integers(60)])
        found = gallery.search(item, asked, k=9)
        rows, distances = slow_search(
            gallery, item, asked, normalize, np.ones(N) if weights is None else weights, 9
        )
        assert found.rows.tolist() == rows
        np.testing.assert_allclose(found.distances, distances, rtol=1e-12, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_it_finds_what_the_index_finds(rng, normalize, edit):
    gallery = make(rng, normalize, count=500)
    absent = gallery.absent if edit == "replace" else None
    index = ManipulationIndex.build(
        gallery.blocks, gallery.memory, SCHEMA, normalize, edit=edit, absent=absent
    )
    indicators = np.stack([draw_indicator(rng) for _ in range(50)])
    references = rng.integers(500, size=50)
    expected = index.search(reference_ids=references, indicators=indicators, k=20, strength=1.5)
    for q in range(50):
        item = gallery.products(gallery.blocks[references[q]])
        found = gallery.search(item, as_edit(indicators[q], 1.5, edit), k=20)
        assert found.rows.tolist() == expected.indices[q].tolist()
        np.testing.assert_allclose(found.distances, expected.distances[q], atol=2e-6)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("normalize", ["global", "none"])
def test_the_rest_is_weighed_when_asked(rng, normalize, factor):
    gallery = make(rng, normalize, rest=2, dense=False)
    item = gallery.products(gallery.blocks[3])
    asked = as_edit(draw_indicator(rng), 1.0, "replace")
    found = gallery.search(item, asked, k=10, rest=factor)
    rows, distances = slow_search(gallery, item, asked, normalize, [1, 1, 1, factor, factor], 10)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12, atol=1e-9)


def test_without_a_rest_none_is_weighed(rng):
    gallery = make(rng)
    with pytest.raises(ValueError, match="every block belongs to an attribute"):
        gallery.search(gallery.products(gallery.blocks[0]), NOTHING, k=1, rest=2.0)


def test_only_allowed_rows_are_found(rng):
    gallery = make(rng)
    item = gallery.products(gallery.blocks[3])
    allowed = rng.random(60) < 0.3
    found = gallery.search(item, NOTHING, k=10, allowed=allowed)
    assert found.rows.tolist() == slow_search(gallery, item, NOTHING, "global", np.ones(N), 10, allowed)[0]
    everything = gallery.search(item, NOTHING, k=1000, allowed=allowed)
    assert sorted(everything.rows) == np.flatnonzero(allowed).tolist()
    assert not len(gallery.search(item, NOTHING, k=5, allowed=np.zeros(60, bool)).rows)


def test_equally_near_rows_come_in_ascending_order(rng):
    gallery = make(rng, count=12)
    same = np.concatenate([gallery.blocks[[1, 0]]] * 600)  # more than are compared at once
    gallery = ItemGallery.build(same, gallery.memory, gallery.absent)
    found = gallery.search(gallery.products(same[0]), NOTHING, k=650)
    assert found.rows.tolist() == [*range(0, 1200, 2), *range(1, 100, 2)]


def test_rows_that_float32_cannot_tell_apart_are_in_the_right_order(rng):
    """The products of the rows differ by less than their rounding errors."""
    gallery = make(rng, "none", count=1)
    near = gallery.blocks.astype(np.float64) + np.linspace(0, 1e-5, 200)[:, None, None]
    blocks = rng.permutation(near).astype(np.float32)
    gallery = ItemGallery.build(100 + blocks, gallery.memory, gallery.absent, "none")
    item = gallery.products(gallery.blocks[7])
    assert (
        gallery.search(item, NOTHING, k=50).rows.tolist()
        == slow_search(gallery, item, NOTHING, "none", np.ones(N), 50)[0]
    )


@pytest.mark.long
def test_a_zero_item_and_zero_rows_have_distances(rng):
    for normalize in NORMALIZATIONS:
        gallery = make(rng, normalize, count=5)
        blocks = gallery.blocks.copy()
        blocks[2] = 0
        gallery = ItemGallery.build(blocks, gallery.memory, gallery.absent, normalize)
        found = gallery.search(gallery.products(blocks[2]), NOTHING, k=5)
        assert found.rows[0] == 2
        assert found.distances[0] == 0
        expected = np.linalg.norm(np.asarray(normalize_features(blocks, normalize)), axis=1)
        np.testing.assert_allclose(np.sort(found.distances), np.sort(expected), rtol=1e-6)


def test_a_prototype_has_the_products_of_its_own_block_alone(rng):
    """Those of a real gallery, of all blocks of all values, would not fit what is kept."""
    gallery = make(rng, dense=False)
    for v in range(J):
        own = gallery.products(gallery.memory[v])
        assert own.groups.tolist() == [SCHEMA.attribute_of[v]]
        expected = gallery.blocks[:, own.groups[0]] @ gallery.memory[v, own.groups[0]]
        np.testing.assert_allclose(own.products[0], expected, rtol=1e-5)
    nothing = gallery.products(np.zeros_like(gallery.memory[0]))
    assert nothing.products.shape == (0, len(gallery.blocks))


def test_what_replaces_a_removed_value_is_multiplied_once(rng, monkeypatch):
    gallery = make(rng, dense=False)
    item, multiplied, products = gallery.products(gallery.blocks[0]), [], ItemGallery.products
    monkeypatch.setattr(ItemGallery, "products", lambda *given: multiplied.append(1) or products(*given))
    removed = NOTHING._replace(replaced=np.eye(N, dtype=bool)[1], emptied=np.eye(N, dtype=bool)[1])
    first, again = (gallery.search(item, removed, k=5) for _ in range(2))
    assert first.rows.tolist() == again.rows.tolist()
    assert len(multiplied) == 1


def test_products_are_kept_up_to_their_bytes(rng, monkeypatch):
    gallery = make(rng, dense=False)
    whole, small = gallery.products(gallery.blocks[0]), gallery.products(gallery.memory[0])
    assert whole.products.nbytes > small.products.nbytes
    monkeypatch.setattr(item_products, "KEPT_BYTES", whole.products.nbytes + small.products.nbytes)
    kept, made = item_products.recent_products(), []
    for key, found in (("whole", whole), (0, small), (1, small), (2, small), ("whole", whole), (2, small)):
        kept.get_or_make(key, lambda key, found=found: made.append(key) or found)
    assert made == ["whole", 0, 1, 2, "whole"]


def test_products_larger_than_all_that_is_kept_stay_alone(rng, monkeypatch):
    gallery = make(rng)
    whole = gallery.products(gallery.blocks[0])
    monkeypatch.setattr(item_products, "KEPT_BYTES", whole.products.nbytes // 2)
    kept, made = item_products.recent_products(), []
    for key in (0, 0, 1, 1):
        kept.get_or_make(key, lambda key: made.append(key) or whole)
    assert made == [0, 1]


@pytest.mark.parametrize(
    ("k", "factor", "rest", "message"),
    [
        (0, 0.0, 1.0, "k must be at least 1, got 0"),
        (1, np.nan, 1.0, "the factors of an edit must be finite"),
        (1, 0.0, np.inf, "the factor of the rest must be finite, got inf"),
    ],
)
def test_what_cannot_be_asked_is_refused(rng, k, factor, rest, message):
    gallery = make(rng, rest=1)
    asked = NOTHING._replace(factors=np.full(J, factor))
    with pytest.raises(ValueError, match=message):
        gallery.search(gallery.products(gallery.blocks[0]), asked, k=k, rest=rest)


def test_blocks_are_weighed_in_groups():
    comparison = BlockComparison.of_blocks(5, 3, "none", np.array([1.0, 2.0, 3.0, 4.0, 4.0]))
    assert comparison.weights.tolist() == [1, 2, 3, 4]
    assert comparison.with_rest(0.5).weights.tolist() == [1, 2, 3, 2]
    assert BlockComparison.of_blocks(5, 3, "attribute", None).weights.tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("exponent", [-75, 66])
def test_the_size_of_features_changes_no_result(rng, normalize, exponent):
    """Found by use: products of float32 overflowed and underflowed, and rows were lost without a word."""
    made = make(rng, normalize)
    scaled = [np.ldexp(x, exponent) for x in (made.blocks, made.memory, made.absent)]
    other = ItemGallery.build(*scaled, normalize)
    edit = as_edit(draw_indicator(rng), 1.0, "add")
    found = [gallery.search(gallery.products(gallery.blocks[0]), edit, 5) for gallery in (made, other)]
    assert found[0].rows.tolist() == found[1].rows.tolist()
