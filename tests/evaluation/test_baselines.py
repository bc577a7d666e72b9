import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.erasure import fit_conditional_erasure, fit_erasure
from gradrev_jax.core.representations import erased_space, make_space
from gradrev_jax.core.spaces import Space
from gradrev_jax.data.queries import generate_queries
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation import baselines
from gradrev_jax.evaluation.baselines import BASELINES, BaselineInputs, search_baseline
from gradrev_jax.evaluation.choices import STRENGTHS
from gradrev_jax.evaluation.searching import Way
from gradrev_jax.runs.fields import protocol
from tests.encoded_images import SCHEMA, material

GALLERY = 40
MANY = AttributeSchema(("a", "b"), (tuple("stuvwxyz"), tuple("stuvwxyz")))  # more values than dimensions


def make_inputs(rng, *, schema=SCHEMA, k=10, exclude=False, held_out=30, missing="ignore", **queries):
    made = material(rng, schema, missing, gallery=GALLERY, held_out=held_out)
    return BaselineInputs(
        material=made,
        queries=generate_queries(made.gallery.labels, schema, **queries),
        held_out_queries=generate_queries(made.held_out.labels, schema, **queries),
        way=Way("global", "add", strength=1.5),
        k=k,
        exclude_query=exclude,
        progress=False,
    )


def slow_search(space, queries, way, strength, exclude, schema=SCHEMA, *, part="gallery"):
    """All rows of a part for each query, nearest first, in float64 and without any of our code."""
    rows = np.asarray(getattr(space, part), np.float64)
    memory, absent = np.asarray(space.memory, np.float64), np.asarray(space.absent, np.float64)

    def flat(features):
        if way.normalize == "attribute":
            features = features / np.linalg.norm(features, axis=-1, keepdims=True)
        scale = 1 if way.normalize == "none" else np.linalg.norm(features)
        return features.ravel() / scale

    compared = np.stack([flat(row) for row in rows])
    found = []
    for reference, indicator in zip(queries.reference.tolist(), queries.indicators.tolist(), strict=True):
        edited = rows[reference].copy()
        for n in range(schema.num_attributes):
            of_n = {v: sign for v, sign in enumerate(indicator) if sign and schema.attribute_of[v] == n}
            if way.edit == "replace" and of_n:
                edited[n] = 0 if 1 in of_n.values() else absent[n]
        for value, sign in enumerate(indicator):
            if sign > 0 or way.edit == "add":
                edited += strength * sign * memory[value]
        order = np.argsort(((compared - flat(edited)) ** 2).sum(axis=1), kind="stable").tolist()
        found.append([row for row in order if not (exclude and row == reference)])
    return np.array(found)


def slow_hit_rate(found, labels, targets, k):
    hits = [
        any(labels[row].tolist() == target.tolist() for row in rows[:k])
        for rows, target in zip(found, targets, strict=True)
    ]
    return sum(hits) / len(hits)


def assert_found(found, space, inputs, way, strength):
    queries, k = inputs.queries, inputs.k
    np.testing.assert_array_equal(
        found, slow_search(space, queries, way, strength, inputs.exclude_query, inputs.material.schema)[:, :k]
    )


def best_strength(space, inputs, way):
    """The first of the strengths that finds a match for most queries of the validation part."""
    queries, labels = inputs.held_out_queries, inputs.material.held_out.labels
    rates = []
    for strength in STRENGTHS:
        found = slow_search(space, queries, way, strength, inputs.exclude_query, part="held_out")
        rates.append(slow_hit_rate(found, labels, queries.targets, 10))
    assert len(set(rates)) > 1
    return STRENGTHS[rates.index(max(rates))]


def test_every_field_of_the_protocol_has_its_baseline_in_the_order_of_the_tables():
    assert tuple(BASELINES) == protocol.BASELINES


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("changes", [1, 2])
def test_the_oracle_finds_all_matches_first_and_then_the_images_that_miss_least(rng, exclude, changes):
    """Also what is not labelled is asked for, and is a label like any other."""
    inputs = make_inputs(
        rng, k=GALLERY - exclude, exclude=exclude, kinds=("swap", "add", "remove"), num_changes=changes
    )
    labels, queries = inputs.material.gallery.labels, inputs.queries
    assert (queries.targets == -1).any()
    found = search_baseline("oracle", inputs)
    assert found.shape == (len(queries), GALLERY - exclude)
    several = 0
    for query in range(len(queries)):
        wrong = [sum(labels[row] != queries.targets[query]) for row in found[query].tolist()]
        assert wrong[0] == 0
        assert wrong == sorted(wrong)
        several += wrong.count(0) > 1
        everything = set(range(GALLERY)) - ({queries.reference[query]} if exclude else set())
        assert set(found[query].tolist()) == everything
    assert several > 10


@pytest.mark.parametrize(("exclude", "held"), [(False, 2**27), (True, 1)])
def test_the_oracle_is_the_exact_search_with_one_hot_labels(rng, monkeypatch, exclude, held):
    """A block is a label, the last number of each that there is none; also a few rows at a time."""
    monkeypatch.setattr(baselines, "ORACLE_BYTES", held)
    inputs = make_inputs(rng, exclude=exclude, kinds=("swap", "add", "remove"), num_changes=2)
    sizes = np.array(SCHEMA.sizes)
    blocks = np.eye(sizes.max() + 1)
    labels = inputs.material.gallery.labels
    one_hot = blocks[np.where(labels < 0, sizes, labels)]
    memory = np.zeros((SCHEMA.num_values, 2, len(blocks)))
    for value, n in enumerate(SCHEMA.attribute_of):
        memory[value, n] = blocks[value - SCHEMA.offsets[n]]
    space = Space(one_hot, one_hot[:0], memory, blocks[sizes])
    assert_found(search_baseline("oracle", inputs), space, inputs, Way("none", "replace"), 1.0)


