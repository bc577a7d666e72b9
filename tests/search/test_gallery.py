import numpy as np
import pytest

from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.data.queries import Queries
from gradrev_jax.evaluation.scores import retrieval_metrics
from gradrev_jax.search.gallery import make_index, retrieve
from gradrev_jax.search.products import NotComparableError

VALUES, ATTRIBUTES, DIM = 6, 3, 4
K = 7  # most tests ask for as many of as many rows, and so share their programs
PARTS = {"ndcg": "all", "ndcg_target": "target", "ndcg_others": "others"}


def example(rng, rows=30, queries=19):
    """Gallery, memory, references and indicators; norms of rows and blocks differ widely."""
    gallery = rng.normal(size=(rows, ATTRIBUTES, DIM)) * rng.uniform(0.2, 5, (rows, ATTRIBUTES, 1))
    memory = 2 * rng.normal(size=(VALUES, ATTRIBUTES, DIM))
    reference = rng.integers(0, rows, queries)
    indicators = rng.integers(-1, 2, (queries, VALUES), dtype=np.int8)
    return gallery.astype(np.float32), memory.astype(np.float32), reference, indicators


def unit(vector):
    length = sum(x * x for x in vector) ** 0.5
    return [x / length for x in vector]


def flat(blocks, how):
    if how == "attribute":
        return [x / len(blocks) ** 0.5 for block in blocks for x in unit(block)]
    vector = [x for block in blocks for x in block]
    return unit(vector) if how == "global" else vector


def slow_retrieve(gallery, memory, reference, indicators, k, normalize="global", exclude_query=False):
    """Every query, value and row in its turn, in float64; normalised last."""
    gallery, memory = gallery.astype(np.float64), memory.astype(np.float64)
    rows = [flat(row, normalize) for row in gallery]
    found = []
    for index, indicator in zip(reference, indicators, strict=True):
        edited = gallery[index].copy()
        for value, sign in enumerate(indicator):
            edited += float(sign) * memory[value]
        query = flat(edited, normalize)
        distance = [sum((a - b) ** 2 for a, b in zip(query, row, strict=True)) for row in rows]
        order = [r for r in range(len(rows)) if not (exclude_query and r == index)]
        found.append(sorted(order, key=distance.__getitem__)[:k])
    return found


def search(gallery, memory, reference, indicators, k, normalize="global", exclude_query=False):
    index = make_index(gallery, memory, normalize)
    return retrieve(index, reference, indicators, k, exclude_query=exclude_query, progress=False)


def check(arguments, k, **settings):
    found = search(*arguments, k, **settings)
    assert found.tolist() == slow_retrieve(*arguments, k, **settings)


@pytest.mark.long
@pytest.mark.parametrize("exclude_query", [False, True])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_equals_the_oracle(rng, normalize, exclude_query):
    check(example(rng), K - exclude_query, normalize=normalize, exclude_query=exclude_query)


def test_the_normalisations_are_told_apart_by_the_example(rng):
    arguments = example(rng)
    orders = [str(slow_retrieve(*arguments, K, how)) for how in NORMALIZATIONS]
    assert len(set(orders)) == len(NORMALIZATIONS)


@pytest.mark.parametrize("exclude_query", [False, True])
def test_without_a_change_the_nearest_is_the_reference_unless_it_is_left_out(rng, exclude_query):
    gallery, memory, reference, indicators = example(rng)
    arguments = gallery, memory, reference, np.zeros_like(indicators)
    check(arguments, K - exclude_query, exclude_query=exclude_query)
    found = search(*arguments, K - exclude_query, exclude_query=exclude_query)
    assert (found[:, 0] == reference).all() != exclude_query
    assert (found == reference[:, None]).any() != exclude_query


def test_only_the_reference_itself_is_left_out_and_not_its_duplicates(rng):
    gallery, memory, _, _ = example(rng, rows=8)
    gallery = np.concatenate([gallery] * 3)
    reference = np.arange(24)
    unchanged = np.zeros((24, VALUES), np.int8)
    found = search(gallery, memory, reference, unchanged, 2, exclude_query=True)
    assert found.tolist() == [[r for r in (i % 8, i % 8 + 8, i % 8 + 16) if r != i] for i in range(24)]
    # More copies than neighbours wanted: the reference may not be among the first k + 1 at all.
    found = search(gallery, memory, reference, unchanged, 1, exclude_query=True)
    assert found.tolist() == [[i % 8 + 8 if i < 8 else i % 8] for i in range(24)]


