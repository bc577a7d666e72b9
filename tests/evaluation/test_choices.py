import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.core.replacement import EDITS
from gradrev_jax.core.representations import make_space
from gradrev_jax.core.spaces import Prototypes, Space
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation import choices
from gradrev_jax.evaluation.choices import STRENGTHS, choose_strength, choose_weights, make_choices
from gradrev_jax.evaluation.searching import HeldOut, Way
from gradrev_jax.search.products import NotComparableError
from tests.encoded_images import material, opened, slow_hit_rate

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))
TWO = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m", "l")))
PLAIN = Way("none", "add")
COLORS = np.array([[0], [0], [0], [1], [1], [1]])


def colors(labels=COLORS):
    """A held-out part whose prototypes hold half of what lies between the colours."""
    features = np.array([0.0, 0.1, 0.2, 2.0, 2.1, 2.2], np.float32).reshape(6, 1, 1)[: len(labels)]
    memory = np.array([-0.5, 0.5], np.float32).reshape(2, 1, 1)
    return held_out_of(features, labels, memory, SCHEMA)


def held_out_of(features, labels, memory, schema, *, exclude_query=False):
    absent = np.zeros((schema.num_attributes, features.shape[2]), np.float32)
    queries = generate_queries(labels, schema)
    return HeldOut(features, Prototypes(memory, absent), labels, queries, schema, exclude_query)


def test_the_strength_that_finds_most_is_chosen():
    way, rates = choose_strength(colors(), PLAIN, candidates=(0.25, 2.0, 3.0), progress=False)
    assert way == PLAIN._replace(strength=2.0)
    assert rates == {"0.25": 0.0, "2": 1.0, "3": 1.0}


def test_without_a_query_there_is_nothing_to_choose_by():
    nothing = colors(np.array([[0], [0]]))
    with pytest.raises(DataError, match="protocol.strength=validation has no query"):
        choose_strength(nothing, PLAIN, progress=False)
    with pytest.raises(DataError, match="protocol.weights=validation has no query"):
        choose_weights(nothing, PLAIN, progress=False)


