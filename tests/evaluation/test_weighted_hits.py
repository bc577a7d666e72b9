import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.metrics import hit_rate
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.core.spaces import Prototypes
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.evaluation import weighted_hits
from gradrev_jax.evaluation.searching import HeldOut, Way
from gradrev_jax.evaluation.weighted_hits import WeightedHits
from gradrev_jax.search.gallery import make_index, retrieve

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))


def held_out(rng, exclude_query=False, rows=70):
    labels = rng.integers(-1, (3, 2), (rows, 2)).astype(np.int32)
    features = rng.normal(size=(rows, 2, 4)) * rng.uniform(0.3, 3, (rows, 2, 1))
    memory = rng.normal(size=(5, 2, 4)).astype(np.float32)  # no block is zero, as after fine-tuning
    queries = generate_queries(labels, SCHEMA)
    prototypes = Prototypes(memory, np.zeros((2, 4), np.float32))
    return HeldOut(features.astype(np.float32), prototypes, labels, queries, SCHEMA, exclude_query)


@pytest.mark.long
@pytest.mark.parametrize("chunk", [256, 50])
@pytest.mark.parametrize("exclude_query", [False, True])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_counts_are_those_of_searches(rng, monkeypatch, normalize, exclude_query, chunk):
    monkeypatch.setattr(weighted_hits, "CHUNK", chunk)
    data = held_out(rng, exclude_query)
    weights = rng.uniform(0.1, 4, (5, 2))
    found = WeightedHits.of(data, Way(normalize, "add", 1.3), 6).count(weights)
    for count, weight in zip(found, weights, strict=True):
        index = make_index(data.images, data.prototypes.memory, normalize, weight)
        asked = data.queries.reference, data.queries.indicators, 6
        rows = retrieve(index, *asked, strength=1.3, exclude_query=exclude_query, progress=False)
        expected = float(hit_rate(data.labels[rows], data.queries.targets, 6)) * len(data.queries)
        assert count == pytest.approx(expected)
    assert len(set(found.tolist())) > 1, "the weights make a difference"


@pytest.mark.long
@pytest.mark.parametrize("rest", [0, 3])
@pytest.mark.parametrize("has_absent", [False, True])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_counts_with_blocks_replaced_and_a_rest_are_those_of_searches(rng, normalize, has_absent, rest):
    """All blocks of the rest, three or none, have one weight; the third query only removes a value."""
    data = held_out(rng)
    queries, prototypes = data.queries, data.prototypes
    queries.indicators[2] = -(queries.indicators[2] != 0).astype(np.int8)
    others = rng.normal(size=(len(data.labels), rest, 4)).astype(np.float32)
    memory = np.concatenate([prototypes.memory, np.zeros((5, rest, 4), np.float32)], axis=1)
    absent = rng.normal(size=(2, 4)).astype(np.float32) if has_absent else prototypes.absent
    edit = {"edit": "replace", "attribute_of": SCHEMA.attribute_of, "absent": absent}
    features = np.concatenate([data.images, others], axis=1)
    data = data._replace(images=features, prototypes=Prototypes(memory, absent))
    weights = rng.uniform(0.1, 4, (4, data.num_weights))
    assert data.num_weights == (3 if rest else 2)
    found = WeightedHits.of(data, Way(normalize, "replace", 1.3), 6).count(weights)
    for count, weight in zip(found, weights, strict=True):
        blocks = data.weights_of_blocks(weight)
        assert blocks.tolist() == [*weight[:2], *[weight[-1]] * rest]
        index = make_index(features, memory, normalize, blocks, **edit)
        asked = queries.reference, queries.indicators, 6
        rows = retrieve(index, *asked, strength=1.3, progress=False)
        expected = float(hit_rate(data.labels[rows], queries.targets, 6)) * len(queries)
        assert count == pytest.approx(expected)
    assert len(set(found.tolist())) > 1, "the weights make a difference"


@pytest.mark.parametrize("size", [1e-15, 1e15])
@pytest.mark.parametrize("normalize", ["global", "attribute"])
def test_features_of_any_size_give_the_same_counts(rng, normalize, size):
    data = held_out(rng)
    scaled = data._replace(
        images=data.images * np.float32(size),
        prototypes=Prototypes(*(part * np.float32(size) for part in data.prototypes)),
    )
    weights, way = rng.uniform(0.1, 4, (3, 2)), Way(normalize, "add")
    found, expected = (WeightedHits.of(each, way, 6).count(weights) for each in (scaled, data))
    np.testing.assert_allclose(found, expected, atol=1)


def test_an_image_that_is_left_out_is_no_match(rng):
    """The query itself has the labels asked for only if nothing changes."""
    data, way = held_out(rng), Way("global", "add")
    labels = np.arange(70)[:, None] * [1, 0]
    same = Queries(np.arange(70), np.zeros((70, 5), np.int8), labels.astype(np.int32), np.ones((70, 2), bool))
    data = data._replace(labels=labels.astype(np.int32), queries=same)
    ones = np.ones((1, 2))
    assert WeightedHits.of(data, way, 1).count(ones).tolist() == [70]
    assert WeightedHits.of(data._replace(exclude_query=True), way, 69).count(ones).tolist() == [0]
