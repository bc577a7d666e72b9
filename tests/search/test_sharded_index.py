import jax
import numpy as np
import pytest

from gradrev_jax import AttributeSchema, ManipulationIndex
from gradrev_jax.search.sharded_index import ShardedIndex

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
RNG = np.random.default_rng(0)
GALLERY = RNG.normal(size=(48, 2, 4)).astype(np.float32)
GALLERY[[7, 21, 40]] = GALLERY[33]  # ties over all shards
MEMORY = RNG.normal(size=(5, 2, 4)).astype(np.float32)
REFERENCES = np.array([33, 33, 0, 47, 21])
INDICATORS = np.array(
    [[0, 0, 0, 0, 0], [-1, 1, 0, 0, 0], [0, 0, 0, 1, -1], [-1, 0, 1, -1, 1], [0, 0, 0, 0, 0]]
)


def brute_force(normalize, strength):
    """Squared distances in float64, [Q, G]."""

    def normal(x):
        x = x.astype(np.float64)
        if normalize == "none":
            return x.reshape(len(x), -1)
        axes = (-1,) if normalize == "attribute" else (-2, -1)
        return (x / np.sqrt(np.square(x).sum(axis=axes, keepdims=True))).reshape(len(x), -1)

    edited = GALLERY[REFERENCES] + strength * np.einsum("qj,jnd->qnd", INDICATORS, MEMORY)
    return np.square(normal(edited)[:, None] - normal(GALLERY)[None]).sum(axis=-1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("normalize", "count"), [("global", 1), ("global", 3), ("attribute", 3), ("none", 5)]
)
def test_shards_find_what_one_index_finds(normalize, count):
    """One device holds all shards, of equal sizes (3 shards) or of different ones (5)."""
    sharded = ShardedIndex.build(GALLERY, MEMORY, SCHEMA, normalize, devices=jax.devices()[:1] * count)
    assert [len(shard.features) for shard in sharded.shards] == [
        len(p) for p in np.array_split(GALLERY, count)
    ]
    index = ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, normalize)
    queries = {"reference_ids": REFERENCES, "indicators": INDICATORS}
    for k, settings in ((9, {}), (47, {"exclude_reference": True}), (48, {"strength": 0.5})):
        found = sharded.search(**queries, k=k, **settings)
        expected = index.search(**queries, k=k, **settings)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)
    squares = brute_force(normalize, 0.5)
    in_order = np.take_along_axis(squares, np.asarray(found.indices), axis=1)
    np.testing.assert_allclose(in_order, np.sort(squares, axis=1), atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("normalize", ["global", "attribute", "none"])
def test_shards_with_weights_find_what_one_index_finds(normalize):
    weights = [0.4, 3]
    index = ManipulationIndex.build(GALLERY, MEMORY, SCHEMA, normalize, weights)
    devices = jax.devices()[:1] * 3
    sharded = ShardedIndex.build(GALLERY, MEMORY, SCHEMA, normalize, devices=devices, weights=weights)
    queries = {"reference_ids": REFERENCES, "indicators": INDICATORS, "k": 9}
    found, expected = sharded.search(**queries), index.search(**queries)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)


def test_more_devices_than_rows_and_arguments_that_are_refused():
    small = ShardedIndex.build(GALLERY[:2], MEMORY, SCHEMA, devices=jax.devices()[:1] * 5)
    assert len(small.shards) == 2
    query = {"reference_ids": np.array([1]), "indicators": INDICATORS[:1]}
    assert small.search(**query, k=2).indices.tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="k must lie between 1 and the gallery's 2 rows, got 3"):
        small.search(**query, k=3)
    with pytest.raises(ValueError, match="reference_ids must lie between 0 and 1"):
        small.search(reference_ids=np.array([2]), indicators=INDICATORS[:1], k=1)


@pytest.mark.parametrize("seed", [1, 9])
def test_equal_rows_stand_in_their_order_where_only_one_shard_is_certain_of_them(seed):
    """A plain search added up in another order, so that equal rows of two shards came apart."""
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(160, 2, 170)).astype(np.float32)
    alike = [*range(1, 70), *range(80, 85)]  # more in the first shard than are measured one by one
    gallery[alike] = gallery[1]
    memory = 0.3 * rng.normal(size=(5, 2, 170)).astype(np.float32)
    sharded = ShardedIndex.build(gallery, memory, SCHEMA, devices=jax.devices()[:1] * 2)
    found = sharded.search(reference_ids=np.array([1]), indicators=INDICATORS[1:2], k=12)
    assert found.indices[0].tolist() == alike[:12]
    assert len(np.unique(np.asarray(found.distances))) == 1


def test_shards_are_checked_as_one_gallery():
    """Found by use: rows that are small beside those of another shard were refused, and rows misnumbered."""
    devices, gallery = jax.devices()[:1] * 4, GALLERY.copy()
    gallery[36:] *= np.float32(1e-12)
    sharded = ShardedIndex.build(gallery, MEMORY, SCHEMA, "none", devices=devices)
    whole = ManipulationIndex.build(gallery, MEMORY, SCHEMA, "none")
    asked = {"reference_ids": REFERENCES, "indicators": INDICATORS, "k": 5}
    np.testing.assert_array_equal(sharded.search(**asked).indices, whole.search(**asked).indices)
    gallery[33] = 0
    with pytest.raises(ValueError, match=r"zero in row 33, .*\(1 such rows of 48\)"):
        ShardedIndex.build(gallery, MEMORY, SCHEMA, "global", devices=devices)
