import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.indicators import check_indicators
from gradrev_jax.data import queries as module
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.errors import DataError

SCHEMA = AttributeSchema(("a", "b", "c"), (("0", "1", "2"), ("0", "1"), ("0", "1", "2", "3")))


def random_labels(count, seed):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(-1, size, count) for size in SCHEMA.sizes], axis=1).astype(np.int32)


def slow_queries(labels):
    """Tries every image, attribute and value."""
    existing = {tuple(row) for row in labels.tolist()}
    queries = []
    for image, row in enumerate(labels.tolist()):
        for n, size in enumerate(SCHEMA.sizes):
            for value in range(size):
                target = (*row[:n], value, *row[n + 1 :])
                if value != row[n] and target in existing:
                    indicator = [0] * SCHEMA.num_values
                    indicator[SCHEMA.offsets[n] + value] = 1
                    if row[n] >= 0:
                        indicator[SCHEMA.offsets[n] + row[n]] = -1
                    queries.append((image, n, target, tuple(indicator)))
    return queries


def as_tuples(queries):
    return [
        (int(reference), int(n), tuple(target), tuple(indicator))
        for reference, n, target, indicator in zip(
            queries.reference,
            queries.changed.argmax(axis=1),
            queries.targets.tolist(),
            queries.indicators.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize("seed", range(20))
def test_against_trying_everything(seed):
    labels = random_labels(np.random.default_rng(seed).integers(1, 60), seed)
    queries = generate_queries(labels, SCHEMA)
    assert as_tuples(queries) == slow_queries(labels)
    check_indicators(queries.indicators, SCHEMA)


def test_add_only_queries_remove_nothing():
    queries = generate_queries(np.array([[0, -1, 0], [0, 1, 0]]), SCHEMA)
    assert len(queries) == 1, "from labelled to not labelled there is no query"
    assert queries.reference.tolist() == [0]
    assert queries.indicators.sum() == 1
    assert queries.indicators.min() == 0


def test_one_attribute_is_enough():
    schema = AttributeSchema(("a",), (("0", "1"),))
    assert generate_queries(np.array([[0], [1], [-1]]), schema).reference.tolist() == [0, 1, 2, 2]


def test_choice_of_references_is_seeded_and_keeps_all_their_queries():
    labels = random_labels(60, 0)
    everything = as_tuples(generate_queries(labels, SCHEMA))
    chosen = generate_queries(labels, SCHEMA, num_references=7, seed=3)
    references = set(chosen.reference.tolist())
    assert len(references) == 7
    assert as_tuples(chosen) == [query for query in everything if query[0] in references]
    assert as_tuples(generate_queries(labels, SCHEMA, num_references=7, seed=3)) == as_tuples(chosen)
    assert as_tuples(generate_queries(labels, SCHEMA, num_references=7, seed=4)) != as_tuples(chosen)
    assert len(generate_queries(labels, SCHEMA, num_references=1000)) == len(everything)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        generate_queries(labels, SCHEMA, num_references=0)


def test_a_gallery_may_allow_no_query():
    queries = generate_queries(np.array([[0, 0, 0], [1, 1, 1]]), SCHEMA)
    assert len(queries) == 0
    assert queries.targets.shape == (0, 3)
    assert len(generate_queries(np.zeros((0, 3), int), SCHEMA)) == 0


def test_one_kind_is_a_collection_of_one(unchecked):
    with pytest.raises(ValueError, match="kinds must be a collection of names, got the string 'swap'"):
        generate_queries(np.array([[0, 0, 0], [1, 0, 0]]), SCHEMA, kinds="swap")


def test_more_queries_than_fit_in_memory_are_refused_before_they_are_made(monkeypatch):
    """A table with a column of 2,000 brands ended in an allocation of 96 GiB."""
    labels = random_labels(60, 0)
    number = len(generate_queries(labels, SCHEMA))
    references = len(set(generate_queries(labels, SCHEMA).reference.tolist()))
    monkeypatch.setattr(module, "LARGEST_QUERIES", 60 * (number - 1))
    with pytest.raises(
        DataError, match=rf"^{number} queries of {references} reference images, with 9 values"
    ):
        generate_queries(labels, SCHEMA)
    assert 0 < len(generate_queries(labels, SCHEMA, num_references=references - 1)) < number


def test_the_memory_that_queries_need_is_that_of_their_arrays():
    """Beside them are the labels before the change, and two more numbers of rows."""
    queries = generate_queries(random_labels(60, 0), SCHEMA)
    arrays = [queries.reference, queries.indicators, queries.targets, queries.changed]
    besides = len(queries) * (2 * 8 + 3 * 4)
    assert sum(array.nbytes for array in arrays) + besides == 60 * len(queries)
