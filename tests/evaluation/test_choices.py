import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation import choices
from gradrev_jax.evaluation.choices import choose_strength, choose_weights
from gradrev_jax.evaluation.weighted_hits import HeldOut

SCHEMA = AttributeSchema(("color",), (("blue", "red"),))
TWO = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m", "l")))
COLORS = np.array([[0], [0], [0], [1], [1], [1]])


def colors(labels=COLORS):
    """A held-out part whose prototypes hold half of what lies between the colours."""
    features = np.array([0.0, 0.1, 0.2, 2.0, 2.1, 2.2], np.float32).reshape(6, 1, 1)[: len(labels)]
    memory = np.array([-0.5, 0.5], np.float32).reshape(2, 1, 1)
    return HeldOut(features, labels, memory, generate_queries(labels, SCHEMA), "none")


def test_the_strength_that_finds_most_is_chosen():
    strength, rates = choose_strength(colors(), candidates=(0.25, 2.0, 3.0), progress=False)
    assert strength == 2.0
    assert rates == {"0.25": 0.0, "2": 1.0, "3": 1.0}


def test_without_a_query_there_is_nothing_to_choose_by():
    nothing = colors(np.array([[0], [0]]))
    with pytest.raises(DataError, match="protocol.strength=validation has no query"):
        choose_strength(nothing, progress=False)
    with pytest.raises(DataError, match="protocol.weights=validation has no query"):
        choose_weights(nothing, strength=1.0, progress=False)


def planted(noise, normalize, rows=150):
    """Features of two attributes: their labels, and noise of another size for each."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (rows, 2)).astype(np.int32)
    centres = rng.normal(size=(2, 3, 8))
    features = np.stack([centres[n][labels[:, n]] for n in range(2)], axis=1)
    features = (features + np.array(noise)[:, None] * rng.normal(size=features.shape)).astype(np.float32)
    memory = np.asarray(class_prototypes(features, labels, TWO))
    return HeldOut(features, labels, memory, generate_queries(labels, TWO), normalize, True)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_an_attribute_whose_feature_is_mostly_noise_loses_its_weight(normalize):
    """Labels of three colours are seen; of the sizes, next to nothing is."""
    weights, rates = choose_weights(planted([0.2, 6], normalize), strength=2.0, progress=False)
    assert weights[1] < weights[0] / 3
    np.testing.assert_allclose(np.square(weights).mean(), 1)
    assert rates["chosen"] > rates["equal"]


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_weights_stay_equal_where_no_others_find_more(normalize):
    weights, rates = choose_weights(planted([0.05, 0.05], normalize), strength=1.0, progress=False)
    assert weights.tolist() == [1, 1]
    assert rates["equal"] == 1


@pytest.mark.parametrize("normalize", ["global", "none"])
def test_a_rest_that_is_noise_loses_its_weight_as_one(normalize):
    held_out = planted([0.2, 0.2], normalize)
    noise = 5 * np.random.default_rng(1).normal(size=(150, 12, 8)).astype(np.float32)
    features = np.concatenate([held_out.features, noise], axis=1)
    memory = np.pad(held_out.memory, ((0, 0), (0, 12), (0, 0)))
    edit = {"edit": "replace", "attribute_of": TWO.attribute_of}
    hybrid = held_out._replace(features=features, memory=memory, **edit)
    weights, rates = choose_weights(hybrid, strength=1.0, progress=False)
    assert (weights[2:] == weights[2]).all()
    assert weights[2] < min(weights[:2]) / 3
    np.testing.assert_allclose(np.square(weights).mean(), 1)
    assert rates["chosen"] > rates["equal"]
    _, by_strength = choose_strength(hybrid, weights=weights, candidates=(1.0,), progress=False)
    assert by_strength["1"] == rates["chosen"]


def test_the_choice_is_the_same_every_time():
    held_out = planted([1, 2], "global")
    first, second = (choose_weights(held_out, strength=1.5, progress=False) for _ in range(2))
    assert first.value.tolist() == second.value.tolist()
    assert first.hit_rates == second.hit_rates


def test_weights_that_only_serve_the_drawn_queries_are_not_taken(monkeypatch):
    """What is best for one query need not be so for all of them."""
    monkeypatch.setattr(choices, "_ascend", lambda hits, weights, progress: np.array([1e-3, 1.0]))
    weights, rates = choose_weights(planted([0.2, 6], "global"), strength=1.0, progress=False)
    assert weights.tolist() == [1, 1]
    assert rates["chosen"] < rates["equal"]


def test_weights_change_the_strength_that_is_chosen_by():
    """With the size left out, the strength is that of the colour alone."""
    held_out = planted([0.2, 6], "global")
    _, equal = choose_strength(held_out, candidates=(1.0,), progress=False)
    _, weighted = choose_strength(held_out, weights=np.array([1.4, 0.2]), candidates=(1.0,), progress=False)
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