@pytest.mark.long
@pytest.mark.parametrize("exclude_query", [False, True])
@pytest.mark.parametrize("queries", [1, 8, 16, 19])
def test_more_references_than_are_searched_at_once(rng, monkeypatch, queries, exclude_query):
    monkeypatch.setattr("gradrev_jax.search.gallery.MAX_REFERENCES", 3)
    check(example(rng, queries=queries), K - exclude_query, exclude_query=exclude_query)


def test_the_whole_gallery_can_be_asked_for(rng):
    arguments = example(rng, rows=9)
    check(arguments, 9)
    check(arguments, 8, exclude_query=True)


def test_no_queries(rng):
    assert search(*example(rng, queries=0), K).shape == (0, K)


@pytest.mark.parametrize(("k", "exclude_query"), [(10, False), (0, False), (9, True)])
def test_k_beyond_the_gallery_is_an_error(rng, k, exclude_query):
    with pytest.raises(ValueError, match=f"gallery's {9 - exclude_query} rows"):
        search(*example(rng, rows=9), k, exclude_query=exclude_query)


@pytest.mark.parametrize(("bad", "message"), [(0, "zero in row 7"), (np.nan, "not finite in row 7")])
def test_features_of_an_encoder_that_learned_nothing(rng, bad, message):
    gallery, memory, _, _ = example(rng)
    gallery[7] = bad
    with pytest.raises(NotComparableError, match=f"{message}.*1 such rows of 30"):
        make_index(gallery, memory)


def slow_metrics(neighbor_labels, queries, k):
    """All five, by name, with Python's numbers alone."""
    values = {name: [] for name in ("hit_rate", "precision", *PARTS)}
    for query, target in enumerate(queries.targets.tolist()):
        changed = queries.changed[query].tolist()
        right = [
            [a == b for a, b in zip(row, target, strict=True)] for row in neighbor_labels[query, :k].tolist()
        ]
        matches = sum(all(row) for row in right)
        values["hit_rate"].append(float(matches > 0))
        values["precision"].append(matches / k)
        ideal = sum(1 / np.log(rank + 2) for rank in range(k))
        for name, part in PARTS.items():
            gained = 0.0
            for rank, row in enumerate(right):
                counted = {
                    "all": row,
                    "target": [right for right, change in zip(row, changed, strict=True) if change],
                    "others": [right for right, change in zip(row, changed, strict=True) if not change],
                }[part]
                relevance = sum(counted) / len(counted) if counted else 1
                gained += (2**relevance - 1) / np.log(rank + 2)
            values[name].append(gained / ideal)
    return {name: sum(each) / len(each) for name, each in values.items()}


def test_all_metrics_at_all_cut_offs_against_loops(rng):
    count, depth, ks = 50, 8, (1, 2, 5, 8)
    some = rng.random((count, ATTRIBUTES)) < 0.3  # one change, several, or all at once
    queries = Queries(
        reference=np.zeros(count, int),
        indicators=np.zeros((count, VALUES), np.int8),
        targets=rng.integers(-1, 2, (count, ATTRIBUTES)),
        changed=some | np.eye(ATTRIBUTES, dtype=bool)[rng.integers(0, ATTRIBUTES, count)],
    )
    neighbors = rng.integers(-1, 2, (count, depth, ATTRIBUTES))
    found = retrieval_metrics(neighbors, queries, ks)
    assert set(found) == {"hit_rate", "precision", *PARTS}
    for k in ks:
        for name, expected in slow_metrics(neighbors, queries, k).items():
            assert 0 < expected < 1
            assert found[name][str(k)] == pytest.approx(expected, abs=1e-12), (name, k)
    assert {tuple(by_k) for by_k in found.values()} == {("1", "2", "5", "8")}
    assert {type(value) for by_k in found.values() for value in by_k.values()} == {float}


def test_metrics_of_no_queries_are_an_error():
    empty = np.zeros(0, int)
    none = np.zeros((0, ATTRIBUTES), int)
    queries = Queries(empty, np.zeros((0, VALUES), np.int8), none, none.astype(bool))
    with pytest.raises(ValueError, match="no queries"):
        retrieval_metrics(np.zeros((0, 4, ATTRIBUTES), int), queries, (1,))