@pytest.mark.parametrize("missing", ["ignore", "value"])
def test_the_oracle_reads_nothing_but_labels(rng, missing):
    inputs = make_inputs(rng, missing=missing)
    made = inputs.material
    noise = made.gallery._replace(
        features=np.zeros_like(made.gallery.features),
        own_logits=np.zeros_like(made.gallery.own_logits),
        embeddings=np.zeros_like(made.gallery.embeddings),
    )
    blind = inputs._replace(material=made._replace(gallery=noise, memory=np.zeros_like(made.memory)))
    np.testing.assert_array_equal(search_baseline("oracle", blind), search_baseline("oracle", inputs))


@pytest.mark.parametrize(
    ("exclude", "k"), [(False, 3), (True, 3), (False, GALLERY), (True, GALLERY - 1), (True, 1)]
)
def test_random_rows_are_uniform_and_each_is_drawn_once(rng, exclude, k):
    inputs = make_inputs(rng, k=k, exclude=exclude)
    repeated = inputs._replace(queries=inputs.queries.take(np.zeros(8000, int)))
    reference = inputs.queries.reference[0]
    found = search_baseline("random", repeated)
    assert found.shape == (8000, k)
    assert all(len(set(row)) == k for row in found[:500].tolist())
    shares = np.stack([np.bincount(column, minlength=GALLERY) / 8000 for column in found.T], axis=1)
    expected = np.full(GALLERY, 1 / (GALLERY - exclude))
    if exclude:
        assert not (found == reference).any()
        expected[reference] = 0
    np.testing.assert_allclose(shares, np.tile(expected[:, None], k), atol=5 * np.sqrt(expected.max() / 8000))
    np.testing.assert_array_equal(found, search_baseline("random", repeated))


@pytest.mark.long
def test_the_backbone_compares_centred_outputs_and_ignores_edits(rng):
    inputs = make_inputs(rng, k=GALLERY)
    found = search_baseline("backbone", inputs)
    outputs = inputs.material.gallery.embeddings.astype(np.float64)
    mean = inputs.material.held_out.embeddings.astype(np.float64).mean(axis=0)
    rows = [(row - mean) / np.linalg.norm(row - mean) for row in outputs]
    for query, reference in enumerate(inputs.queries.reference.tolist()):
        distances = [np.linalg.norm(row - rows[reference]) for row in rows]
        assert found[query].tolist() == np.argsort(distances, kind="stable").tolist()
    assert len(set(inputs.queries.reference.tolist())) < len(found)


def test_a_backbone_whose_outputs_are_all_the_same_is_left_out(rng):
    inputs = make_inputs(rng)
    made = inputs.material
    dead = made._replace(
        gallery=made.gallery._replace(embeddings=np.zeros_like(made.gallery.embeddings)),
        held_out=made.held_out._replace(embeddings=np.zeros_like(made.held_out.embeddings)),
    )
    assert search_baseline("backbone", inputs._replace(material=dead)) is None


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("missing", ["ignore", "value"])
def test_posteriors_are_replaced_at_the_strength_that_serves_best(rng, missing, exclude):
    inputs = make_inputs(rng, missing=missing, exclude=exclude, held_out=60, kinds=("swap", "remove"))
    space, way = make_space("posterior", inputs.material), Way("none", "replace")
    found = search_baseline("posterior", inputs)
    assert_found(found, space, inputs, way, best_strength(space, inputs, way))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "fit"), [("erased", fit_erasure), ("erased_given_own", fit_conditional_erasure)]
)
def test_erased_features_are_searched_in_the_way_of_the_run(rng, name, fit):
    inputs = make_inputs(rng, held_out=150)._replace(way=Way("attribute", "add", strength=9.0))
    made = inputs.material
    space = erased_space(made, fit(made.held_out.features, made.held_out.labels, SCHEMA))
    assert np.abs(space.gallery - made.gallery.features).max() > 0.01
    assert_found(
        search_baseline(name, inputs), space, inputs, inputs.way, best_strength(space, inputs, inputs.way)
    )


@pytest.mark.long
def test_erasure_that_leaves_nothing_is_left_out(rng):
    """The other attribute's values outnumber the dimensions, so a mean is all that is left."""
    inputs = make_inputs(rng, schema=MANY, held_out=100)
    assert search_baseline("erased", inputs) is None
    assert search_baseline("erased_given_own", inputs) is not None


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
def test_without_validation_images_there_are_defaults(rng, exclude):
    inputs = make_inputs(rng, held_out=0, exclude=exclude)
    assert len(inputs.held_out_queries) == 0
    found = {name: search_baseline(name, inputs) for name in BASELINES}
    # They were the run's own results, under the name of what they were not.
    assert [name for name, rows in found.items() if rows is None] == ["erased", "erased_given_own"]
    assert all(rows.shape == (len(inputs.queries), 10) for rows in found.values() if rows is not None)
    posteriors = make_space("posterior", inputs.material)
    assert_found(found["posterior"], posteriors, inputs, Way("none", "replace"), 2.0)


@pytest.mark.parametrize("kind", [ValueError, DataError])
def test_only_what_cannot_be_compared_is_left_out(rng, monkeypatch, kind):
    def fail(inputs):
        raise kind("another error")

    monkeypatch.setitem(baselines.BASELINES, "oracle", fail)
    with pytest.raises(kind, match="another error"):
        search_baseline("oracle", make_inputs(rng))
