"""One search at several strengths finds what a search at each of them does."""

import jax
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.search.gallery import retrieve
from gradrev_jax.search.learned_edit_index import LearnedEditIndex
from gradrev_jax.search.sharded_index import ShardedIndex

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
RNG = np.random.default_rng(0)
GALLERY = RNG.normal(size=(60, 2, 4)).astype(np.float32)
MEMORY = RNG.normal(size=(5, 2, 4)).astype(np.float32)
ABSENT = RNG.normal(size=(2, 4)).astype(np.float32)
REFERENCES = RNG.integers(0, 60, 14)
INDICATORS = RNG.integers(-1, 2, (14, 5)).astype(np.int8)
INDICATORS[3] = 0  # asks for nothing
STRENGTHS = (0.0, 0.5, 1.0, 3.0, -1.0)
INDICES = {
    "add": lambda: ManipulationIndex.build(GALLERY, MEMORY, SCHEMA),
    "replace": lambda: ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, edit="replace", absent=ABSENT),
    "shards": lambda: ShardedIndex.build(GALLERY, MEMORY, SCHEMA, devices=jax.devices()[:1] * 2),
    "learned": lambda: LearnedEditIndex.build(
        GALLERY, LearnedEdit(lambda factor, f, i: f * (1 + factor * i.sum(axis=1)[:, None, None]) + 1, 0.3)
    ),
}


@pytest.fixture(scope="module", params=INDICES)
def index(request):
    return INDICES[request.param]()


def test_a_strength_of_each_query(index):
    strengths = np.resize(STRENGTHS, len(REFERENCES))
    asked = {"reference_ids": REFERENCES, "indicators": INDICATORS, "k": 9}
    found = index.search(**asked, strength=strengths)
    for strength in STRENGTHS:
        expected = index.search(**asked, strength=strength)
        mine = strengths == strength
        np.testing.assert_array_equal(found.indices[mine], expected.indices[mine])
        np.testing.assert_array_equal(found.distances[mine], expected.distances[mine])


def test_strengths_stay_with_their_queries_whatever_the_order_of_references(monkeypatch):
    monkeypatch.setattr("gradrev_jax.search.gallery.MAX_REFERENCES", 4)
    index = INDICES["add"]()
    strengths = np.resize(STRENGTHS, len(REFERENCES))
    found = retrieve(index, REFERENCES, INDICATORS, 9, strength=strengths, progress=False)
    expected = index.search(reference_ids=REFERENCES, indicators=INDICATORS, k=9, strength=strengths)
    np.testing.assert_array_equal(found, expected.indices)