def planted(noise, rows=150):
    """Features of two attributes: their labels, and noise of another size for each."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (rows, 2)).astype(np.int32)
    centres = rng.normal(size=(2, 3, 8))
    features = np.stack([centres[n][labels[:, n]] for n in range(2)], axis=1)
    features = (features + np.array(noise)[:, None] * rng.normal(size=features.shape)).astype(np.float32)
    memory = np.asarray(class_prototypes(features, labels, TWO))
    return held_out_of(features, labels, memory, TWO, exclude_query=True)


@pytest.mark.long
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_an_attribute_whose_feature_is_mostly_noise_loses_its_weight(normalize):
    """Labels of three colours are seen; of the sizes, next to nothing is."""
    way, rates = choose_weights(planted([0.2, 6]), Way(normalize, "add", 2.0), progress=False)
    weights = way.weights
    assert weights[1] < weights[0] / 3
    np.testing.assert_allclose(np.square(weights).mean(), 1)
    assert rates["chosen"] > rates["equal"]


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_weights_stay_equal_where_no_others_find_more(normalize):
    way, rates = choose_weights(planted([0.05, 0.05]), Way(normalize, "add"), progress=False)
    assert way.weights.tolist() == [1, 1]
    assert rates["equal"] == 1


@pytest.mark.long
@pytest.mark.parametrize("normalize", ["global", "none"])
def test_a_rest_that_is_noise_loses_its_weight_as_one(normalize):
    held_out = planted([0.2, 0.2])
    noise = 5 * np.random.default_rng(1).normal(size=(150, 12, 8)).astype(np.float32)
    features = np.concatenate([held_out.images, noise], axis=1)
    memory = np.pad(held_out.prototypes.memory, ((0, 0), (0, 12), (0, 0)))
    hybrid = held_out._replace(images=features, prototypes=held_out.prototypes._replace(memory=memory))
    way, rates = choose_weights(hybrid, Way(normalize, "replace"), progress=False)
    weights = way.weights
    assert (weights[2:] == weights[2]).all()
    assert weights[2] < min(weights[:2]) / 3
    np.testing.assert_allclose(np.square(weights).mean(), 1)
    assert rates["chosen"] > rates["equal"]
    _, by_strength = choose_strength(hybrid, way, candidates=(1.0,), progress=False)
    assert by_strength["1"] == rates["chosen"]


def test_the_choice_is_the_same_every_time():
    held_out = planted([1, 2])
    first, second = (choose_weights(held_out, Way("global", "add", 1.5), progress=False) for _ in range(2))
    assert first.way.weights.tolist() == second.way.weights.tolist()
    assert first.hit_rates == second.hit_rates


def test_weights_that_only_serve_the_drawn_queries_are_not_taken(monkeypatch):
    """What is best for one query need not be so for all of them."""
    monkeypatch.setattr(choices, "_ascend", lambda hits, weights, progress: np.array([1e-3, 1.0]))
    way, rates = choose_weights(planted([0.2, 6]), Way("global", "add"), progress=False)
    assert way.weights.tolist() == [1, 1]
    assert rates["chosen"] < rates["equal"]


def test_weights_change_the_strength_that_is_chosen_by():
    """With the size left out, the strength is that of the colour alone."""
    held_out, way = planted([0.2, 6]), Way("global", "add")
    _, equal = choose_strength(held_out, way, candidates=(1.0,), progress=False)
    way = way._replace(weights=np.array([1.4, 0.2]))
    _, weighted = choose_strength(held_out, way, candidates=(1.0,), progress=False)
    assert weighted["1"] > equal["1"]


def test_the_queries_of_some_images_are_drawn(monkeypatch):
    reference = np.repeat(np.arange(600), 3)
    zeros = np.zeros((1800, 2), int)
    queries = Queries(reference, zeros.astype(np.int8), zeros.astype(np.int32), zeros > 0)
    drawn = choices._draw(queries, 600, 2)
    assert (len(drawn), len(np.unique(drawn.reference))) == (1500, 500)
    monkeypatch.setattr(choices, "PRODUCT_BYTES", 4 * 600 * 2 * 700)
    fewer = choices._draw(queries, 600, 2)
    assert len(fewer) == 700
    assert len(np.unique(fewer.reference)) > 450, "spread over the images"
    monkeypatch.setattr(choices, "PRODUCT_BYTES", 0)
    assert len(choices._draw(queries, 600, 2)) == 1


def choose(space, labels, **fields):
    return make_choices(opened(labels, **fields), space, progress=False)


@pytest.fixture
def encoded(rng):
    """Features of two attributes of unlike sizes, and the labels of the validation images."""
    made = material(rng, held_out=40)
    space = make_space("features", made)
    sizes = np.array([3.0, 0.5], np.float32)[:, None]
    return Space(*(np.asarray(part) * sizes for part in space)), made.held_out.labels


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
def test_all_normalisations_are_tried_with_all_edits_and_the_best_is_taken(encoded, exclude):
    space, labels = encoded
    open_fields = {"normalize": "validation", "edit": "validation", "exclude_query": exclude}
    made = choose(space, labels, **open_fields)
    tables = {
        (normalize, edit): [
            slow_hit_rate(space, labels, normalize, edit, strength, exclude=exclude) for strength in STRENGTHS
        ]
        for normalize in NORMALIZATIONS
        for edit in EDITS
    }
    expected = {", ".join(way): max(rates) for way, rates in tables.items()}
    assert made.ways_tried == pytest.approx(expected)
    assert len(set(expected.values())) > 2
    best = max(tables, key=lambda way: max(tables[way]))
    assert (made.way.normalize, made.way.edit) == best
    assert list(made.strengths_tried.values()) == pytest.approx(tables[best])
    assert made.way.strength == STRENGTHS[tables[best].index(max(tables[best]))]
    assert made.way.weights is None


@pytest.mark.parametrize(
    ("field", "value", "tried"),
    [
        ("normalize", "attribute", ["attribute, add", "attribute, replace"]),
        ("edit", "replace", ["global, replace", "attribute, replace", "none, replace"]),
    ],
)
def test_only_what_is_left_open_is_tried(encoded, field, value, tried):
    fields = {"normalize": "validation", "edit": "validation", "strength": "2", field: value}
    made = choose(*encoded, **fields)
    assert list(made.ways_tried) == tried
    assert getattr(made.way, field) == value


def test_what_is_given_is_kept_and_nothing_is_looked_at(encoded):
    space, labels = encoded
    fields = {"normalize": "none", "edit": "replace", "strength": "0.123456789", "weights": "color=3"}
    made = choose(space, labels[:0], **fields)
    assert made.way[:3] == ("none", "replace", 0.123456789)
    np.testing.assert_allclose(made.way.weights, np.array([3, 1]) / np.sqrt(5))
    assert made[1:] == ({}, {}, {})
    made = choose(space, labels, **{**fields, "edit": "validation", "strength": "0"})
    assert (made.way.strength, made.strengths_tried) == (0.0, {})
    for edit in EDITS:
        expected = slow_hit_rate(space, labels, "none", edit, 0.0, weights=(3, 1))
        assert made.ways_tried[f"none, {edit}"] == pytest.approx(expected)
    exact = choose(space, labels, **{**fields, "edit": "validation"})
    assert exact.way.strength == 0.123456789


@pytest.mark.long
def test_a_representation_with_a_normalisation_of_its_own_keeps_it(rng):
    made = material(rng, held_out=40)
    space = make_space("posterior", made)
    fields = {"representation": "posterior", "edit": "validation"}
    for normalize in ("global", "validation"):
        found = choose(space, made.held_out.labels, normalize=normalize, **fields)
        assert found.way.normalize == "none"
        assert list(found.ways_tried) == ["none, add", "none, replace"]


def test_weights_that_are_given_leave_the_rest_as_it_is(rng):
    made = material(rng, held_out=40)
    space = make_space("hybrid", made)
    fields = {"representation": "hybrid", "edit": "replace", "strength": "1"}
    found = choose(space, made.held_out.labels, weights="1,7", **fields)
    np.testing.assert_allclose(found.way.weights, [*(np.array([1, 7]) / 5), 1, 1, 1])
    assert choose(space, made.held_out.labels, **fields).way.weights is None


@pytest.mark.long
def test_weights_are_chosen_in_the_best_way_and_then_the_strength_again(encoded):
    space, labels = encoded
    fields = {"normalize": "validation", "edit": "validation", "weights": "validation"}
    made, equal = choose(space, labels, **fields), choose(space, labels, **{**fields, "weights": "none"})
    assert made.ways_tried == equal.ways_tried
    assert made.way[:2] == equal.way[:2]
    assert made.weights_tried["equal"] == max(equal.ways_tried.values())
    assert made.weights_tried["chosen"] > made.weights_tried["equal"]
    weights = made.way.weights
    rates = [slow_hit_rate(space, labels, *made.way[:2], each, weights=weights) for each in STRENGTHS]
    assert list(made.strengths_tried.values()) == pytest.approx(rates)
    assert made.way.strength == STRENGTHS[rates.index(max(rates))]


@pytest.mark.long
def test_weights_are_chosen_with_one_for_the_rest(rng):
    made = material(rng, held_out=40, look=3.0)
    space = make_space("hybrid", made)
    fields = {"representation": "hybrid", "edit": "replace", "strength": "1", "weights": "validation"}
    found = choose(space, made.held_out.labels, **fields)
    assert found.way.weights.shape == (5,)
    assert len(set(found.way.weights[2:])) == 1
    assert found.way.weights[2] < min(found.way.weights[:2])
    assert (found.way.strength, found.strengths_tried) == (1.0, {})


def test_a_normalisation_that_some_vector_cannot_have_is_left_out(encoded):
    """As of an attribute with one value, whose discriminants are zero."""
    space, labels = encoded
    held_out = np.array(space.held_out)
    held_out[3, 1] = 0
    space = space._replace(held_out=held_out)
    open_fields = {"normalize": "validation", "edit": "validation"}
    made = choose(space, labels, **open_fields)
    assert {name.partition(",")[0] for name in made.ways_tried} == {"global", "none"}
    assert made.way.normalize in ("global", "none")
    with pytest.raises(NotComparableError, match="features are zero for an attribute in row 3"):
        choose(space, labels, normalize="attribute", edit="validation")
    spoilt = space._replace(held_out=np.full_like(held_out, np.nan))
    with pytest.raises(NotComparableError, match="not finite"):
        choose(spoilt, labels, **open_fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "strength"),
        ({"normalize": "validation", "strength": "1"}, "normalize"),
        ({"edit": "validation", "strength": "1"}, "edit"),
        (
            {"representation": "posterior", "normalize": "validation", "edit": "validation", "strength": "1"},
            "edit",  # posteriors have a normalisation of their own
        ),
        ({"weights": "validation", "strength": "1"}, "weights"),
    ],
)
def test_the_field_that_has_nothing_to_be_chosen_by_is_named(encoded, fields, named):
    space, labels = encoded
    with pytest.raises(DataError, match=f"protocol.{named}=validation has no query to choose by"):
        choose(space, labels[:0], **fields)
